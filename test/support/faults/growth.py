"""Whether something grows while the node runs: memory, threads, open files, latency."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from support.faults.trial import Result
from support.waiting import NotWithin

if TYPE_CHECKING:
    from support.faults.testbed import Testbed

WARM_UP = 0.2
"""Share of a run that is not looked at: caches fill, the allocator finds its size."""


@dataclass(frozen=True)
class Sample:
    """The node at a moment.

    Attributes:
        at: steady seconds.
        rss_mb, threads, files: of its process.
        latency_ms: mean from an observation to the arrival of its chunk, since the last sample. The
            robot's images come in steps of 10 ms, by which a median would jump.
    """

    at: float
    rss_mb: float
    threads: float
    files: float
    latency_ms: float


def sample(testbed: Testbed) -> Sample:
    """Now; the latencies begin anew."""
    observer = testbed.observer
    latencies = list(observer.latencies)
    observer.latencies.clear()
    mean = float(np.mean(latencies)) * 1000 if latencies else float("nan")
    return Sample(at=time.monotonic(), latency_ms=mean, **testbed.node.figures())


def run_quietly(testbed: Testbed, seconds: float, period: float = 10.0) -> list[Sample]:
    """Nothing goes wrong for so long.

    Raises:
        NotWithin: the trajectories stopped.
    """
    samples = []
    observer = testbed.observer
    observer.latencies.clear()
    for _ in tqdm(range(max(1, round(seconds / period))), "running", unit="sample", leave=False):
        before = observer.trajectories
        time.sleep(min(period, seconds))
        if not testbed.node.lives():
            raise NotWithin(f"the node has ended; {testbed.node.tail}")
        if observer.trajectories == before:
            raise NotWithin(f"no trajectory for {period:g} s")
        samples.append(sample(testbed))
    return samples


def slope(samples: Sequence[Sample], key: str) -> float:
    """Change per hour of a straight line through the samples after the warm-up."""
    kept = _kept(samples)
    values = np.array([getattr(s, key) for s in kept])
    hours = np.array([s.at for s in kept]) / 3600
    good = np.isfinite(values)
    return float(np.polyfit(hours[good] - hours[0], values[good], 1)[0]) if good.sum() > 2 else 0.0


def judge_growth(name: str, samples: Sequence[Sample], rss_mb: float, latency_ms: float) -> Result:
    """Whether the end of a run is as its beginning, after the warm-up.

    Args:
        rss_mb, latency_ms: that the median of the last quarter may be above that of the first.
    """
    result = Result(name, how="")
    kept = _kept(samples)
    quarter = max(1, len(kept) // 4)
    notes = []
    allowed = {"rss_mb": rss_mb, "latency_ms": latency_ms, "threads": 1.0, "files": 3.0}
    for key, most in allowed.items():
        first = float(np.nanmedian([getattr(s, key) for s in kept[:quarter]]))
        last = float(np.nanmedian([getattr(s, key) for s in kept[-quarter:]]))
        notes.append(f"{key} {first:.1f} -> {last:.1f} ({slope(samples, key):+.2f}/h)")
        if last - first > most:
            result.problems.append(f"{key} grew from {first:.1f} to {last:.1f}, allowed {most:g}")
    result.note = ", ".join(notes)
    return result


def as_dicts(samples: Sequence[Sample]) -> list[dict[str, float]]:
    """For JSON; times count from the first."""
    return [{**asdict(s), "at": s.at - samples[0].at} for s in samples]


def _kept(samples: Sequence[Sample]) -> Sequence[Sample]:
    return samples[int(len(samples) * WARM_UP) :] or samples
