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

import numpy as np

from pi0_ros.motion.limits import JointLimits
from pi0_ros.motion.spline import Motion

_SECOND = 1_000_000_000
_SNAP = 1000  # nanoseconds: points are no closer than that
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
    held = _Held(positions[0], velocities[0], change, step, limits)
    steps = len(positions) - 1
    steps = max(steps, held.steps, int(np.ceil(np.abs(velocities[0]) / change - 1e-9).max()), 1)
    times = start + step * np.arange(steps + 1, dtype=np.int64)
    columns = []
    of_joints = (limits.lower, limits.upper, limits.velocity, change)
    each = zip(
        positions.T.tolist(),
        velocities.T.tolist(),
        held.until.tolist(),
        *(values.tolist() for values in of_joints),
        strict=True,
    )
    for joint, (target, rate, first, *limits_of_joint) in enumerate(each):
        target += target[-1:] * (steps + 1 - len(target))
        rate += [0.0] * (steps + 1 - len(rate))
        begun = [(target[0], rate[0])]
        for k in range(1, first + 1):
            p, v = held.at(k * step)
            begun.append((float(p[joint]), float(v[joint])))
        columns.append(_follow_joint(begun, target, rate, h, *limits_of_joint))
    states = np.array(columns).transpose(1, 2, 0)  # [position and velocity, points, joints]
    return held.insert_stops(Motion(times, states[0], states[1]))


