"""Whether successive chunks agree: the object that each heads for, and the step between two.

Chunks as the policy made them, before the executor splices them.
"""

from __future__ import annotations

import itertools

import numpy as np

from pi0_ros.policy.types import ActionChunk
from pi0_ros.sim.world import World


class Succession:
    """Notes the chunks of a scene as they arrive.

    Attributes:
        aims: for each chunk, the object nearest to where the fingertip is at its end.
        steps: for each chunk but the first, radians between what it and the one before want at its
            arrival, of the joint that differs most.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._last: ActionChunk | None = None
        self.aims: list[str] = []
        self.steps: list[float] = []

    def note(self, chunk: ActionChunk, now: int) -> None:
        """A chunk arrived at `now` (nanoseconds); one that is not finite heads nowhere."""
        if not np.isfinite(chunk.positions).all():
            return
        self.aims.append(self._world.nearest(chunk.positions[-1]))
        if self._last is not None:
            # Nothing is wanted before the first action, which is due one step after the stamp.
            when = max(now, chunk.stamp + round(chunk.dt * 1e9))
            gap = _wanted(chunk, when) - _wanted(self._last, when)
            self.steps.append(float(np.abs(gap).max()))
        self._last = chunk


def changes(aims: tuple[str, ...]) -> int:
    """How many chunks head for another object than the chunk before."""
    return sum(one != other for one, other in itertools.pairwise(aims))


def _wanted(chunk: ActionChunk, when: int) -> np.ndarray:
    """[joints] radians at a time in nanoseconds; the last action holds."""
    place = (when - chunk.stamp) / 1e9 / chunk.dt - 1
    steps = np.arange(len(chunk.positions))
    return np.array([np.interp(place, steps, joint) for joint in chunk.positions.T])
