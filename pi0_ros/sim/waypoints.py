"""The motion through waypoints, interpolated as joint_trajectory_controller does it."""

from __future__ import annotations

from bisect import bisect_right

import numpy as np

SECOND = 1_000_000_000
"""Nanoseconds."""

_POWERS = np.arange(6)
_FIRST = _POWERS  # factors and exponents of a polynomial's first and second derivative
_SECOND = _POWERS * (_POWERS - 1)


class Waypoints:
    """Joints that pass through waypoints and rest at the last one.

    Between two waypoints the position is a quintic where both have velocities and accelerations, a
    cubic where both have velocities, otherwise a line.

    Args:
        times: [n] int64 nanoseconds, increasing.
        states: [n, 3, joints] position, velocity and acceleration in radians and seconds; NaN
            where a waypoint has none.
    """

    def __init__(self, times: np.ndarray, states: np.ndarray) -> None:
        self.times, self.states = times, states
        self._starts = times.tolist()
        self._polynomials = _polynomials(np.diff(times) / SECOND, states)

    @property
    def end(self) -> int:
        """Nanoseconds of the last waypoint."""
        return self._starts[-1]

    def position(self, time: int) -> np.ndarray:
        """[joints] radians at a time, not before the first waypoint."""
        piece, seconds = self._find(time)
        return seconds**_POWERS @ self._polynomials[piece]

    def positions(self, times: np.ndarray) -> np.ndarray:
        """[n, joints] radians at [n] times, not before the first waypoint."""
        pieces = np.searchsorted(self.times, times, side="right") - 1
        seconds = (times - self.times[pieces]) / SECOND
        return np.einsum("np,npj->nj", seconds[:, None] ** _POWERS, self._polynomials[pieces])

    def state(self, time: int) -> np.ndarray:
        """[3, joints] position, velocity and acceleration at a time.

        From the last waypoint on it is that waypoint, with 0 for what it does not have: also a
        velocity that is not 0 stays, although the position does not change.
        """
        if time >= self.end:
            return np.nan_to_num(self.states[-1])
        piece, seconds = self._find(time)
        powers = seconds**_POWERS
        basis = np.zeros((3, 6))
        basis[0] = powers
        basis[1, 1:] = _FIRST[1:] * powers[:-1]
        basis[2, 2:] = _SECOND[2:] * powers[:-2]
        return basis @ self._polynomials[piece]

    def _find(self, time: int) -> tuple[int, float]:
        """The piece at a time, and the seconds since its start."""
        piece = bisect_right(self._starts, time) - 1
        return piece, (time - self._starts[piece]) / SECOND


def _polynomials(durations: np.ndarray, states: np.ndarray) -> np.ndarray:
    """[n, 6, joints]: coefficients of position over the seconds since each waypoint."""
    (p0, v0, a0), (p1, v1, a1) = np.moveaxis(states[:-1], 1, 0), np.moveaxis(states[1:], 1, 0)
    t = durations[:, None]
    slope = (p1 - p0) / t
    found = np.zeros((len(states), 6, states.shape[2]))
    found[:, 0] = states[:, 0]
    pieces = found[:-1]
    moving = ~np.isnan(v0 + v1)
    pieces[:, 1] = np.where(moving, v0, slope)
    pieces[:, 2] = np.where(moving, (3 * slope - 2 * v0 - v1) / t, 0.0)
    pieces[:, 3] = np.where(moving, (v0 + v1 - 2 * slope) / t**2, 0.0)
    quintic = moving & ~np.isnan(a0 + a1)
    if quintic.any():
        # What is left of the end's position, velocity and acceleration after a0's parabola.
        position = p1 - p0 - (v0 + a0 * t / 2) * t
        velocity = (v1 - v0 - a0 * t) * t
        acceleration = (a1 - a0) * t**2
        for power, value in (
            (2, a0 / 2),
            (3, (10 * position - 4 * velocity + acceleration / 2) / t**3),
            (4, (-15 * position + 7 * velocity - acceleration) / t**4),
            (5, (6 * position - 3 * velocity + acceleration / 2) / t**5),
        ):
            pieces[:, power] = np.where(quintic, value, pieces[:, power])
    return found
