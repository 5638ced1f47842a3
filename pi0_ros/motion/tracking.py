"""Motions that keep the limits by construction: following a path, and braking.

A step of a joint is one of constant acceleration: the next velocity v' is chosen, and the position
moves by (v + v') / 2 * dt. The cubic Hermite that a controller draws through such points is that
very parabola, so what holds for the points holds between them.

A state is safe if braking as hard as allowed ends within the limits. From a safe state v' is taken
from those that lead to a safe state again. There always is one: braking, step by step, is what made
the state safe. The same reasoning ends the motion at rest: with m steps left, |v'| <= m * a * dt.

A state that breaks a limit already (the arm rests beyond it, a limit was lowered while the arm
moves) is brought back at the acceleration limit and never further out than braking takes it.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from pi0_ros.motion.limits import JointLimits
from pi0_ros.motion.spline import Motion

_SECOND = 1_000_000_000
_INSTANT = 0.01  # seconds in which a joint stops that has no acceleration limit
_SHARE = 0.6  # of the acceleration that catches up; the rest is for what the path itself needs
_TOLERANCE = 1e-9


def stopping_distance(speed: np.ndarray, change: np.ndarray, step: float) -> np.ndarray:
    """Radians that braking by `change` (rad/s) per `step` (seconds) takes from a speed >= 0."""
    full = np.floor(speed / change)
    rest = speed - full * change
    return step * (full * full * change / 2 + (full + 0.5) * rest)


def last_to_brake(velocities: np.ndarray, step: float, limits: JointLimits) -> int:
    """The last point from which braking in steps comes to rest at the last point.

    Along a path that obeys the limits it ends within the position limits too: braking is behind
    the path at all times.

    Args:
        velocities: [points, joints], `step` seconds apart.

    Returns:
        Index of the point; 0 if there is none.
    """
    change = _changes(velocities, step, limits)
    left = np.arange(len(velocities) - 1, -1, -1)[:, None]
    in_time = np.flatnonzero((np.abs(velocities) <= left * change).all(axis=1))
    return int(in_time[-1]) if len(in_time) else 0


def follow(
    start: int,
    positions: np.ndarray,
    velocities: np.ndarray,
    step: int,
    limits: JointLimits,
) -> Motion:
    """A motion within the limits that begins at the path's first point and keeps close to it.

    It may last longer than the path where it could not come to rest in time.

    Args:
        start: nanoseconds of the first point.
        positions, velocities: [points, joints]: where to be, and how fast, at each point. The first
            is the state to begin in.
        step: nanoseconds between two points.
    """
    h = step / _SECOND
    change = _changes(velocities[:1], h, limits)
    steps = max(len(positions) - 1, steps_to_brake(velocities[0], limits, h), 1)
    times = start + step * np.arange(steps + 1, dtype=np.int64)
    columns = []
    of_joints = (limits.lower, limits.upper, limits.velocity, change)
    each = zip(
        positions.T.tolist(),
        velocities.T.tolist(),
        *(values.tolist() for values in of_joints),
        strict=True,
    )
    for target, rate, *limits_of_joint in each:
        target += target[-1:] * (steps + 1 - len(target))
        rate += [0.0] * (steps + 1 - len(rate))
        columns.append(_follow_joint(target, rate, h, *limits_of_joint))
    states = np.array(columns).transpose(1, 2, 0)  # [position and velocity, points, joints]
    return Motion(times, states[0], states[1])


def _follow_joint(
    target: list[float],
    rate: list[float],
    h: float,
    lower: float,
    upper: float,
    fastest: float,
    change: float,
) -> tuple[list[float], list[float]]:
    """One joint of `follow`. Plain floats: arrays of six would take ten times as long.

    Args:
        target, rate: where to be, and how fast, at each point; the first is given.
        h: seconds per step.
        change: of the velocity in a step at most, radians per second.
    """
    p, v = target[0], rate[0]
    ps, vs = [p], [v]
    half, lag, a = h / 2, 1.5 * h, _SHARE * change
    half_a, most_a = a / 2, 0.75 * a
    near = 1.5 * _SHARE * change * h  # radians that are caught up proportionally
    # A step, and braking after it, go no further than this up to a speed: where the limits are
    # further away, they need no thought.
    swift = max(fastest, abs(v))
    hardest = swift + change
    furthest = hardest * h + h * (hardest * hardest / (2 * change) + change / 8) + _TOLERANCE
    inner_lower, inner_upper = lower + furthest, upper - furthest
    # Conditions instead of abs, min and max: this loop is most of the time that a plan takes.
    steps_left = range(len(target) - 2, 0, -1)
    for left, goal, wanted in zip(steps_left, target[1:], rate[1:], strict=False):
        speed = v if v > 0 else -v
        most = speed - change
        if most < fastest:
            most = fastest
        cap = left * change
        if most < cap:
            cap = most
        low, high = v - change, v + change
        if low < -cap:
            low = -cap
        if high > cap:
            high = cap
        # Where the hardest step towards a limit and braking after it could break the limit, no more
        # than leaves room for braking; where that is too late, no further than braking leads.
        if speed > swift or not inner_lower <= p <= inner_upper:
            faster = speed + change
            reach = (speed + faster) * half + _stopping(faster, change, h)
            if not lower <= p - reach <= p + reach <= upper:
                way = _stopping(speed, change, h)
                outward, inward = (p + way, p) if v > 0 else (p, p - way)
                middle = p + v * half
                high = min(high, _largest(max(upper, outward) - middle, high, change, h))
                low = max(low, -_largest(middle - min(lower, inward), -low, change, h))
        # By how much the next point would be missed at the path's own speed. A small miss shrinks
        # to a third at each step; a large one as fast as braking in time for it allows. Both ask
        # for the state after the step, not before it: so the joint does not swing about the path.
        off = goal - p - (v + wanted) * half
        if off > near:
            wanted += math.sqrt(a * (2 * off / h - most_a)) - half_a
        elif off < -near:
            wanted -= math.sqrt(a * (-2 * off / h - most_a)) - half_a
        else:
            wanted += off / lag
        if wanted < low:
            wanted = low
        new = wanted if wanted < high else high
        p += (v + new) * half
        v = new
        ps.append(p)
        vs.append(v)
    # At rest after the last step, exactly.
    ps.append(p + v * half)
    vs.append(0.0)
    return ps, vs


def _stopping(speed: float, change: float, h: float) -> float:
    """`stopping_distance` of one joint."""
    full = math.floor(speed / change)
    return h * (full * full * change / 2 + (full + 0.5) * (speed - full * change))


def _largest(room: float, wished: float, change: float, h: float) -> float:
    """The largest velocity after a step of which the rest and braking then take `room` radians.

    `room` counts from where the step's own velocity takes it: v' * h / 2 + stopping(v') <= room.
    Returns `wished` where that is no larger.
    """
    if room < 0:
        return 2 * room / h
    if wished <= 0 or wished * h / 2 + _stopping(wished, change, h) <= room:
        return wished
    unit = change * h
    full = math.floor((math.sqrt(1 + 8 * room / unit) - 1) / 2)
    return full * change + (room - unit * full * (full + 1) / 2) / ((full + 1) * h)


def steps_to_brake(velocity: np.ndarray, limits: JointLimits, step: float) -> int:
    """Steps of `step` seconds in which joints at `velocity`, [joints] rad/s, come to rest."""
    change = _changes(velocity[None], step, limits)
    return int(np.ceil(np.abs(velocity) / change - _TOLERANCE).max(initial=0))


def can_brake(motion: Motion, limits: JointLimits, step: int) -> np.ndarray:
    """[points, joints] bool: whether braking in steps of `step` ns ends within the limits."""
    p, v, h = motion.positions, motion.velocities, step / _SECOND
    way = stopping_distance(np.abs(v), _changes(v, h, limits), h)
    return way <= np.where(v > 0, limits.upper - p, p - limits.lower) + _TOLERANCE


def able_to_brake(
    position: np.ndarray, velocity: np.ndarray, limits: JointLimits, step: float, steps: int
) -> JointLimits:
    """Limits with which a joint comes to rest in `steps` of `step` seconds and at its limit.

    Where an acceleration that was scaled down under way is too little for that, it is raised, up to
    the joint's own limit.
    """
    speed, full = np.abs(velocity), limits.full.acceleration
    if (limits.acceleration == full).all():
        return limits
    now = Motion(np.zeros(1, np.int64), position[None], velocity[None])
    tight = ~can_brake(now, limits, round(step * _SECOND))[0]
    acceleration = np.maximum(limits.acceleration, speed / (steps * step) * (1 + _TOLERANCE))
    acceleration = np.minimum(np.where(tight, full, acceleration), full)
    return replace(limits, acceleration=acceleration)


def brake(
    start: int, position: np.ndarray, velocity: np.ndarray, limits: JointLimits, step: int
) -> Motion:
    """Slow down to rest, each joint at its acceleration limit.

    Args:
        start: nanoseconds at which the joints are at `position` with `velocity`, [joints].
        step: nanoseconds; all points but the first are multiples of it.
    """
    with np.errstate(invalid="ignore"):
        rate = np.where(
            np.isfinite(limits.acceleration), limits.acceleration, np.abs(velocity) / _INSTANT
        )
    times, positions, velocities = [start], [position], [velocity]
    while True:
        times.append(times[-1] // step * step + step)
        seconds = (times[-1] - times[-2]) / _SECOND
        slower = np.maximum(np.abs(velocities[-1]) - rate * seconds, 0.0)
        slower = np.copysign(np.where(slower < _TOLERANCE, 0.0, slower), velocity)
        positions.append(positions[-1] + (velocities[-1] + slower) / 2 * seconds)
        velocities.append(slower)
        if not slower.any():
            break
    motion = Motion(np.array(times, np.int64), np.array(positions), np.array(velocities))
    return _stopped_at_limits(motion, rate, limits)


def _stopped_at_limits(motion: Motion, rate: np.ndarray, limits: JointLimits) -> Motion:
    """With points of their own where joints stop that the last, softer step would take too far."""
    position, velocity = motion.positions[0], motion.velocities[0]
    room = np.where(velocity > 0, limits.upper - position, position - limits.lower)
    over = (np.abs(motion.positions[-1] - position) > room + _TOLERANCE) & (room > 0)
    if not over.any():
        return motion
    with np.errstate(divide="ignore", invalid="ignore"):
        speed = np.abs(velocity)
        seconds = np.where(over, speed / rate, 0.0)
        instant = ~np.isfinite(limits.acceleration) & over
        seconds = np.where(instant, np.minimum(seconds, 2 * room / speed), seconds)
    stops = np.ceil(seconds * _SECOND).astype(np.int64)
    times = np.union1d(motion.times, motion.times[0] + stops[over])
    positions, velocities = motion.sample_all(times)
    passed = (times - motion.times[0])[:, None]
    share = 1 - np.minimum(passed, stops) / np.maximum(stops, 1)
    way = velocity * np.minimum(passed, stops) / _SECOND * (1 + share) / 2
    return Motion(
        times,
        np.where(over, position + way, positions),
        np.where(over, velocity * share, velocities),
    )


def _changes(velocities: np.ndarray, step: float, limits: JointLimits) -> np.ndarray:
    """[joints] rad/s: largest change of the velocity in a step; finite without a limit too."""
    needed = 2 * limits.velocity + np.abs(velocities).max(axis=0)
    return np.minimum(limits.acceleration * step, needed)
