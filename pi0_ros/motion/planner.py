"""From an action chunk to a trajectory that an arm can be trusted with, or a refusal.

Step i of a chunk is due (i + 1) * dt after the observation. Up to the splice point, which is the
first step due a little after now, the trajectory repeats the executing one, so that the
controller's command does not jump. There it has the setpoint's position and velocity; the
difference to the chunk decays in `blend` seconds. If that obeys the limits it is published as it
is, apart from the braking at its end, else the nearest motion that does (motion.tracking). A chunk
that exceeds them by far is refused: something is wrong with it, and slowing it down would hide
that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pi0_ros.motion.blend import derivative, splice
from pi0_ros.motion.limits import JointLimits
from pi0_ros.motion.refusal import Measured, Reason, Refusal
from pi0_ros.motion.screening import Tolerances, check_finite, check_measured, is_finite, judge
from pi0_ros.motion.spline import Motion, Peaks, Trajectory, segment_peaks, trajectory_of
from pi0_ros.motion.tracking import brake, follow, last_to_brake
from pi0_ros.policy.types import ActionChunk

LEAD = 20_000_000
"""Nanoseconds from now to the splice point at least: until then the trajectory is on its way."""

_SECOND = 1_000_000_000
_SEARCH = 500_000_000  # nanoseconds in which a first point is looked for that can be reached
_HOLD = 100_000_000  # nanoseconds that a stop lasts at least: one in the past would be ignored
_GAP = 1000  # nanoseconds: closer points are one
_SLACK = 1e-6  # radians, and share of a limit, that rounding may add


@dataclass(frozen=True)
class Plan:
    """What to publish, and what the arm then does.

    Attributes:
        motion: in the node's time. Its points before `now` repeat the executing trajectory. None
            without limits.
        trajectory: the message's points; None in a dry run: there is nothing to publish.
        clamped: the limits that the spliced chunk would have exceeded: position, velocity,
            acceleration. Empty if it is published as it is.
        stop_cause: why this is a stop; "" if it is a chunk's.
    """

    motion: Motion | None
    trajectory: Trajectory | None
    clamped: tuple[str, ...] = ()
    stop_cause: str = ""


def plan(
    chunk: ActionChunk,
    limits: JointLimits,
    tolerances: Tolerances,
    measured: Measured,
    executing: Motion | None,
    now: int,
    start: str,
    blend: float,
) -> Plan:
    """The chunk, spliced into the executing trajectory and brought within the limits.

    A joint that is further than `max_jump` from its setpoint does not follow it; it begins anew, at
    rest where it is measured.

    Args:
        limits: what is published obeys them. Chunks are judged by the limits before `scaled`: an
            arm that is to move slowly lags behind its policy, which is not wrong for that.
        measured: the newest joint state.
        executing: the executing trajectory, None if there is none.
        now: nanoseconds of the node's clock.
        start: "observation": the trajectory's stamp is the observation's time; "now": it is 0, and
            the first point is one that the measured joints can reach in time.
        blend: seconds.

    Raises:
        Refusal: nonfinite; expired, when no step is left after the splice point; limits, naming
            joint, step, value and limit; malformed, when the measured state is not finite.
    """
    check_finite(chunk, limits.names)
    check_measured(measured, limits.names)
    step = round(chunk.dt * _SECOND)
    first = max(0, -(-(now + LEAD - chunk.stamp) // step) - 1)
    if first + 1 >= len(chunk.positions):
        raise Refusal(
            Reason.EXPIRED,
            f"the chunk covers {len(chunk.positions) * chunk.dt:.3f} s after the observation,"
            f" which is {(now - chunk.stamp) / _SECOND:.3f} s old: no step is left to move to",
        )
    judge(chunk, limits.full, tolerances, measured, first)

    before = _Before(measured, executing, now, tolerances.max_jump)
    splice_at = chunk.stamp + (first + 1) * step
    positions = np.clip(chunk.positions.astype(np.float64), limits.lower, limits.upper)
    rates = derivative(positions, chunk.dt)
    path = positions[first:], rates[first:]
    motion, clamped = _within(splice_at, *path, before, blend, step, limits)
    if start == "now":
        reachable = _from_reachable(motion, before, limits, now)
        if reachable is None:  # then the chunk begins at once, at times of its own
            due = splice_at + step * np.arange(len(path[0]), dtype=np.int64)
            path = Motion(due, *path).sample_all(np.arange(now, due[-1] + step, step))
            reachable, clamped = _within(now, *path, before, blend, step, limits)
        return Plan(reachable, trajectory_of(reachable, 0, now), clamped)
    # A first point lies between stamp and now, even if the observation is stamped ahead of now.
    stamp = chunk.stamp if chunk.stamp < now - _GAP else now - LEAD
    motion = _join(before.until(splice_at, stamp, step), motion)
    return Plan(motion, trajectory_of(motion, stamp, stamp), clamped)


def stop(
    limits: JointLimits,
    measured: Measured | None,
    executing: Motion | None,
    now: int,
    start: str,
    max_jump: float | np.ndarray = np.inf,
) -> Plan:
    """Braking to rest from where the joints are measured, or from the setpoint if that is unknown.

    The joints brake at the acceleration limit, from the setpoint's velocity and the measured
    position carried on to now by the executing trajectory; a joint that was measured further than
    `max_jump` from its setpoint does not follow it and brakes from its measured state. All come to
    rest within the position limits; one beyond them already moves no further out.

    Raises:
        ValueError: neither `measured` nor `executing` is given.
    """
    if measured is not None and not is_finite(measured):
        measured = None
    if measured is None:
        if executing is None:
            raise ValueError("a stop needs a measured state or an executing trajectory")
        position, velocity = executing.sample(now)
    else:
        position, velocity = measured.positions, measured.velocities
        if executing is not None:
            setpoint, rate = executing.sample(now)
            then = executing.sample(measured.stamp)[0]
            follows = np.abs(then - position) <= max_jump
            position = np.where(follows, position + setpoint - then, position)
            velocity = np.where(follows, rate, velocity)
        # The measured state is not one that was planned: from this velocity it could be too late.
        room = np.where(velocity > 0, limits.upper - position, position - limits.lower)
        with np.errstate(invalid="ignore"):
            most = np.sqrt(2 * limits.acceleration * np.maximum(room, 0.0))
        most = np.where(np.isnan(most), 0.0, np.minimum(most, limits.velocity))
        velocity = np.clip(velocity, -most, most)
    at_least = LEAD if start == "now" else 0
    motion = brake(now, position, velocity, limits, at_least, now + _HOLD)
    if start == "now":
        return Plan(motion, trajectory_of(motion, 0, now))
    return Plan(motion, trajectory_of(motion, now - LEAD, now - LEAD))


class _Before:
    """What the arm does until the splice point of a new trajectory."""

    def __init__(
        self,
        measured: Measured,
        executing: Motion | None,
        now: int,
        max_jump: float | np.ndarray,
    ) -> None:
        self.measured, self._executing, self._now = measured, executing, now
        self._alone = np.full(len(measured.positions), True)  # joints that follow nothing
        if executing is not None:
            self._alone = np.abs(executing.sample(now)[0] - measured.positions) > max_jump

    def at(self, time: int) -> tuple[np.ndarray, np.ndarray]:
        """Position and velocity, [joints] each."""
        positions, velocities = self._at_all(np.array([time]))
        return positions[0], velocities[0]

    def _at_all(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rest = np.repeat(self.measured.positions[None], len(times), axis=0)
        if self._executing is None:
            return rest, np.zeros_like(rest)
        positions, velocities = self._executing.sample_all(times)
        return np.where(self._alone, rest, positions), np.where(self._alone, 0.0, velocities)

    def until(self, splice_at: int, stamp: int, step: int) -> Motion:
        """Points after `stamp` and before `splice_at`: on the chunk's grid, and executing ones."""
        times = np.arange(splice_at - step, stamp, -step, dtype=np.int64)[::-1]
        if not len(times) or times[0] > self._now:
            times = np.append((stamp + self._now) // 2, times)
        if self._executing is not None:
            turns = self._executing.times
            turns = turns[(turns > stamp) & (turns < splice_at - _GAP)]
            near = np.searchsorted(turns, times + _GAP) > np.searchsorted(turns, times - _GAP)
            times = np.union1d(times[~near], turns)
        return Motion(times, *self._at_all(times))


def _within(
    start: int,
    positions: np.ndarray,
    velocities: np.ndarray,
    before: _Before,
    blend: float,
    step: int,
    limits: JointLimits,
) -> tuple[Motion, tuple[str, ...]]:
    """The path, spliced into `before`, or a motion within the limits close to it; what it broke."""
    positions, velocities = splice(positions, velocities, step / _SECOND, *before.at(start), blend)
    times = start + step * np.arange(len(positions), dtype=np.int64)
    path = Motion(times, positions, velocities)
    excess = _excess(path.peaks(), limits, positions[0])
    broken = tuple(kind for kind, where in excess.items() if where.any())
    kept = 0 if broken else last_to_brake(velocities, step / _SECOND, limits)
    if kept == len(positions) - 1:
        return path, broken
    end = follow(int(times[kept]), positions[kept:], velocities[kept:], step, limits)
    return _join(path.points(slice(kept)), end), broken


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


def _from_reachable(
    motion: Motion, before: _Before, limits: JointLimits, now: int
) -> Motion | None:
    """The motion from a point on that both the measured state and the setpoint can reach in time.

    A controller that is told to start now moves from where it is to the first point, whatever that
    takes. None if no point can be reached within the limits.
    """
    near = motion.points(slice(int(np.searchsorted(motion.times, now + _SEARCH))))
    duration = (near.times - now)[:, None] / _SECOND
    here = before.at(now)
    good = np.full(len(near.times), True)
    for p, v in (here, (before.measured.positions, before.measured.velocities)):
        peaks = segment_peaks(duration, p, v, near.positions, near.velocities)
        faster = replace(limits, velocity=np.maximum(limits.velocity, np.abs(v)))
        good &= ~np.any(list(_excess(peaks, faster, p).values()), axis=(0, 2))
    if not good.any():
        return None
    begin = Motion(np.array([now]), *(state[None] for state in here))
    return _join(begin, motion.points(slice(int(good.argmax()), None)))


def _join(first: Motion, then: Motion) -> Motion:
    return Motion(
        np.concatenate([first.times, then.times]),
        np.concatenate([first.positions, then.positions]),
        np.concatenate([first.velocities, then.velocities]),
    )
