"""From chunks to the trajectories that a controller executes; pure: no ROS, no node, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from pi0_ros.motion.enable import MotionEnable
from pi0_ros.motion.limits import JointLimits
from pi0_ros.motion.planner import Plan, plan, stop
from pi0_ros.motion.refusal import REJECTIONS, Measured, Reason, Refusal
from pi0_ros.motion.screening import Tolerances, check_finite
from pi0_ros.motion.spline import Motion
from pi0_ros.policy.types import ActionChunk

HISTORY = 2_000_000_000
"""Nanoseconds of executed trajectory that are remembered: an observation is younger than that."""

NEAR = 0.05
"""Radians by which a joint at rest may be off its setpoint (friction, gravity)."""

LAG = 250_000_000
"""Nanoseconds by which a moving joint may lag behind its setpoint."""

ACQUAINTANCE = 1_000_000_000
"""Nanoseconds of joint states before a joint may lag at all: the controllers of a robot that came
(back) just now may not have received the executing trajectory, and to start into the midst of it
would be a jump."""


@dataclass(frozen=True)
class MotionSettings:
    """How chunks become trajectories; the node's parameters of the same names say more.

    Attributes:
        velocity_scale, acceleration_scale: shares of the joints' limits, above 0.
        max_jump, clamp_position, clamp_velocity, clamp_acceleration: see `screening.Tolerances`.
        reject_latch: rejected chunks in a row that latch a fault.
        blend: seconds in which a new trajectory departs from the executing one.
        starve_timeout: seconds without a new trajectory after which the arm is stopped.
        trajectory_start: "observation" or "now"; see `planner.plan`.
    """

    velocity_scale: float
    acceleration_scale: float
    max_jump: float
    clamp_position: float
    clamp_velocity: float
    clamp_acceleration: float
    reject_latch: int
    blend: float
    starve_timeout: float
    trajectory_start: str

    @classmethod
    def of(cls, source: Any) -> MotionSettings:
        """The attributes of the same names of another object, such as the node's parameters."""
        return cls(**{field.name: getattr(source, field.name) for field in fields(cls)})

    @property
    def tolerances(self) -> Tolerances:
        """What may be clamped."""
        return Tolerances(
            self.max_jump, self.clamp_position, self.clamp_velocity, self.clamp_acceleration
        )


