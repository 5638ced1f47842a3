"""From an action chunk to a trajectory that an arm can be trusted with, or a refusal.

All points lie on a grid: multiples of the chunk's `dt` in the node's clock. The knots of successive
trajectories coincide, so that repeating what executes is exact. Step i of a chunk is due
(i + 1) * dt after the observation; the chunk is resampled onto the grid by the cubic Hermite spline
that a controller draws through it.

The new trajectory begins at the splice point, a knot that lies later than the message's way to the
controller takes. There it has the setpoint's position and velocity; the difference to the chunk
decays in `blend` seconds. If that obeys the limits it is published as it is, apart from the braking
at its end, else the nearest motion that does (motion.tracking). A chunk that exceeds them by far is
refused: something is wrong with it, and slowing it down would hide that.

How the message is stamped depends on the controller:

- jtc (joint_trajectory_controller that replaces a trajectory by the next one at once): the
  observation's time. The points before the splice point repeat the setpoint, one of them at least
  before now: the controller samples the present and makes no step.
- jtc_replacing (with allow_trajectory_replacement: it goes on from the old trajectory, one of its
  periods late, to the first point of the new one; a stamp in the past counts as now, and one in the
  future makes it begin at the measured state): 0, start on receipt. The first point is the splice
  point, and the times count from now: what the message's way takes longer or shorter than the last
  one's is the error.
- other (starts on receipt, too): the same, but with the setpoint's points up to the splice point,
  from half a step after now on.

A message has as many points as the chunk has steps; the last ones hold the position, at rest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pi0_ros.motion.limits import JointLimits
from pi0_ros.motion.refusal import Measured, Reason, Refusal
from pi0_ros.motion.screening import Tolerances, check_finite, check_measured, judge
from pi0_ros.motion.spline import Motion, Peaks, Trajectory, between, derivative, join, splice
from pi0_ros.motion.tracking import (
    able_to_brake,
    brake,
    can_brake,
    follow,
    last_to_brake,
    steps_to_brake,
)
from pi0_ros.policy.types import ActionChunk

_SECOND = 1_000_000_000
_GAP = 1000  # nanoseconds: closer points are one
_SNAP = 1_000_000  # nanoseconds: a stop begins no closer to a knot than that, or at it
ON_RECEIPT = 0.7
"""Share of the velocity limits that is planned with for a controller that starts on receipt: it
makes up for a period that it has lost, or for a message that took longer, within a step."""

_SLACK = 1e-6  # radians, and share of a limit, that rounding may add
_TURN = 2 * np.pi


@dataclass(frozen=True)
class Plan:
    """What to publish, and what the arm then does.

    Attributes:
        motion: in the node's time. None without limits.
        trajectory: the message's points; None in a dry run: there is nothing to publish.
        clamped: the limits that the spliced chunk would have exceeded: position, velocity,
            acceleration. Empty if it is published as it is.
        stop_cause: why this is a stop; "" if it is a chunk's.
        splice_at: nanoseconds of the splice point of a chunk; 0 for a stop, and without limits.
    """

    motion: Motion | None
    trajectory: Trajectory | None
    clamped: tuple[str, ...] = ()
    stop_cause: str = ""
    splice_at: int = 0


def plan(
    chunk: ActionChunk,
    limits: JointLimits,
    tolerances: Tolerances,
    measured: Measured,
    setpoint: Motion,
    now: int,
    controller: str,
    lead: int,
    blend: float,
) -> Plan:
    """The chunk, spliced into the setpoint and brought within the limits.

    Args:
        limits: what is published obeys them. Chunks are judged by the limits before `scaled`: an
            arm that is to move slowly lags behind its policy, which is not wrong for that.
        measured: the newest joint state; a chunk may begin there or at the setpoint.
        setpoint: what the controller executes, and holds at its end.
        now: nanoseconds of the node's clock.
        controller: "jtc", "jtc_replacing" or "other".
        lead: nanoseconds from now to the splice point at least.
        blend: seconds.

    Raises:
        Refusal: nonfinite; expired, when no step is left after the splice point; limits, naming
            joint, step, value and limit; malformed, when the measured state is not finite.
    """
    check_finite(chunk, limits.names)
    check_measured(measured, limits.names)
    step, steps = round(chunk.dt * _SECOND), len(chunk.positions)
    seconds = step / _SECOND  # not dt: steps are counted by it
    splice_at = max(_up(now + lead, step), _up(chunk.stamp + step, step))
    start = setpoint.sample(splice_at)
    before = _before(setpoint, chunk.stamp, splice_at, now, step, controller)
    room = steps - len(before.times) - 1  # steps after the splice point
    if room < steps_to_brake(start[1], limits.full, seconds):  # less of the past makes room
        before = _before(setpoint, now, splice_at, now, step, controller)
        room = max(steps - len(before.times) - 1, 1)
    last = min(_down(chunk.stamp + steps * step, step), splice_at + room * step)
    if last - splice_at < step:
        raise Refusal(
            Reason.EXPIRED,
            f"the chunk covers {steps * chunk.dt:.3f} s after the observation, which is"
            f" {(now - chunk.stamp) / _SECOND:.3f} s old: no step is left to move to",
        )
    past = min(int((splice_at - chunk.stamp) // step), steps - 1)  # the first step after it
    near = _near(chunk.positions.astype(np.float64), limits, start[0], past)
    places = measured.positions, start[0]
    judge(near, chunk.dt, limits.full, tolerances, places, past)

    positions = np.clip(near, limits.lower, limits.upper)
    knots = np.arange(splice_at, last + 1, step, dtype=np.int64)
    path = Motion(knots, *_resampled(positions, chunk.stamp + step, step, knots))
    if controller != "jtc":
        limits = replace(limits, velocity=limits.velocity * ON_RECEIPT)
    limits = able_to_brake(*start, limits, seconds, room)
    motion, clamped = _within(path, start, blend, step, limits)
    motion = join(before, motion).held(steps, step)
    trajectory = _trajectory(motion, controller, now, step)
    return Plan(motion, trajectory, clamped, splice_at=splice_at)


def stop(
    limits: JointLimits,
    setpoint: Motion,
    now: int,
    controller: str,
    lead: int,
    step: int,
    points: int,
) -> Plan:
    """Braking to rest from the setpoint, each joint at its acceleration limit.

    It is never a matter of where the arm was measured: the controller commands the setpoint, and a
    stop that begins elsewhere would be a jump.

    Args:
        step: nanoseconds of the grid.
        points: of the message; more if braking takes longer.
        setpoint, now, controller, lead: see `plan`.
    """
    begin = now + lead
    nearest = (begin + step // 2) // step * step
    begin = nearest if abs(nearest - begin) < _SNAP else begin
    before = _before(setpoint, now, begin, now, step, controller)
    motion = brake(begin, *setpoint.sample(begin), limits, step)
    motion = join(before, motion).held(points, step)
    return Plan(motion, _trajectory(motion, controller, now, step))


def _up(time: int, step: int) -> int:
    """The first knot that is not before `time`."""
    return -(-time // step) * step


def _down(time: int, step: int) -> int:
    return time // step * step


def _before(
    setpoint: Motion, stamp: int, splice_at: int, now: int, step: int, controller: str
) -> Motion:
    """The setpoint's points before the splice point, as the controller is to get them."""
    if controller == "jtc_replacing":
        return setpoint.points(slice(0))
    if controller == "jtc":  # from the observation on, and one before now
        begin = min(_down(stamp, step) + step, _down(now, step))
    else:  # none that the message's way may leave no time for
        begin = _up(now + step // 2, step)
    times = np.arange(begin, splice_at, step, dtype=np.int64)
    times = times[times < splice_at - _GAP]
    own = setpoint.times
    own = own[(own > begin) & (own < splice_at - _GAP) & (own % step != 0)]
    if len(own):  # where a stop began, or another grid
        apart = np.searchsorted(own, times + _GAP) == np.searchsorted(own, times - _GAP)
        times = np.union1d(times[apart], own)
    return Motion(times, *setpoint.sample_all(times))


def _trajectory(motion: Motion, controller: str, now: int, step: int) -> Trajectory:
    observed = int(motion.times[0]) - step
    stamp, zero = (observed, observed) if controller == "jtc" else (0, now)
    times = tuple((motion.times - zero).tolist())
    return Trajectory(stamp, times, motion.positions, motion.velocities)


def _resampled(
    positions: np.ndarray, first: int, step: int, knots: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Positions and velocities, [knots, joints], on the spline through points from `first` on."""
    seconds = step / _SECOND
    velocities = derivative(positions, seconds)
    # One more point, for the last knot.
    positions = np.concatenate([positions, positions[-1:] + velocities[-1:] * step / _SECOND])
    velocities = np.concatenate([velocities, velocities[-1:]])
    # The knots are as far apart as the points: each lies as late after the point before it.
    i, after = divmod(int(knots[0]) - first, step)
    begin, end = slice(i, i + len(knots)), slice(i + 1, i + 1 + len(knots))
    return between(
        seconds,
        after / _SECOND,
        positions[begin],
        velocities[begin],
        positions[end],
        velocities[end],
    )


def _near(
    positions: np.ndarray, limits: JointLimits, setpoint: np.ndarray, step: int
) -> np.ndarray:
    """Joints that turn without end: continuous in time, and by whole turns next to the setpoint."""
    turning = np.isinf(limits.lower) & np.isinf(limits.upper)
    if not turning.any():
        return positions
    positions = positions.copy()
    near = np.unwrap(positions[:, turning], axis=0)
    near += _TURN * np.round((setpoint[turning] - near[step]) / _TURN)
    positions[:, turning] = near
    return positions


def _within(
    path: Motion,
    start: tuple[np.ndarray, np.ndarray],
    blend: float,
    step: int,
    limits: JointLimits,
) -> tuple[Motion, tuple[str, ...]]:
    """The path from the state `start`, or a motion within the limits near it; what it broke."""
    positions, velocities = splice(path.positions, path.velocities, step / _SECOND, *start, blend)
    path = Motion(path.times, positions, velocities)
    excess = _excess(path.peaks(), limits, positions[0])
    excess["position"] = excess["position"] | ~can_brake(path, limits, step)[:-1]
    broken = tuple(kind for kind, where in excess.items() if where.any())
    kept = 0 if broken else last_to_brake(velocities, step / _SECOND, limits)
    if kept == len(positions) - 1:
        return path, broken
    end = follow(int(path.times[kept]), positions[kept:], velocities[kept:], step, limits)
    return join(path.points(slice(kept)), end), broken


def _excess(peaks: Peaks, limits: JointLimits, begin: np.ndarray) -> dict[str, np.ndarray]:
    """Which limits do [segments, joints] that begin at [joints] break?

    What begins beyond a position limit may come back; `follow` lets it go no further out.
    """
    below = peaks.lowest < np.minimum(limits.lower, begin) - _SLACK
    above = peaks.highest > np.maximum(limits.upper, begin) + _SLACK
    return {
        "position": below | above,
        "velocity": peaks.velocity > limits.velocity * (1 + _SLACK),
        "acceleration": peaks.acceleration > limits.acceleration * (1 + _SLACK),
    }
