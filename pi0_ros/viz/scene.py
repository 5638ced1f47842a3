"""What is drawn of the newest chunks: lines, their colours and a text. No ROS.

The newest chunk is a path of the tool, coloured by time from NEAR to FAR. Its steps that are due
already form the line `executed` if the chunk was published as a trajectory, and `passed` in a dry
run. `replaced` is the rest of the chunk before it; `rejected`, a chunk that was refused.

A chunk says only whether it was executed. Which steps of it were follows from the next chunk: a
chunk holds from the time at which it came to the time at which the next one came.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pi0_ros.collision.kinematics import Arm

Colour = tuple[float, float, float, float]

NEAR: Colour = (0.0, 0.85, 1.0, 1.0)
FAR: Colour = (1.0, 0.0, 0.8, 1.0)
"""Red, green, blue, opacity of the first and of the last step of a chunk."""

EXECUTED: Colour = (0.1, 0.8, 0.2, 1.0)
PASSED: Colour = (0.2, 0.5, 0.45, 1.0)
REPLACED: Colour = (0.6, 0.6, 0.6, 0.6)
REJECTED: Colour = (1.0, 0.1, 0.05, 1.0)

TRAIL = 2.0
"""Seconds for which the executed part of a chunk is drawn."""

REJECTED_FOR = 1.0
"""Seconds for which a rejected chunk is drawn."""

_SECOND = 1_000_000_000


@dataclass(frozen=True)
class ToolPath:
    """A chunk as the tool's path.

    Attributes:
        times: [steps] int64, nanoseconds at which each step is due.
        places: [steps, 3] float64, metres in the frame of the robot's root link.
        orientations: [steps, 4] float64, quaternions x, y, z, w.
        executed: whether it was published as a trajectory.
        stamp: time of the observation, nanoseconds.
        sequence: number of the chunk.
        instruction: the prompt that it answers.
    """

    times: np.ndarray
    places: np.ndarray
    orientations: np.ndarray
    executed: bool
    stamp: int
    sequence: int
    instruction: str


class ChunkLike(Protocol):
    """The part of a chunk that is drawn; see `pi0_ros.viz.chunk.Chunk`."""

    positions: np.ndarray
    dt: float
    stamp: int
    sequence: int
    instruction: str


def tool_path(arm: Arm, chunk: ChunkLike, executed: bool) -> ToolPath:
    """The tool's path of a chunk."""
    step = round(chunk.dt * _SECOND)
    times = chunk.stamp + step * np.arange(1, len(chunk.positions) + 1, dtype=np.int64)
    poses = arm.tool_poses(chunk.positions)
    return ToolPath(times, *poses, executed, chunk.stamp, chunk.sequence, chunk.instruction)


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
        self._since = 0  # nanoseconds at which it came
        self._replaced: ToolPath | None = None
        # Steps of earlier chunks that became due: times and places; all executed, or none.
        self._trail: deque[tuple[np.ndarray, np.ndarray]] = deque()
        self._rejected: tuple[int, np.ndarray, str] | None = None  # came at, places, reason
        self._collision: tuple[str, np.ndarray] | None = None

    def add(self, path: ToolPath, now: int) -> None:
        """A chunk came at `now` (nanoseconds) and replaces the one before it."""
        before, self.newest = self.newest, path
        if before is not None:
            done = self._done(before, now)
            if done.any():
                self._trail.append((before.times[done], before.places[done]))
            if before.executed != path.executed:
                self._trail.clear()
            while self._trail and self._trail[0][0][-1] < now - TRAIL * _SECOND:
                self._trail.popleft()
        self._replaced, self._since = before, now

    def reject(
        self,
        places: np.ndarray,
        why: str,
        now: int,
        collision: tuple[str, np.ndarray] | None = None,
    ) -> None:
        """A chunk with the places [steps, 3], perhaps none, was refused for the reason `why`.

        Args:
            collision: names of two links that would hit each other, and their origins [2, 3] then.
        """
        self._rejected, self._collision = (now, places, why), collision

    def collision(self, now: int) -> tuple[str, np.ndarray] | None:
        """Which links the rejected chunk would make hit each other, and their origins [2, 3]."""
        return self._collision if self._rejection(now) is not None else None

    def lines(self, now: int) -> list[Line]:
        """The lines at a time in nanoseconds; each has two points or more."""
        path, lines = self.newest, []
        if path is not None:
            done = path.places[self._done(path, now)]
            done = np.concatenate([*(places for _, places in self._trail), done])
            if path.executed:
                lines.append(_even("executed", done, EXECUTED))
            else:
                lines.append(_even("passed", done, PASSED))
            # The line begins at the last step that is due, so that there is no gap.
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
        """[steps] bool: the steps of a chunk that became due since it came."""
        return (path.times > self._since) & (path.times <= now)

    def _rejection(self, now: int) -> tuple[int, np.ndarray, str] | None:
        if self._rejected is None:
            return None
        return self._rejected if 0 <= now - self._rejected[0] < REJECTED_FOR * _SECOND else None


def ramp(steps: int) -> np.ndarray:
    """[steps, 4] float64: colours from NEAR to FAR."""
    share = np.linspace(0.0, 1.0, steps)[:, None]
    return (1 - share) * np.array(NEAR) + share * np.array(FAR)


def _even(name: str, places: np.ndarray, colour: Colour) -> Line:
    return Line(name, places, np.tile(np.array(colour), (len(places), 1)))