class Executor:
    """Knows the executing trajectory, splices new chunks into it, and stops it.

    The caller owns the clock, the measured joint states and the publisher. It calls `update` with
    each chunk of the policy, `tick` every 20 ms and whenever motion may have been disabled (also
    after an `update` that returned a Refusal: it may have latched), and publishes the `trajectory`
    of each Plan that it gets, if there is one, before it calls again:

        settings = MotionSettings.of(parameters)
        enable = MotionEnable()
        executor = Executor(joints, limits, settings, enable)
        enable.enable(0.0)
        result = executor.update(chunk, measured, now)
        if isinstance(result, Refusal):
            result = executor.tick(measured, now)
        if result is not None and result.trajectory is not None:
            publish(result.trajectory)

    Attributes:
        enable: without it nothing is published: chunks are judged only (a dry run).
    """

    def __init__(
        self,
        joints: Sequence[str],
        limits: JointLimits | None,
        settings: MotionSettings,
        enable: MotionEnable,
    ) -> None:
        """`limits`: of `joints`, unscaled; None: nothing is planned, and no plan has a trajectory.

        Args:
            joints: names, in the order of the chunks' columns.
        """
        self.enable = enable
        self._joints = tuple(joints)
        self._limits = limits
        self.settings = settings
        self._rejections = 0
        self.reset()

    @property
    def settings(self) -> MotionSettings:
        """May be replaced at any time."""
        return self._settings

    @settings.setter
    def settings(self, settings: MotionSettings) -> None:
        self._settings = settings
        self._scaled: JointLimits | None = None
        if self._limits is not None:
            self._scaled = self._limits.scaled(settings.velocity_scale, settings.acceleration_scale)

    def reset(self) -> None:
        """Forget the executing trajectory: the clock jumped, so it lies in another time."""
        self._executing: Motion | None = None
        self._published_at = 0
        self._stopping = False

    def update(self, chunk: ActionChunk, measured: Measured | None, now: int) -> Plan | Refusal:
        """Bring a chunk within the limits and splice it into the executing trajectory.

        Args:
            measured: the newest joint state; None if there is none that is fresh.
            now: nanoseconds of the clock that the chunk's and the joint states' stamps are of.

        Returns:
            A Plan, whose trajectory is None in a dry run; or a Refusal: nonfinite, limits,
            expired, malformed (the joint state), or stale (no joint state).
        """
        try:
            check_finite(chunk, self._joints)
            if self._scaled is None:
                return Plan(None, None)
            planned = self._plan(chunk, measured, now)
        except Refusal as refusal:
            if refusal.reason in REJECTIONS:
                self._reject(refusal)
            return refusal
        self._rejections = 0
        if not self.enable.enabled:
            return replace(planned, trajectory=None)
        return self._execute(planned, now)

    def tick(self, measured: Measured | None, now: int) -> Plan | None:
        """Stop the executing trajectory where motion was disabled or no chunk follows.

        Args:
            measured, now: see `update`.

        Returns:
            A decelerating stop; None if nothing moves, or is stopping already.
        """
        executing = self._executing
        if executing is None or self._stopping or now >= executing.end:
            return None
        silence = (now - self._published_at) / 1e9
        if not self.enable.enabled:
            cause = self.enable.cause
        elif silence > self.settings.starve_timeout:
            cause = f"no new trajectory for {silence:.2f} s"
        else:
            return None
        near = np.inf if measured is None else self._leeway(executing, measured)
        start = self.settings.trajectory_start
        planned = stop(self._scaled, measured, executing, now, start, near)
        self._execute(planned, now)
        self._stopping = True
        return replace(planned, stop_cause=cause)

    def begin_episode(self) -> None:
        """Rejected chunks of before count no longer; what executes goes on."""
        self._rejections = 0

    def _reject(self, refusal: Refusal) -> None:
        """Latch after `reject_latch` rejected chunks in a row; no arm depends on a dry run's."""
        if not self.enable.enabled:
            return
        self._rejections += 1
        if self._rejections >= self.settings.reject_latch:
            count, self._rejections = self._rejections, 0
            self.enable.latch(f"{count} rejected chunks in a row, the last: {refusal.detail}")

    def _plan(self, chunk: ActionChunk, measured: Measured | None, now: int) -> Plan:
        if measured is None:
            raise Refusal(Reason.STALE, "no fresh joint state to start from")
        executing = None
        if self.enable.enabled:
            # Where the arm did not follow, the trajectory does not hold: it is forgotten.
            executing = self._executing = self._followed(measured, now)
        settings = self.settings
        return plan(
            chunk,
            self._scaled,
            settings.tolerances,
            measured,
            executing,
            now,
            settings.trajectory_start,
            settings.blend,
        )

    def _followed(self, measured: Measured, now: int) -> Motion | None:
        """The executing trajectory, as far as the arm follows it; None if it is over.

        A joint that is elsewhere (moved by hand, restarted, on a slope) stands where it is: going
        on from where it should be would make it jump.
        """
        executing = self._executing
        if executing is None or now >= executing.end:
            return None
        off = np.abs(executing.sample(measured.stamp)[0] - measured.positions)
        return executing.standing(off > self._leeway(executing, measured), measured.positions)

    def _leeway(self, executing: Motion, measured: Measured) -> np.ndarray:
        """[joints] radians that a joint may have been off its setpoint when it was measured."""
        stamp = measured.stamp
        lag = LAG if stamp - measured.since >= ACQUAINTANCE else 0
        times = np.linspace(stamp - lag, stamp, 11).astype(np.int64)
        speed = np.abs(executing.sample_all(times)[1]).max(axis=0)
        return np.minimum(NEAR + speed * lag / 1e9, self.settings.max_jump)

    def _execute(self, planned: Plan, now: int) -> Plan:
        self._executing = planned.motion.after(self._executing, HISTORY)
        self._published_at = now
        self._stopping = False
        return planned
