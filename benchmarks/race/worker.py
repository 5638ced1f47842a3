"""One contestant in a process of its own: it loads, and then infers and counts when told to.

The parent writes a JSON object per line to its standard input and reads one per command from its
standard output; what libraries print goes to standard error. It needs torch and nothing else of
this package, because LeRobot's processes have other libraries.
"""

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_NO_WORK = {"_unsafe_view", "lift_fresh", "alias", "detach"}
_PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "convolution", "mkldnn_linear", "_linear_pointwise")


class Calls(TorchDispatchMode):
    """Counts the operators that reach the dispatcher.

    Without inference mode, which would hide what composite operators call; so use `torch.no_grad`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[Any] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict | None = None
    ) -> Any:
        self.counts[func] += 1
        return func(*args, **(kwargs or {}))

    def figures(self) -> dict[str, int]:
        """`total`, `non_view` (those that do work) and `gemm` (products and attention)."""
        out = {"total": 0, "non_view": 0, "gemm": 0}
        for func, count in self.counts.items():
            name = func._schema.name.partition("::")[2]
            out["total"] += count
            if not (func.is_view or name in _NO_WORK):
                out["non_view"] += count
            if name in _PRODUCTS or "scaled_dot_product" in name:
                out["gemm"] += count
        return out


@dataclass
class Stages:
    """Process CPU time and wall time of parts of an inference, found by wrapping functions."""

    spent: dict[str, list[float]] = field(default_factory=dict)

    def reset(self) -> None:
        self.spent = {}

    def wrap(self, owner: Any, name: str, stage: str) -> None:
        """Add the time of every call of owner.name to a stage."""
        inner = getattr(owner, name)

        def outer(*args: Any, **kwargs: Any) -> Any:
            with self.clock(stage):
                return inner(*args, **kwargs)

        setattr(owner, name, outer)

    @contextmanager
    def clock(self, stage: str) -> Any:
        cpu, wall = time.process_time(), time.perf_counter()
        try:
            yield
        finally:
            spent = self.spent.setdefault(stage, [0.0, 0.0])
            spent[0] += time.process_time() - cpu
            spent[1] += time.perf_counter() - wall


@dataclass(frozen=True)
class Contestant:
    """What a process offers.

    Attributes:
        infer: one inference, to normalised actions [horizon, max_action_dim].
        count: one inference outside of inference mode, see `Calls`.
        stages: `vision`, `prefix` with or without vision within it, `denoise`.
        vision_within: whether the stage `prefix` contains the stage `vision`.
        versions: library -> version.
    """

    infer: Callable[[], Tensor]
    count: Callable[[], Any]
    stages: Stages
    vision_within: bool
    versions: dict[str, str]


def memory() -> tuple[int, int]:
    """Bytes of this process in memory: now, and the most so far."""
    found = {}
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in ("VmRSS", "VmHWM"):
            found[name] = int(value.split()[0]) * 1024
    return found["VmRSS"], found["VmHWM"]


def measure(contestant: Contestant) -> dict[str, Any]:
    """One inference: `cpu_s`, `wall_s`, and CPU seconds by stage."""
    contestant.stages.reset()
    cpu, wall = time.process_time(), time.perf_counter()
    contestant.infer()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    spent = {name: seconds[0] for name, seconds in contestant.stages.spent.items()}
    stages = {name: spent.get(name, 0.0) for name in ("vision", "prefix", "denoise")}
    if contestant.vision_within:
        stages["prefix"] -= stages["vision"]
    stages["rest"] = cpu - sum(stages.values())
    return {"cpu_s": cpu, "wall_s": wall, "stages": stages}


def count(contestant: Contestant) -> dict[str, int]:
    """Operator calls of one inference, of an instruction that the contestant has seen before."""
    with torch.no_grad():
        contestant.count()
        with Calls() as calls:
            contestant.count()
    return calls.figures()


def serve(load: Callable[[dict[str, Any]], Contestant]) -> None:
    """Answer the parent until it closes the pipe.

    The first line is the job, answered by how loading went; the others name what to do: `infer`,
    `count`, or `actions` with a `file`.
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def answer(value: Any) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    job = json.loads(sys.stdin.readline())
    torch.set_num_threads(job["threads"])
    before, _ = memory()
    cpu, wall = time.process_time(), time.perf_counter()
    contestant = load(job)
    spent = {"load_cpu_s": time.process_time() - cpu, "load_s": time.perf_counter() - wall}
    answer({**spent, "bytes_before": before, "versions": contestant.versions})
    for line in sys.stdin:
        command = json.loads(line)
        if command["do"] == "infer":
            answer({**measure(contestant), "peak_bytes": memory()[1]})
        elif command["do"] == "count":
            answer(count(contestant))
        elif command["do"] == "actions":
            save_file({"actions": contestant.infer().contiguous()}, command["file"])
            answer({})
        else:
            raise ValueError(f"unknown command {command}")
