"""A motion as joint_trajectory_controller executes it: its points, its extremes, splicing.

Between two points the controller (ros2_controllers) follows a cubic Hermite segment. Its rules for
messages: a stamp of 0 means "start now", `time_from_start` strictly increases, a trajectory wholly
in the past is rejected, and so is a last velocity other than 0 (parameter
allow_nonzero_velocity_at_trajectory_end).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_SECOND = 1e9
_SAME = 1e-9  # radians


@dataclass(frozen=True)
class Motion:
    """Points in time, and what happens between them.

    Attributes:
        times: [points] int64, nanoseconds of the node's clock, strictly increasing.
        positions: [points, joints] float64, radians.
        velocities: [points, joints] float64, radians per second.
    """

    times: np.ndarray
    positions: np.ndarray
    velocities: np.ndarray

    @property
    def end(self) -> int:
        """Nanoseconds at which it comes to its last point."""
        return int(self.times[-1])

    @property
    def rests_from(self) -> int:
        """Nanoseconds from which on it stands still; its last points may repeat one position."""
        moves = self.velocities.any(axis=1)
        moves |= (np.abs(self.positions - self.positions[-1]) > _SAME).any(axis=1)
        first = int(moves.nonzero()[0][-1]) + 1 if moves.any() else 0
        return int(self.times[min(first, len(moves) - 1)])

    def sample(self, time: int) -> tuple[np.ndarray, np.ndarray]:
        """Position and velocity, [joints] each, at a time in nanoseconds.

        Before the first point it is the first point; from the last one on it rests there.
        """
        times, positions, velocities = self.times, self.positions, self.velocities
        if time >= times[-1]:
            return positions[-1], np.zeros_like(velocities[-1])
        if time <= times[0]:
            return positions[0], velocities[0]
        j = int(times.searchsorted(time, side="right"))
        i, begin = j - 1, int(times[j - 1])
        duration, t = (int(times[j]) - begin) / _SECOND, (time - begin) / _SECOND
        return between(duration, t, positions[i], velocities[i], positions[j], velocities[j])

    def sample_all(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `sample` at many times: [times, joints] each."""
        times = np.asarray(times, dtype=np.int64)
        if len(self.times) == 1:
            positions = np.repeat(self.positions, len(times), axis=0)
            velocities = np.repeat(self.velocities, len(times), axis=0)
        else:
            i = self.times.searchsorted(times, side="right") - 1
            i = np.minimum(np.maximum(i, 0), len(self.times) - 2)
            j = i + 1
            # Differences first: nanoseconds since 1970 do not fit a float64.
            length = self.times[j] - self.times[i]
            inside = np.minimum(np.maximum(times - self.times[i], 0), length)
            positions, velocities = between(
                length[:, None] / _SECOND,
                inside[:, None] / _SECOND,
                self.positions[i],
                self.velocities[i],
                self.positions[j],
                self.velocities[j],
            )
        over = times >= self.times[-1]
        positions[over], velocities[over] = self.positions[-1], 0.0
        return positions, velocities

    def points(self, which: slice) -> Motion:
        """A part of the points."""
        return Motion(self.times[which], self.positions[which], self.velocities[which])

    def after(self, past: Motion | None, kept: int) -> Motion:
        """This motion, and before its first point what another one did for `kept` nanoseconds."""
        if past is None:
            return self
        begin = int(self.times[0])
        old = past.points(slice(*np.searchsorted(past.times, (begin - kept, begin)).tolist()))
        return join(old, self)

    def with_joints_of(self, other: Motion, joints: Sequence[int]) -> Motion:
        """This motion, in which some joints (column numbers) do what they do in another one."""
        times = np.union1d(self.times, other.times)
        times = times[times >= max(self.times[0], other.times[0])]
        positions, velocities = self.sample_all(times)
        for mine, its in zip((positions, velocities), other.sample_all(times), strict=True):
            mine[:, joints] = its[:, joints]
        return Motion(times, positions, velocities)

    def held(self, count: int, step: int) -> Motion:
        """With points at rest at its end, every `step` nanoseconds, until there are `count`."""
        more = count - len(self.times)
        if more <= 0:
            return self
        times = self.end + step * np.arange(1, more + 1, dtype=np.int64)
        return join(
            self,
            Motion(
                times,
                np.repeat(self.positions[-1:], more, axis=0),
                np.zeros((more, self.positions.shape[1])),
            ),
        )

    def peaks(self) -> Peaks:
        """The extremes of every segment, in closed form."""
        duration = (self.times[1:] - self.times[:-1])[:, None] / _SECOND
        p, v = self.positions, self.velocities
        return segment_peaks(duration, p[:-1], v[:-1], p[1:], v[1:])


@dataclass(frozen=True)
class Trajectory:
    """Timed points.

    Attributes:
        stamp: nanoseconds that `times` count from; 0 is the time at which it is received.
        times: nanoseconds per point, strictly increasing, the first not below 0.
        positions: [points, joints] float64, radians.
        velocities: [points, joints] float64, radians per second.
    """

    stamp: int
    times: tuple[int, ...]
    positions: np.ndarray
    velocities: np.ndarray


