"""The only place that publishes trajectories: gate open and limits kept, or nothing goes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from pi0_ros.motion.limits import JointLimits
from pi0_ros.motion.planner import Bands, Plan, check_finite, plan, stop
from pi0_ros.motion.spline import Motion
from pi0_ros.motion.trajectory import trajectory_message
from pi0_ros.node.observation import ObservationBuffer
from pi0_ros.node.refusal import Measured, Refusal
from pi0_ros.policy.types import ActionChunk

if TYPE_CHECKING:
    from pi0_ros.node.node import Pi0Node


HISTORY = 2_000_000_000
"""Nanoseconds of what ran that are remembered: an observation is younger than that."""

NEAR = 0.05
"""Radians by which a joint that stands may be off what was published (friction, gravity)."""

LAG = 250_000_000
"""Nanoseconds by which a joint that moves may be behind what was published."""

ACQUAINTANCE = 1_000_000_000
"""Nanoseconds of joint states before a joint may be behind at all: the controllers of a robot that
came (back) just now may not have heard yet what was published, and to start into the midst of it
would be a jump."""


class Mover:
    """Remembers the running trajectory, replaces it by new ones and stops it.

    Without limits it publishes nothing: the node cannot be enabled then.
    """

    def __init__(self, node: Pi0Node, buffer: ObservationBuffer) -> None:
        self._node = node
        self._buffer = buffer
        self._running: Motion | None = None
        self._published_at = 0  # nanoseconds of the node's clock
        self._stopping = False  # what runs is a stop

    def forget(self) -> None:
        """The clock jumped: what was published lies in another time."""
        self._running = None

    def move(self, chunk: ActionChunk) -> bool:
        """Bring a chunk within the limits and publish it; True unless this is a dry run.

        In a dry run with limits the chunk is judged all the same.

        Raises:
            Refusal: nonfinite, limits, expired; or stale, for want of a joint state to start from.
        """
        node, now = self._node, self._node.now()
        try:
            check_finite(chunk, node.parameters.joint_names)
            if node.limits is None:
                return False
            planned = self._plan(chunk, now, node.limits)
        except Refusal as refusal:
            if refusal.reason in ("nonfinite", "limits"):
                self._reject(refusal)
            raise
        node.gate.passed()
        node.counts.clamped.update(planned.clamped)
        if not node.gate.enabled:
            return False
        self._publish(planned, now)
        node.counts.trajectories += 1
        return True

    def _plan(self, chunk: ActionChunk, now: int, limits: JointLimits) -> Plan:
        p = self._node.parameters
        measured = self._buffer.measured(now)
        if measured is None:
            age = f"{p.joint_states_max_age:g} s"
            raise Refusal("stale", f"no joint state younger than {age} to start from")
        running = None
        if self._node.gate.enabled:
            # What the arm did not follow is no past of what comes: it is forgotten.
            running = self._running = self._followed(measured, now)
        return plan(
            chunk,
            limits.scaled(p.velocity_scale, p.acceleration_scale),
            Bands(p.max_jump, p.clamp_position, p.clamp_velocity, p.clamp_acceleration),
            measured,
            running,
            now,
            p.trajectory_start,
            p.blend,
        )

    def _followed(self, measured: Measured, now: int) -> Motion | None:
        """What runs, as far as the arm follows it; None if nothing does any more.

        A joint that is elsewhere (moved by hand, restarted, on a slope) stands where it is: going
        on from where it should be would make it jump.
        """
        running = self._running
        if running is None or now >= running.end:
            return None
        off = np.abs(running.sample(measured.stamp)[0] - measured.positions)
        return running.standing(off > self._leeway(running, measured), measured.positions)

    def _leeway(self, running: Motion, measured: Measured) -> np.ndarray:
        """[joints] radians that a joint may be off what ran when it was measured."""
        stamp = measured.stamp
        lag = LAG if stamp - measured.since >= ACQUAINTANCE else 0
        times = np.linspace(stamp - lag, stamp, 11).astype(np.int64)
        speed = np.abs(running.sample_all(times)[1]).max(axis=0)
        return np.minimum(NEAR + speed * lag / 1e9, self._node.parameters.max_jump)

    def _publish(self, planned: Plan, now: int) -> None:
        joints = self._node.parameters.joint_names
        self._node.trajectories.publish(trajectory_message(planned.trajectory, joints))
        self._running = planned.motion.after(self._running, HISTORY)
        self._published_at = now
        self._stopping = False

    def _reject(self, refusal: Refusal) -> None:
        self._node.counts.rejected += 1
        if self._node.gate.rejected(self._node.parameters.reject_latch, refusal.detail):
            self.halt(self._node.gate.latched)

    def watch(self) -> None:
        """Look after the deadman and after a trajectory that nothing follows."""
        node = self._node
        if node.gate.check_deadman(time.monotonic()):
            self.halt(node.gate.latched)
        silence = (node.now() - self._published_at) / 1e9
        if silence > node.parameters.starve_timeout:
            self._stop(f"no new trajectory for {silence:.2f} s")

    def halt(self, reason: str) -> None:
        """The gate closed: stop what still runs."""
        self._node.controls.gate_changed(f"disabled: {reason}")
        self._stop(reason)

    def _stop(self, reason: str) -> None:
        """Publish a decelerating stop, unless what was published is at its end or is a stop."""
        node, now, running = self._node, self._node.now(), self._running
        if running is None or node.limits is None or self._stopping or now >= running.end:
            return
        p = node.parameters
        limits = node.limits.scaled(p.velocity_scale, p.acceleration_scale)
        measured = self._buffer.measured(now)
        near = np.inf if measured is None else self._leeway(running, measured)
        self._publish(stop(limits, measured, running, now, p.trajectory_start, near), now)
        self._stopping = True
        node.counts.stops += 1
        node.log_throttled("stop", f"slowing down to a stop: {reason}")
