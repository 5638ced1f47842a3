"""An episode as recorded from the topics: what the robot did, what its controller commanded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from benchmarks.simulated.drive import controller_of
from benchmarks.simulated.rollout import Episode
from pi0_ros.sim.points import Points, Rejected
from pi0_ros.sim.stage import JOINTS


@dataclass(frozen=True)
class Tally:
    """What the node has counted since it began; `stops` and so on as in `Episode`."""

    ticks: int = 0
    busy: int = 0
    stops: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)
    clamped: Mapping[str, int] = field(default_factory=dict)
    latched: bool = False

    @staticmethod
    def read(statuses: Mapping[str, Mapping[str, str]]) -> Tally:
        """From the values of the node's statuses `observations` and `limits` in /diagnostics.

        Raises:
            KeyError, ValueError: a counter is missing or no number.
        """
        seen, limits = statuses["observations"], statuses["limits"]

        def counts(values: Mapping[str, str], prefix: str) -> dict[str, int]:
            return {
                k.removeprefix(prefix): int(v) for k, v in values.items() if k.startswith(prefix)
            }

        return Tally(
            int(seen["ticks"]),
            int(seen["busy"]),
            int(limits["stops"]),
            counts(seen, "refused."),
            counts(limits, "clamped."),
            bool(limits["latched"]),
        )


class Shadow:
    """Follows one scene with a second controller, which gets what the robot's controller gets.

    Both are the same program; they differ by the moments at which messages arrive, up to PERIOD.

    Args:
        controller: a key of `drive.CONTROLLERS`.
        period: nanoseconds between two joint states.

    Attributes:
        touched: the object touched first, or None.
        seconds: the robot's time since the first joint state.
        inference: seconds of every inference.
    """

    def __init__(self, controller: str, period: int) -> None:
        self._controller = controller_of(controller, JOINTS, period)
        self._start: np.ndarray | None = None
        self._begun = self._now = 0
        self._commands: list[np.ndarray] = []
        self._boundaries: list[float] = []
        self._taken = self._rejected = 0
        self.touched: str | None = None
        self.inference: list[float] = []

    @property
    def seconds(self) -> float:
        return (self._now - self._begun) / 1e9

    def state(self, stamp: int, positions: np.ndarray, velocities: np.ndarray) -> None:
        """A joint state, [joints] radians and radians per second; its stamp in nanoseconds."""
        if self._start is None:
            self._start, self._begun = positions, stamp
        self._now = stamp
        self._commands.append(self._controller.command(stamp, positions, velocities))

    def trajectory(self, points: Points) -> None:
        """What the node published."""
        if self._start is None:
            return  # of before
        try:
            self._controller.accept(points, self._now)
        except Rejected:
            self._rejected += 1
            return
        self._taken += 1
        first = (points.stamp or self._now) + int(points.times[0])
        for boundary in (self._now, max(first, self._now)):
            self._boundaries.append((boundary - self._begun) / 1e9)

    def episode(
        self, seed: int, instruction: str, targets: tuple[str, ...], before: Tally, after: Tally
    ) -> Episode:
        """What happened, with what the node counted between two moments."""
        assert self._start is not None
        stops = after.stops - before.stops
        return Episode(
            seed=seed,
            instruction=instruction,
            targets=targets,
            touched=self.touched,
            seconds=self.seconds,
            start=self._start,
            commands=np.array(self._commands),
            boundaries=np.array(sorted(set(self._boundaries))),
            ticks=after.ticks - before.ticks,
            busy=after.busy - before.busy,
            published=self._taken - stops,
            stops=stops,
            refused=_growth(before.refused, after.refused),
            rejected=self._rejected,
            clamped=_growth(before.clamped, after.clamped),
            latched=after.latched,
            inference=tuple(self.inference),
        )


def _growth(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    grown = {name: count - before.get(name, 0) for name, count in after.items()}
    return {name: count for name, count in grown.items() if count}
