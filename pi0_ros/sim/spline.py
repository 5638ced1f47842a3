"""The path of one joint over time: cubics and lines between waypoints, as in ros2_control."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise

SECOND = 1_000_000_000
"""Nanoseconds."""

Point = tuple[int, float, float | None]
"""Nanoseconds, radians, and radians per second or None."""


@dataclass(frozen=True)
class Spline:
    """The path of one joint. Plain numbers: arrays of six would take ten times as long.

    Attributes:
        starts: nanoseconds at which the pieces begin, increasing.
        pieces: each a position as a polynomial (c0, c1, c2, c3) of the seconds since its start; it
            holds until the next one starts.
    """

    starts: list[int]
    pieces: list[tuple[float, float, float, float]]

    @staticmethod
    def hold(start: int, position: float) -> Spline:
        """Hold a position."""
        return Spline([start], [(position, 0.0, 0.0, 0.0)])

    @staticmethod
    def through(points: list[Point]) -> Spline:
        """From waypoint to waypoint; hold the last.

        As in the controller, a cubic needs the velocities at both of its ends.
        """
        pieces = []
        for (t0, p0, v0), (t1, p1, v1) in pairwise(points):
            duration = (t1 - t0) / SECOND
            slope = (p1 - p0) / duration
            if v0 is None or v1 is None:
                pieces.append((p0, slope, 0.0, 0.0))
                continue
            square = (3 * slope - 2 * v0 - v1) / duration
            cube = (v0 + v1 - 2 * slope) / duration**2
            pieces.append((p0, v0, square, cube))
        pieces.append((points[-1][1], 0.0, 0.0, 0.0))
        return Spline([time for time, _, _ in points], pieces)

    def at(self, time: int) -> tuple[float, float]:
        """Position and velocity; before the first piece at rest at its beginning."""
        index = bisect_right(self.starts, time) - 1
        if index < 0:
            return self.pieces[0][0], 0.0
        t = (time - self.starts[index]) / SECOND
        c0, c1, c2, c3 = self.pieces[index]
        return c0 + t * (c1 + t * (c2 + t * c3)), c1 + t * (2 * c2 + t * 3 * c3)

    def splice(self, points: list[Point], start: int, now: int) -> Spline:
        """This path until `start`, or now if that has passed; then through the points to come."""
        to_come = [point for point in points if point[0] > now] or points[-1:]
        leave = max(start, now)
        if to_come[0][0] == leave:  # no time to get there from its start
            before = bisect_right(self.starts, leave - 1) - 1
            leave = max(now, self.starts[max(before, 0)])
        if to_come[0][0] <= leave:  # it ended between its arrival and this moment
            return Spline.through(to_come)
        new = Spline.through([(leave, *self.at(leave)), *to_come])
        # What has passed is dropped: trajectories may come in a stream, for hours.
        kept = slice(
            max(bisect_right(self.starts, now) - 1, 0), bisect_right(self.starts, leave - 1)
        )
        return Spline(self.starts[kept] + new.starts, self.pieces[kept] + new.pieces)
