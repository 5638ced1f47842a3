"""What torch's own compiler gives on a CPU, what it costs, and what `graph: auto` makes of it."""

import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.race.race import Entry, Process, ours
from pi0_ros.console import progress
from pi0_ros.policy.graph_cache import choose

FORM = "two-graph"
_INFERENCES = 5


@dataclass(frozen=True)
class Compiled:
    """Inductor beside no compiler, in one size.

    Attributes:
        size, dtype: of the model.
        eager_s, inductor_s: median CPU seconds of an inference.
        eager_ready_s: wall seconds of loading and the first inference.
        compile_s: the same with inductor and an empty cache.
        again_s: the same when the cache holds the graphs.
    """

    size: str
    dtype: str
    eager_s: float
    inductor_s: float
    eager_ready_s: float
    compile_s: float
    again_s: float

    @property
    def auto(self) -> str:
        """What `graph: auto` takes after `pi0 compile` has measured these."""
        return choose({"eager": self.eager_s, "inductor": self.inductor_s})


def measure_compiled(size: str, job: dict[str, Any], cache: Path) -> Compiled:
    """One model without a compiler, compiled, and compiled again from the cache.

    Args:
        job: see `ours.load`.
        cache: a directory that is not there yet.
    """
    inductor = ours("inductor", FORM, cache)
    with progress(total=3, desc=f"{size} compiled", unit="start") as bar:
        eager_ready, eager = _measure(ours(), job, bar)
        compile_s, _ = _measure(inductor, job, bar)
        again, seconds = _measure(inductor, job, bar)
    return Compiled(size, job["dtype"], eager, seconds, eager_ready, compile_s, again)


def _measure(entry: Entry, job: dict[str, Any], bar: Any) -> tuple[float, float]:
    """Wall seconds until the first inference is done, and CPU seconds of one after it."""
    with Process(entry, job, job["threads"]) as process:
        start = time.perf_counter()
        process.ask({"do": "infer"})
        ready = process.loaded["load_s"] + time.perf_counter() - start
        runs = [process.ask({"do": "infer"})["cpu_s"] for _ in range(_INFERENCES)]
    bar.update()
    return ready, statistics.median(runs)
