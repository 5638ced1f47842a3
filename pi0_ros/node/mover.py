"""The only place that publishes trajectories: gate open and limits kept, or nothing goes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pi0_ros.node.limits import JointLimits
from pi0_ros.node.motion import Motion
from pi0_ros.node.observe import ObservationBuffer
from pi0_ros.node.refusal import Refusal
from pi0_ros.node.safety import Bands, Plan, check_finite, plan, stop
from pi0_ros.node.trajectory import trajectory_message
from pi0_ros.policy.types import ActionChunk

if TYPE_CHECKING:
    from pi0_ros.node.node import Pi0Node


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
        return plan(
            chunk,
            limits.scaled(p.velocity_scale, p.acceleration_scale),
            Bands(p.max_jump, p.clamp_position, p.clamp_velocity, p.clamp_acceleration),
            measured,
            self._running if self._node.gate.enabled else None,
            now,
            p.trajectory_start,
            p.blend,
        )

    def _publish(self, planned: Plan, now: int) -> None:
        joints = self._node.parameters.joint_names
        self._node.trajectories.publish(trajectory_message(planned.trajectory, joints))
        self._running, self._published_at = planned.motion, now
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
        self._publish(stop(limits, measured, running, now, p.trajectory_start), now)
        self._stopping = True
        node.counts.stops += 1
        node.log_throttled("stop", f"slowing down to a stop: {reason}")
