"""How long each stage took lately: percentiles over a bounded window."""

from __future__ import annotations

from collections import deque

import numpy as np

WINDOW = 1000
"""Newest values per stage that count: 100 seconds at 10 Hz."""


class Timings:
    """Durations by stage. Every method belongs to the owner's thread."""

    def __init__(self) -> None:
        self._values: dict[str, deque[float]] = {}

    def record(self, stage: str, seconds: float) -> None:
        """Keep a duration, and forget the oldest of this stage if there are WINDOW already."""
        self._values.setdefault(stage, deque(maxlen=WINDOW)).append(seconds)

    def percentiles(self) -> dict[str, tuple[float, float, float]]:
        """Stage -> p50, p95, p99 in seconds, in the order in which the stages first came."""
        result = {}
        for stage, values in self._values.items():
            p50, p95, p99 = np.percentile(np.fromiter(values, float, len(values)), (50, 95, 99))
            result[stage] = (float(p50), float(p95), float(p99))
        return result
