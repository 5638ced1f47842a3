"""What happens to the ticks: counts and durations since the node began, and whether chunks come.

Pure Python.
"""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from dataclasses import dataclass, field

from pi0_ros.console import percentiles
from pi0_ros.motion.refusal import Refusal

SILENCE = 1.0
"""Seconds of steady time without a chunk that /diagnostics warns after; three periods of the ticks
if that is longer."""

WINDOW = 1000
"""Newest durations per stage that count: 100 seconds at 10 Hz."""


@dataclass
class Counts:
    """What happened since the node began.

    These hold whenever the executor is between two callbacks:
    ticks = busy + chunks + all refused, and besides the tick whose inference runs, and those whose
    inference a cleanup threw away.
    chunks = trajectories + chunks of dry runs. rejected = refused nonfinite + refused limits.

    Attributes:
        ticks: times the timer fired.
        busy: ticks that found the previous inference still running.
        chunks: messages on ~/action_chunk, without rejected ones.
        trajectories: those that were sent to the controllers, without stops.
        refused: reason -> ticks that led to no chunk, or to a rejected one.
        clamped: limit -> chunks that were brought within it; see `pi0_ros.motion.planner.Plan`.
        rejected: chunks with NaN, Inf or a large excess.
        deadline_misses: inferences longer than a period of the ticks, of those that led to a chunk.
        stops: stopping trajectories.
        errors: callbacks that raised what they should not.
    """

    ticks: int = 0
    busy: int = 0
    chunks: int = 0
    trajectories: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    clamped: Counter[str] = field(default_factory=Counter)
    rejected: int = 0
    deadline_misses: int = 0
    stops: int = 0
    errors: int = 0


class Timings:
    """Durations by stage, the newest WINDOW of each; every method belongs to one thread."""

    def __init__(self) -> None:
        self._values: dict[str, deque[float]] = {}

    def record(self, stage: str, seconds: float) -> None:
        """Keep a duration."""
        self._values.setdefault(stage, deque(maxlen=WINDOW)).append(seconds)

    def percentiles(self) -> dict[str, dict[str, float]]:
        """Stage -> p50, p95 and p99 in seconds, in the order in which the stages first came."""
        return {stage: percentiles(values, (50, 95, 99)) for stage, values in self._values.items()}


class Progress:
    """Whether chunks come, since an activation; times are steady, since /clock may stand still.

    Attributes:
        refusal: of the last tick; None when a chunk was accepted since.
    """

    def __init__(self, sim_time: bool, summary: str = "ready") -> None:
        """Being ready counts as a chunk and a tick; `sim_time`: ticks follow /clock."""
        self.refusal: Refusal | None = None
        self._sim_time, self._summary = sim_time, summary
        self._chunk_at = self._tick_at = time.monotonic()
        self._refused_at = -math.inf
        self._refused_since_report = False

    def on_tick(self) -> None:
        """The timer fired."""
        self._tick_at = time.monotonic()

    def on_chunk(self, executed: bool) -> None:
        """A chunk was accepted; `executed`: its trajectory was sent."""
        self._chunk_at, self.refusal = time.monotonic(), None
        dry = "publishing chunks only: not enabled (dry run)"
        self._summary = "publishing" if executed else dry

    def on_refusal(self, refusal: Refusal) -> None:
        """A tick was refused."""
        self.refusal = refusal
        self._refused_since_report = True
        self._refused_at = time.monotonic()
        self._summary = f"refused ({refusal.reason}): {refusal.detail}"

    def on_report(self) -> None:
        """The report of this second was published."""
        self._refused_since_report = False

    def state(self, period: float, busy: bool) -> tuple[bool, str]:
        """Whether chunks come as they should, and the state in a sentence.

        Args:
            period: seconds between two ticks.
            busy: an inference is running.
        """
        silence = self._silence(period, busy)
        refused = self._refused_since_report or self._refused_at > self._chunk_at
        return not refused and not silence, silence or self._summary

    def _silence(self, period: float, busy: bool) -> str:
        """Why no chunk came for long, in a sentence; "" while chunks come."""
        now = time.monotonic()
        limit = max(SILENCE, 3 * period)
        if now - self._chunk_at <= limit:
            return ""
        if self._refused_since_report:
            return self._summary
        if busy:
            cause = "the inference is still running"
        elif now - self._tick_at > limit:
            cause = "no tick: is /clock published?" if self._sim_time else "no tick"
        elif self._refused_at > self._chunk_at:
            return self._summary
        else:
            cause = "waiting for the next tick"
        return f"no chunk for {now - self._chunk_at:.1f} s: {cause}"
