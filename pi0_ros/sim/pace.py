"""When the next steps of the simulation are due, and at which times they end."""

from __future__ import annotations

import time
from collections.abc import Callable

MAX_LAG = 0.5
"""Seconds of real time that late steps may catch up; more is left out."""


class Pace:
    """Steps of simulated time, due as real time passes.

    Without a clock of its own, times are the system's (nanoseconds since 1970) and follow it where
    it is set. With one, they begin at `step` and grow by it: 0 means "no time" in ROS.

    Args:
        step: nanoseconds of simulated time.
        speed: simulated per real time.
        own_clock: see above.
        steady, system: clocks, nanoseconds.

    Raises:
        ValueError: the speed is not above 0, or not 1 without a clock of its own.
    """

    def __init__(
        self,
        step: int,
        speed: float = 1.0,
        own_clock: bool = False,
        *,
        steady: Callable[[], int] = time.monotonic_ns,
        system: Callable[[], int] = time.time_ns,
    ) -> None:
        if not 0 < speed < float("inf"):
            raise ValueError(f"the speed must be above 0, got {speed}")
        if speed != 1 and not own_clock:
            raise ValueError(f"a speed of {speed} needs simulated time: without it time is real")
        self._step, self._speed, self._own_clock = step, speed, own_clock
        self._steady, self._system = steady, system
        self._begun = steady()
        self._taken = 0  # steps since `_begun`
        self._own_time = step
        self.left_out = 0.0
        """Seconds of real time that were left out so far, because steps came far too late."""

    @property
    def now(self) -> int:
        """The robot's time, nanoseconds."""
        return self._own_time if self._own_clock else self._system()

    def wait(self) -> float:
        """Seconds of real time until the next step is due; 0 if one is."""
        return max(0.0, (self._due_at(self._taken + 1) - self._steady()) / 1e9)

    def steps(self) -> list[int]:
        """Takes the steps that are due: the times at which they end, oldest first."""
        steady, system = self._steady(), self._system()
        late = (steady - self._due_at(self._taken + 1)) / 1e9 - MAX_LAG
        if late > 0:
            self._begun += round(late * 1e9)
            self.left_out += late
        ends = []
        while (due := self._due_at(self._taken + 1)) <= steady:
            self._taken += 1
            self._own_time += self._step
            ends.append(self._own_time if self._own_clock else system - (steady - due))
        return ends

    def _due_at(self, step: int) -> int:
        return self._begun + round(step * self._step / self._speed)
