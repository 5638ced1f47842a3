"""What there is to see of the newest chunks: which part is which, and its colour. No ROS.

The newest chunk is a path of the tool, coloured by time from NEAR to FAR. What is due of it already
is `executed` if it went out as a trajectory, `passed` in a dry run. `replaced` is the part of the
chunk before it that a newer one took over from; `rejected`, a chunk that was not let out.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from pi0_ros.viz.kinematics import Arm

Colour = tuple[float, float, float, float]

NEAR: Colour = (0.0, 0.85, 1.0, 1.0)
FAR: Colour = (1.0, 0.0, 0.8, 1.0)
"""Red, green, blue, opacity of the first and of the last step of a chunk."""

EXECUTED: Colour = (0.1, 0.8, 0.2, 1.0)
PASSED: Colour = (0.2, 0.5, 0.45, 1.0)
REPLACED: Colour = (0.6, 0.6, 0.6, 0.6)
REJECTED: Colour = (1.0, 0.1, 0.05, 1.0)

TRAIL = 2.0
"""Seconds for which a chunk's executed part stays in sight."""

REJECTED_FOR = 1.0
"""Seconds for which a rejected chunk stays in sight."""

_SECOND = 1_000_000_000


@dataclass(frozen=True)
class ToolPath:
    """A chunk as the tool's path.

    Attributes:
        times: [steps] int64, nanoseconds at which each step is due.
        places: [steps, 3] float64, metres in the frame of the robot's root link.
        turns: [steps, 4] float64, quaternions x, y, z, w.
        sent: whether it went out as a trajectory.
        stamp: time of the observation, nanoseconds.
        sequence: number of the chunk.
        instruction: what it answers.
    """

    times: np.ndarray
    places: np.ndarray
    turns: np.ndarray
    sent: bool
    stamp: int
    sequence: int
    instruction: str


def tool_path(
    arm: Arm,
    positions: np.ndarray,
    stamp: int,
    dt: float,
    sequence: int,
    instruction: str,
    sent: bool,
) -> ToolPath:
    """The tool's path of a chunk: `positions` [steps, joints], step i due (i + 1) * `dt` seconds
    after `stamp` (nanoseconds); the other arguments as in ToolPath.
    """
    step = round(dt * _SECOND)
    times = stamp + step * np.arange(1, len(positions) + 1, dtype=np.int64)
    return ToolPath(times, *arm.tool_poses(positions), sent, stamp, sequence, instruction)


@dataclass(frozen=True)
class Line:
    """A line through `places` [points, 3], in metres; `colours` [points, 4], 0 to 1."""

    name: str
    places: np.ndarray
    colours: np.ndarray


class Scene:
    """The newest chunk and what led up to it.

    Attributes:
        newest: the chunk that was published last, or None.
    """

    def __init__(self) -> None:
        self.newest: ToolPath | None = None
        self._since = 0  # nanoseconds at which it was published
        self._replaced: ToolPath | None = None
        # Steps of chunks before that came due: times and places; all of them sent, or none.
        self._trail: deque[tuple[np.ndarray, np.ndarray]] = deque()
        self._rejected: tuple[int, np.ndarray, str] | None = None  # until, places, why

    def add(self, path: ToolPath, now: int) -> None:
        """A chunk was published at `now` (nanoseconds), and takes over."""
        before, self.newest = self.newest, path
        if before is not None:
            done = self._done(before, now)
            if done.any():
                self._trail.append((before.times[done], before.places[done]))
            if before.sent != path.sent:
                self._trail.clear()
            while self._trail and self._trail[0][0][-1] < now - TRAIL * _SECOND:
                self._trail.popleft()
        self._replaced, self._since = before, now

    def reject(self, places: np.ndarray, why: str, now: int) -> None:
        """A chunk with these places [steps, 3], perhaps none, was refused for a reason."""
        self._rejected = now + round(REJECTED_FOR * _SECOND), places, why

    def lines(self, now: int) -> list[Line]:
        """What there is to draw at a time in nanoseconds; each has two points or more."""
        path, lines = self.newest, []
        if path is not None:
            done = path.places[self._done(path, now)]
            done = np.concatenate([*(places for _, places in self._trail), done])
            if path.sent:
                lines.append(_even("executed", done, EXECUTED))
            else:
                lines.append(_even("passed", done, PASSED))
            # It goes on from the last step that is due, so that there is no gap.
            first = max(0, int((path.times <= now).sum()) - 1)
            lines.append(Line("chunk", path.places[first:], ramp(len(path.times))[first:]))
        if self._replaced is not None:
            left = self._replaced.times > now
            lines.append(_even("replaced", self._replaced.places[left], REPLACED))
        rejected = self._rejection(now)
        if rejected is not None:
            lines.append(_even("rejected", rejected[1], REJECTED))
        return [line for line in lines if len(line.places) > 1]

    def text(self, now: int) -> str:
        """The instruction and the chunk's age, and why a chunk was rejected."""
        lines = []
        if self.newest is not None:
            age = (now - self.newest.stamp) / _SECOND
            lines = [self.newest.instruction, f"chunk {self.newest.sequence}, {age:.2f} s old"]
        rejected = self._rejection(now)
        if rejected is not None:
            lines.append(f"rejected: {rejected[2]}")
        return "\n".join(line for line in lines if line)

    def _done(self, path: ToolPath, now: int) -> np.ndarray:
        """Which steps of the newest chunk came due since it was published."""
        return (path.times > self._since) & (path.times <= now)

    def _rejection(self, now: int) -> tuple[int, np.ndarray, str] | None:
        rejected = self._rejected
        return rejected if rejected is not None and now < rejected[0] else None


def ramp(steps: int) -> np.ndarray:
    """[steps, 4] float64: colours from NEAR to FAR."""
    share = np.linspace(0.0, 1.0, steps)[:, None]
    return (1 - share) * np.array(NEAR) + share * np.array(FAR)


def _even(name: str, places: np.ndarray, colour: Colour) -> Line:
    return Line(name, places, np.tile(np.array(colour), (len(places), 1)))