def _follow_joint(
    begun: list[tuple[float, float]],
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
        begun: position and velocity at the first points, given.
        h: seconds per step.
        change: of the velocity in a step at most, radians per second.
    """
    p, v = begun[-1]
    steps = len(target) - 1
    ps, vs = [p for p, _ in begun], [v for _, v in begun]
    half, lag, a = h / 2, 1.5 * h, _SHARE * change
    half_a, most_a = a / 2, 0.75 * a
    near = 1.5 * _SHARE * change * h  # radians that are caught up proportionally
    # A step, and braking after it, go no further than this up to a speed: where the limits are
    # further away, they need no thought.
    swift = max(fastest, abs(v))
    hardest = swift + change
    furthest = hardest * h + h * (hardest * hardest / (2 * change) + change / 8) + _TOLERANCE
    inner_lower, inner_upper = lower + furthest, upper - furthest
    for k in range(len(begun), steps + 1):
        speed = abs(v)
        # Conditions instead of min and max: this loop is most of the time that a plan takes.
        cap = (steps - k) * change
        most = fastest if speed - change < fastest else speed - change
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
        wanted = rate[k]
        off = target[k] - p - (v + wanted) * half
        if off > near:
            wanted += math.sqrt(a * (2 * off / h - most_a)) - half_a
        elif off < -near:
            wanted -= math.sqrt(a * (-2 * off / h - most_a)) - half_a
        else:
            wanted += off / lag
        if k == steps:
            new = 0.0  # exactly
        elif wanted < low:
            new = low if low < high else high
        else:
            new = wanted if wanted < high else high
        p += (v + new) * half
        v = new
        ps.append(p)
        vs.append(v)
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


def brake(
    start: int,
    position: np.ndarray,
    velocity: np.ndarray,
    limits: JointLimits,
    at_least: int,
    until: int,
) -> Motion:
    """Slow down to rest, each joint at constant deceleration.

    Args:
        start: nanoseconds at which the joints are at `position` with `velocity`, [joints].
        at_least: nanoseconds that a joint takes, where limits leave the room for it.
        until: nanoseconds until which the motion goes on at least, at rest.
    """
    stops = _stopping_times(position, velocity, limits, at_least)
    knots = np.unique(stops[stops > 0])
    knots = knots[np.diff(knots, append=2**62) > _SNAP]
    times = np.concatenate([[0], knots])
    if times[-1] < until - start:
        times = np.append(times, until - start)
    states = [_braking(position, velocity, stops, int(time)) for time in times]
    return Motion(
        start + times,
        np.array([p for p, _ in states]),
        np.array([v for _, v in states]),
    )


def _stopping_times(
    position: np.ndarray, velocity: np.ndarray, limits: JointLimits, at_least: int = 0
) -> np.ndarray:
    """[joints] int64: nanoseconds in which the joints come to rest at constant deceleration.

    That is the acceleration limit; less where `at_least` asks for more time, more where a position
    limit leaves less room. The latter happens when the acceleration limit was lowered under way,
    and takes no more than the joint's own limit, whatever it is scaled by.
    """
    speed = np.abs(velocity)
    room = np.where(velocity > 0, limits.upper - position, position - limits.lower)
    with np.errstate(divide="ignore", invalid="ignore"):
        soft = np.where(np.isfinite(limits.acceleration), speed / limits.acceleration, _INSTANT)
        soft = np.maximum(soft, at_least / _SECOND)
        needed = np.where(room > 0, 2 * room / speed, np.inf)
        seconds = np.maximum(np.minimum(soft, needed), speed / limits.full.acceleration)
    nanoseconds = np.maximum(np.ceil(np.where(speed > 0, seconds, 0) * _SECOND), _SNAP)
    return np.where(speed > 0, nanoseconds, 0).astype(np.int64)


def _braking(
    position: np.ndarray, velocity: np.ndarray, stops: np.ndarray, time: int
) -> tuple[np.ndarray, np.ndarray]:
    """The state `time` nanoseconds into braking that ends `stops` nanoseconds after its start."""
    t = np.minimum(time, stops) / _SECOND
    share = np.where(stops > 0, 1 - np.minimum(time, stops) / np.maximum(stops, 1), 0.0)
    return position + velocity * t * (1 + share) / 2, velocity * share


class _Held:
    """Joints that begin too close to a limit for steps: they brake by themselves, to rest at it.

    Such a state comes from a motion that was braking itself, between two of its own points.

    Attributes:
        until: [joints] int64, the points until which they are held; 0: not at all.
        steps: the largest of these.
    """

    def __init__(
        self,
        position: np.ndarray,
        velocity: np.ndarray,
        change: np.ndarray,
        step: int,
        limits: JointLimits,
    ) -> None:
        self._start = position, velocity
        self._step = step
        way = stopping_distance(np.abs(velocity), change, step / _SECOND)
        tight = (velocity > 0) & (position + way > limits.upper + _TOLERANCE)
        tight |= (velocity < 0) & (position - way < limits.lower - _TOLERANCE)
        self._stops = self.until = np.zeros(len(position), np.int64)
        self.steps = 0
        if not tight.any():
            return
        stops = _stopping_times(position, velocity, limits)
        over = stops % step
        stops = np.where(over > step - _SNAP, stops - over + step, stops)
        stops = np.where((over <= _SNAP) & (stops >= step), stops - over, stops)
        self._stops = np.where(tight, stops, 0)
        self.until = -(-self._stops // step)
        self.steps = int(self.until.max())

    def at(self, time: int) -> tuple[np.ndarray, np.ndarray]:
        """State after so many nanoseconds; of the held joints only."""
        position, velocity = self._start
        if time == 0:
            return position, velocity
        return _braking(position, velocity, self._stops, time)

    def insert_stops(self, motion: Motion) -> Motion:
        """Add points where held joints come to rest between two points."""
        if not self.steps:
            return motion
        knots = np.unique(self._stops[(self._stops % self._step) > 0])
        knots = knots[np.diff(knots, append=2**62) > _SNAP]
        if not len(knots):
            return motion
        positions, velocities = motion.sample_all(motion.times[0] + knots)
        for i, knot in enumerate(knots):
            held = self.until * self._step > knot
            p, v = self.at(int(knot))
            positions[i] = np.where(held, p, positions[i])
            velocities[i] = np.where(held, v, velocities[i])
        times = np.concatenate([motion.times, motion.times[0] + knots])
        order = np.argsort(times)
        return Motion(
            times[order],
            np.concatenate([motion.positions, positions])[order],
            np.concatenate([motion.velocities, velocities])[order],
        )


def _changes(velocities: np.ndarray, step: float, limits: JointLimits) -> np.ndarray:
    """[joints] rad/s: largest change of the velocity in a step; finite without a limit too."""
    needed = 2 * limits.velocity + np.abs(velocities).max(axis=0)
    return np.minimum(limits.acceleration * step, needed)
