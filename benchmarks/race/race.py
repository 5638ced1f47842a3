"""The contestants' processes, and taking turns with them."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.race.case import STAGES, Case
from pi0_ros.console import progress
from pi0_ros.errors import UserError

OURS, NEW, OLD = "pi0_ros", "lerobot 0.4.4", "lerobot 0.3.3"
NEWEST = "lerobot 0.6.1"
_ROOT = Path(__file__).resolve().parents[2]


class BenchError(UserError, RuntimeError):
    """The benchmark cannot go on; the message says why."""


@dataclass(frozen=True)
class Entry:
    """A contestant: its name in tables, and how its process starts.

    Attributes:
        job: what its process is told, besides the case.
        path: PYTHONPATH of its process, before this package.
    """

    name: str
    module: str
    job: dict[str, Any]
    path: tuple[Path, ...] = ()


@dataclass
class Result:
    """Figures of a contestant in a case, over all its runs.

    Attributes:
        cpu_s, wall_s: median seconds of an inference, process CPU time and wall time.
        cpu_spread: (largest - smallest) / median of the CPU times.
        stages: median CPU seconds of vision, prefix, denoise, rest.
        load_s, load_cpu_s: of making the policy ready, imports apart.
        first_s: wall seconds of the first inference after each start, compilation within it.
        peak_bytes: most memory of the process, libraries included.
        bytes_before: of the process before it loaded.
        aten_calls: `total`, `non_view`, `gemm` of an inference.
        actions: normalised [horizon, max_action_dim].
    """

    name: str
    dtype: str
    cpu_s: float = 0.0
    wall_s: float = 0.0
    cpu_spread: float = 0.0
    stages: dict[str, float] = field(default_factory=dict)
    load_s: float = 0.0
    load_cpu_s: float = 0.0
    first_s: list[float] = field(default_factory=list)
    peak_bytes: int = 0
    bytes_before: int = 0
    aten_calls: dict[str, int] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    runs: list[dict[str, Any]] = field(default_factory=list, repr=False)
    actions: Tensor | None = None

    def finish(self) -> "Result":
        """Work out medians from the runs."""
        cpu = [run["cpu_s"] for run in self.runs]
        self.cpu_s = statistics.median(cpu)
        self.wall_s = statistics.median(run["wall_s"] for run in self.runs)
        self.cpu_spread = (max(cpu) - min(cpu)) / self.cpu_s
        self.stages = {s: statistics.median(run["stages"][s] for run in self.runs) for s in STAGES}
        self.peak_bytes = max(run["peak_bytes"] for run in self.runs)
        return self

    def figures(self) -> dict[str, Any]:
        """For JSON."""
        return {k: v for k, v in asdict(self).items() if k not in ("runs", "actions", "name")}


def ours(graph: str = "eager", form: str = "frame", cache: Path | None = None) -> Entry:
    """This package, compiled or not; see `GraphOptions`."""
    name = OURS if graph == "eager" else f"{OURS} {graph}"
    job = {"graph": graph, "form": form, "cache": None if cache is None else str(cache)}
    return Entry(name, "benchmarks.race.ours", job)


def peers_installed(directory: Path) -> bool:
    """Whether the versions of LeRobot are there, put there by `make reference`."""
    folders = ("lerobot-0.6.1", "lerobot-0.4.4", "lerobot-0.3.3", "common")
    return all((directory / folder).is_dir() for folder in folders)


def peers(directory: Path, dtype: str, variant: str) -> list[Entry]:
    """LeRobot's, from a directory that `make reference` filled. 0.3.3 computes in bfloat16 only;
    pi0.5 is raced with 0.6.1's.
    """
    versions = {NEW: "0.4.4", OLD: "0.3.3"} if dtype == "bfloat16" else {NEW: "0.4.4"}
    if variant == "pi05":
        versions = {NEWEST: "0.6.1"}
    return [
        Entry(
            name,
            "benchmarks.race.peer",
            {"peer": version},
            (directory / f"lerobot-{version}", directory / "common"),
        )
        for name, version in versions.items()
    ]


class Process:
    """A contestant's process, ready to infer; ends with the `with` block."""

    def __init__(self, entry: Entry, job: dict[str, Any], threads: int) -> None:
        path = [str(p) for p in (*entry.path, _ROOT)]
        # The ROS wheels of PyPI mark an interpreter that they re-executed.
        env = {k: v for k, v in os.environ.items() if k != "_ROS_WHEELS_BOOTSTRAP_COMPLETE"}
        env |= {"PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": str(threads)}
        env |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        self.entry = entry
        self._process = subprocess.Popen(
            [sys.executable, "-m", entry.module],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if not sys.stderr.isatty() else None,
            text=True,
        )
        self.loaded = self.ask({**job, **entry.job})

    def ask(self, command: dict[str, Any]) -> dict[str, Any]:
        """Send a command, wait for its answer."""
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps(command) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            errors = process.stderr.read() if process.stderr else "see above"
            status = process.wait()
            raise BenchError(f"{self.entry.name}: its process ended, status {status}: {errors}")
        return json.loads(line)

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *error: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()


def race(
    entries: Sequence[Entry],
    case: Case,
    job: dict[str, Any],
    scratch: Path,
    runs: int,
    *,
    together: bool,
    counts: bool = True,
) -> list[Result]:
    """Run the contestants by turns.

    Args:
        job: what every process is told; see `ours.load` and `peer.load`.
        runs: inferences of each that count; one before them does not.
        together: whether all fit into memory at once. Otherwise each round starts and ends every
            process, in turn, and a round is half of the runs.
        counts: also count operators.
    """
    results = {entry.name: Result(entry.name, case.dtype) for entry in entries}
    rounds = 1 if together else 2
    share = [runs - runs // rounds * (rounds - 1), *[runs // rounds] * (rounds - 1)]
    total = sum(share) * len(entries)
    with progress(total=total, desc=f"{case.size} {case.dtype}", unit="inference") as bar:
        for number, wanted in enumerate(share):
            if together:
                with ExitStack() as stack:
                    started = []
                    for entry in entries:
                        started.append(stack.enter_context(Process(entry, job, case.threads)))
                    _begin(started, results, scratch, counts)
                    for _ in range(wanted):
                        for process in started:
                            _run(process, results, bar)
                continue
            for entry in entries:
                if wanted:
                    with Process(entry, job, case.threads) as process:
                        _begin([process], results, scratch, counts and number == 0)
                        for _ in range(wanted):
                            _run(process, results, bar)
    return [result.finish() for result in results.values()]


def _begin(
    processes: Sequence[Process], results: dict[str, Result], scratch: Path, counts: bool
) -> None:
    for process in processes:
        result = results[process.entry.name]
        loaded = process.loaded
        result.load_s, result.load_cpu_s = loaded["load_s"], loaded["load_cpu_s"]
        result.bytes_before, result.versions = loaded["bytes_before"], loaded["versions"]
        file = scratch / "actions.safetensors"
        start = time.perf_counter()
        process.ask({"do": "actions", "file": str(file)})
        result.first_s.append(time.perf_counter() - start)
        result.actions = load_file(file)["actions"].clone()
        if counts:
            result.aten_calls = process.ask({"do": "count"})


def _run(process: Process, results: dict[str, Result], bar: Any) -> None:
    results[process.entry.name].runs.append(process.ask({"do": "infer"}))
    bar.update()


def agreement(a: Tensor, b: Tensor) -> tuple[float, float]:
    """Largest difference and cosine of two chunks."""
    a, b = a.double().flatten(), b.double().flatten()
    return float((a - b).abs().max()), float(torch.cosine_similarity(a, b, dim=0))