def join(first: Motion, then: Motion) -> Motion:
    """The points of both; those of `then` are later."""
    return Motion(
        np.concatenate([first.times, then.times]),
        np.concatenate([first.positions, then.positions]),
        np.concatenate([first.velocities, then.velocities]),
    )


def derivative(positions: np.ndarray, dt: float) -> np.ndarray:
    """Velocities along positions that are `dt` seconds apart.

    Central differences, one-sided at both ends. A cubic Hermite spline through them has continuous
    velocities and passes every position.

    Args:
        positions: [points, joints].

    Returns:
        [points, joints] float64, per second; 0 for a single point.
    """
    positions = np.asarray(positions, dtype=np.float64)
    velocities = np.zeros_like(positions)
    if len(positions) > 1:  # as np.gradient, in half the time
        steps = positions[1:] - positions[:-1]
        velocities[0], velocities[-1] = steps[0] / dt, steps[-1] / dt
        velocities[1:-1] = (positions[2:] - positions[:-2]) / (2 * dt)
    return velocities


def splice(
    positions: np.ndarray,
    velocities: np.ndarray,
    dt: float,
    position: np.ndarray,
    velocity: np.ndarray,
    blend: float,
) -> tuple[np.ndarray, np.ndarray]:
    """A path that begins in another state than its own, and returns to itself.

    The difference at the first point decays along a quintic: position and velocity are met there
    exactly, and position, velocity and acceleration of the difference are 0 after `blend`.

    Args:
        positions: [points, joints] radians, `dt` seconds apart.
        velocities: [points, joints] radians per second.
        position: [joints] of the state to begin in.
        velocity: [joints] of the state to begin in.
        blend: seconds; up to `dt` it only replaces the first point.

    Returns:
        positions, velocities: [points, joints] float64; from `blend` on the path's own, bit by bit.
    """
    positions = np.array(positions, dtype=np.float64)
    velocities = np.array(velocities, dtype=np.float64)
    if blend > dt:
        count = min(len(positions), math.ceil(blend / dt))
        s = (np.arange(count) * dt / blend)[:, None]
        gap, rate = position - positions[0], velocity - velocities[0]
        positions[:count] += gap * (1 + s**3 * (-10 + s * (15 - 6 * s)))
        positions[:count] += rate * blend * (s + s**3 * (-6 + s * (8 - 3 * s)))
        velocities[:count] += gap / blend * (s**2 * (-30 + s * (60 - 30 * s)))
        velocities[:count] += rate * (1 + s**2 * (-18 + s * (32 - 15 * s)))
    positions[0], velocities[0] = position, velocity  # exactly, not but for rounding
    return positions, velocities


@dataclass(frozen=True)
class Peaks:
    """Extremes of the segments of a motion, [segments, joints] float64 each.

    Attributes:
        lowest, highest: positions, radians.
        velocity: largest magnitude, radians per second.
        acceleration: largest magnitude, radians per second squared.
    """

    lowest: np.ndarray
    highest: np.ndarray
    velocity: np.ndarray
    acceleration: np.ndarray


def segment_peaks(
    duration: np.ndarray,
    position: np.ndarray,
    velocity: np.ndarray,
    end_position: np.ndarray,
    end_velocity: np.ndarray,
) -> Peaks:
    """The extremes of cubic segments that take `duration` seconds; arrays broadcast."""
    way = end_position - position
    with np.errstate(all="ignore"):  # a division by 0 is a turning point that there is not
        square, cube = _coefficients(duration, way, velocity, end_velocity)
        twice, thrice = 2 * square, 3 * cube
        # The position turns where the velocity is 0, the velocity where the acceleration is.
        root = np.sqrt(square * square - thrice * velocity)
        turn = -square - np.copysign(root, square)
        low, high = np.minimum(0.0, way), np.maximum(0.0, way)
        for t in (turn / thrice, velocity / turn):
            t = np.where((t > 0) & (t < duration), t, 0.0)
            moved = t * (velocity + t * (square + t * cube))
            low, high = np.minimum(low, moved), np.maximum(high, moved)
        t = -square / thrice
        t = np.where((t > 0) & (t < duration), t, 0.0)
        fastest = np.abs(velocity + t * (twice + t * 3 * cube))
        fastest = np.maximum(fastest, np.maximum(np.abs(velocity), np.abs(end_velocity)))
        hardest = np.maximum(np.abs(twice), np.abs(twice + 6 * cube * duration))
    return Peaks(position + low, position + high, fastest, hardest)


def between(
    duration: float | np.ndarray,
    t: float | np.ndarray,
    position: np.ndarray,
    velocity: np.ndarray,
    end_position: np.ndarray,
    end_velocity: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Position and velocity, `t` seconds after the begin of cubic segments that take `duration`."""
    square, cube = _coefficients(duration, end_position - position, velocity, end_velocity)
    moved = t * (velocity + t * (square + t * cube))
    return position + moved, velocity + t * (2 * square + t * 3 * cube)


def _coefficients(
    duration: float | np.ndarray, way: np.ndarray, first: np.ndarray, last: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of t^2 and t^3 in the cubic with these velocities at its ends that goes `way`."""
    square = (3 * way / duration - 2 * first - last) / duration
    cube = (first + last - 2 * way / duration) / (duration * duration)
    return square, cube
