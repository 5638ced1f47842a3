"""From chunks to the trajectories that a controller executes; pure: no ROS, no node, no clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from pi0_ros.motion.enable import MotionEnable
from pi0_ros.motion.following import Following, Rest
from pi0_ros.motion.limits import JointLimits
from pi0_ros.motion.planner import Plan, plan, stop
from pi0_ros.motion.refusal import REJECTIONS, Measured, Reason, Refusal
from pi0_ros.motion.screening import Tolerances, check_finite, check_measured, is_finite
from pi0_ros.motion.spline import Motion
from pi0_ros.policy.types import ActionChunk

_SAGS = 0.3
"""Share of tracking_tolerance by which an arm at rest may be off its setpoint after joint states
were missing; one that is further off has another setpoint."""

HISTORY = 2_000_000_000
"""Nanoseconds of executed trajectory that are remembered: an observation is younger than that, and
an arm lags by less."""


@dataclass(frozen=True)
class MotionSettings:
    """How chunks become trajectories; the node's parameters of the same names say more.

    Attributes:
        velocity_scale, acceleration_scale: shares of the joints' limits, above 0.
        max_jump, clamp_position, clamp_velocity, clamp_acceleration: see `screening.Tolerances`.
        reject_latch: rejected chunks in a row that latch a fault.
        blend: seconds in which a new trajectory departs from the executing one.
        starve_timeout: seconds without a new trajectory after which the arm is stopped.
        controller: "jtc", "jtc_replacing" or "other"; see `planner`.
        splice_lead: seconds from now to the splice point at least.
        tracking_tolerance, tracking_lag, tracking_timeout: radians, seconds, seconds; see
            `following.Following.look`.
        untracked_joints: names of joints that need not follow, such as a gripper that holds.
        emergency_acceleration_scale: share of the acceleration limits, above 0, at which the arm
            stops when a fault has latched (an emergency stop, a deadman, an arm that is lost).
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
    controller: str
    splice_lead: float
    tracking_tolerance: float
    tracking_lag: float
    tracking_timeout: float
    untracked_joints: tuple[str, ...]
    emergency_acceleration_scale: float

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
    """Knows the setpoint, splices new chunks into it, and stops it.

    The setpoint is what the controller executes of the trajectories that were published, and what
    it holds at the end of the last one. Every chunk and every stop begins there, never where the
    arm was measured: a measured position is older than the setpoint, and the arm lags behind it.
    What is measured is the evidence of whether the arm follows. One that does not is stopped, and a
    fault latches.

    The caller owns the clock, the measured joint states and the publisher. It calls `update` with
    each chunk of the policy, `tick` every 20 ms and whenever motion may have been disabled (also
    after an `update` that returned a Refusal: it may have latched), and publishes the `trajectory`
    of each Plan that it gets, if there is one, before it calls again, or calls `unsent` if that
    fails:

        settings = MotionSettings.of(parameters)
        enable = MotionEnable()
        executor = Executor(joints, limits, settings, enable)
        enable.enable(0.0)
        result = executor.update(chunk, measured, now)
        if isinstance(result, Refusal):
            result = executor.tick(measured, now)
        if result is not None and result.trajectory is not None:
            publish(result.trajectory)  # or executor.unsent(range(len(joints)))

    Attributes:
        enable: without it nothing is published: chunks are judged only (a dry run).
        following: how well the arm follows.
    """

    def __init__(
        self,
        joints: Sequence[str],
        limits: JointLimits | None,
        settings: MotionSettings,
        enable: MotionEnable,
        *,
        check: Callable[[Motion], Refusal | None] | None = None,
        recorded: bool = False,
    ) -> None:
        """`limits`: of `joints`, unscaled; None: nothing is planned, and no plan has a trajectory.

        Args:
            joints: names, in the order of the chunks' columns.
            check: looks at the motion that a chunk leads to; what it returns rejects the chunk.
            recorded: the measured arm is a recording, which hears nothing: a trajectory may begin
                in its midst, at the measured position and velocity, and does so again where the two
                have come apart; nothing latches for that.
        """
        self.enable = enable
        self._joints = tuple(joints)
        self._limits = limits
        self._check, self._recorded = check, recorded
        units = limits.units if limits is not None else ()
        self.following = Following(self._joints, units)
        self._rest = Rest(self._joints, units)
        self._since: int | None = None  # as of the last joint state that a chunk was planned with
        self._jumps: int | None = None
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
        untracked = [name in settings.untracked_joints for name in self._joints]
        self._untracked = np.array(untracked, bool)

    @property
    def executing(self) -> Motion | None:
        """The setpoint in the node's time, the last two seconds of it included; None: unknown."""
        return self._setpoint

    def reset(self) -> None:
        """Forget the setpoint: the clock jumped, so it lies in another time."""
        self._setpoint: Motion | None = None
        self._lost = False
        self._published_at = 0
        self._stopping = 0.0  # share of the acceleration limits; 0: no stop executes
        self._step, self._points = 0, 0
        self.following.clear()
        self._rest.clear()

    def update(self, chunk: ActionChunk, measured: Measured | None, now: int) -> Plan | Refusal:
        """Bring a chunk within the limits and splice it into the setpoint.

        Args:
            measured: the newest joint state; None if there is none that is fresh.
            now: nanoseconds of the clock that the chunk's and the joint states' stamps are of.

        Returns:
            A Plan, whose trajectory is None in a dry run; or a Refusal: nonfinite, limits,
            expired, malformed (the joint state), stale (no joint state), moving (nothing executes,
            but the arm does not rest), or what `check` returns.
        """
        try:
            check_finite(chunk, self._joints)
            if self._scaled is None:
                return Plan(None, None)
            if measured is None:
                raise Refusal(Reason.STALE, "no fresh joint state to start from")
            check_measured(measured, self._joints)
            self._look(measured, now)
            begun = self._begin(measured, now)
            planned = self._plan(chunk, measured, begun, now)
        except Refusal as refusal:
            if refusal.reason in REJECTIONS:
                self._reject(refusal)
            return refusal
        self._rejections = 0
        if not self.enable.enabled:
            return replace(planned, trajectory=None)
        self._step, self._points = round(chunk.dt * 1e9), len(chunk.positions)
        self._setpoint, self._lost, self._since = begun, False, measured.since
        return self._execute(planned, now)

    def tick(self, measured: Measured | None, now: int) -> Plan | None:
        """Stop where motion was disabled, no chunk follows, or the arm does not follow.

        Args:
            measured, now: see `update`.

        Returns:
            A decelerating stop; None if nothing moves, or is stopping as hard as it should already.
        """
        if measured is not None and is_finite(measured):
            self._look(measured, now)
        settings = self.settings
        share = settings.emergency_acceleration_scale if self.enable.latched else 1.0
        if self._stopping >= share or self.rests(now):
            return None
        silence = (now - self._published_at) / 1e9
        if not self.enable.enabled:
            cause = self.enable.latched or self.enable.cause
        elif silence > settings.starve_timeout:
            cause = f"no new trajectory for {silence:.2f} s"
        else:
            return None
        planned = stop(
            self._limits.scaled(1.0, share),
            self._setpoint,
            now,
            settings.controller,
            round(settings.splice_lead * 1e9),
            self._step,
            self._points,
        )
        self._execute(planned, now)
        self._stopping = share
        return replace(planned, stop_cause=cause)

    def unsent(self, joints: Sequence[int]) -> None:
        """The last plan's trajectory did not reach these joints: they go on as before it.

        A stop that is needed is planned anew at the next `tick`.

        Args:
            joints: numbers of columns.
        """
        before, self._published_at = self._before
        self._setpoint = self._setpoint.with_joints_of(before, joints)
        self._stopping = 0.0

    def rests(self, now: int) -> bool:
        """Whether nothing executes that moves."""
        return self._setpoint is None or now >= self._setpoint.end or self._at_rest(now)

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

    def _look(self, measured: Measured, now: int) -> None:
        """Take a joint state as evidence; an arm that does not follow latches a fault."""
        if self._recorded or self._limits is None:
            return
        fault = ""
        if self._jumps is not None and measured.jumps > self._jumps:
            fault = measured.fault
            self._rest.clear()
        self._jumps = measured.jumps
        self._rest.put(measured)
        if self._setpoint is None or self._lost:  # judged anew when motion begins
            return
        settings = self.settings
        fault = fault or self.following.look(
            self._setpoint,
            measured,
            tolerance=settings.tracking_tolerance,
            lag=settings.tracking_lag,
            timeout=settings.tracking_timeout,
            untracked=self._untracked,
        )
        if not fault:
            return
        self.following.clear()
        if not self.enable.enabled and now >= self._setpoint.end:
            self._setpoint = None  # somebody else moves the arm, as they may
            return
        if self.enable.enabled:
            self.enable.latch(fault)
        self._lost = True

    def _plan(self, chunk: ActionChunk, measured: Measured, begun: Motion, now: int) -> Plan:
        settings = self.settings
        planned = plan(
            chunk,
            self._scaled,
            settings.tolerances,
            measured,
            begun,
            now,
            settings.controller,
            round(settings.splice_lead * 1e9),
            settings.blend,
        )
        refusal = self._check(planned.motion) if self._check is not None else None
        if refusal is not None:
            raise refusal
        return planned

    def _begin(self, measured: Measured, now: int) -> Motion:
        """The setpoint that a chunk is spliced into; raises Refusal (moving)."""
        if not self.enable.enabled:
            return _resting(measured.positions)
        setpoint = self._setpoint
        if self._recorded:
            return self._recording(measured, now)
        away = self._since is not None and measured.since > self._since
        if setpoint is not None and (self._lost or away):
            # The controller may hold the setpoint still (a slow joint, a pause of the joint
            # states), or have been restarted and hold another position.
            near = self.settings.tracking_tolerance
            off = self.following.error
            if self._lost or self._at_rest(now):
                near *= 1.0 if self._lost else _SAGS
                off = np.abs(self._rest.position() - setpoint.sample(now)[0])
            if ((off > near) & ~self._untracked).any():
                setpoint = None
        if setpoint is None:
            setpoint = _resting(self._rest.position())
            self.following.clear()
        return setpoint

    def _recording(self, measured: Measured, now: int) -> Motion:
        setpoint = self._setpoint
        if setpoint is not None:
            off = np.abs(setpoint.sample(measured.stamp)[0] - measured.positions)
            if (off <= self.settings.max_jump).all():
                return setpoint
        ahead = np.array([-1.0, 1.0])  # seconds
        return Motion(
            measured.stamp + (ahead * 1e9).astype(np.int64),
            measured.positions + ahead[:, None] * measured.velocities,
            np.repeat(measured.velocities[None], 2, axis=0),
        )

    def _at_rest(self, now: int) -> bool:
        """Whether the setpoint moves no more, be its last points still to come."""
        setpoint = self._setpoint
        left = slice(int(setpoint.times.searchsorted(now)), None)
        return not (setpoint.velocities[left].any() or setpoint.sample(now)[1].any())

    def _execute(self, planned: Plan, now: int) -> Plan:
        self._before = self._setpoint, self._published_at
        self._setpoint = planned.motion.after(self._setpoint, HISTORY)
        self._published_at = now
        self._stopping = 0.0
        return planned


def _resting(positions: np.ndarray) -> Motion:
    """An arm that has always rested at [joints] radians."""
    return Motion(np.zeros(1, np.int64), positions[None], np.zeros((1, len(positions))))
