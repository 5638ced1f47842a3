"""The figures of a benchmark: as a table for a terminal, as JSON, and as the targets they meet."""

import os
import platform
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.race.case import STAGES, Case
from benchmarks.race.compile import Compiled
from benchmarks.race.load import Load, Start
from benchmarks.race.machine import Machine
from benchmarks.race.race import Result, agreement
from benchmarks.race.scaling import Growth


@dataclass(frozen=True)
class Group:
    """The contestants in one case, ours first.

    Attributes:
        bound: stage -> seconds, at the machine's best rate; see `bench_machine.bound`.
        shapes: stage -> seconds of the products alone; see `bench_machine.by_shape`.
        needed_bytes: weights that an inference reads.
    """

    case: Case
    results: tuple[Result, ...]
    machine: Machine
    bound: dict[str, float]
    shapes: dict[str, float]
    needed_bytes: int

    @property
    def title(self) -> str:
        c = self.case
        return f"{c.size} size, {c.dtype}, {c.cameras} cameras, {c.prompt} tokens, {c.steps} steps"

    @property
    def bound_s(self) -> float:
        return sum(self.bound.values())

    @property
    def shapes_s(self) -> float:
        return sum(self.shapes.values())

    def result(self, name: str) -> Result | None:
        return next((result for result in self.results if result.name == name), None)


@dataclass
class Report:
    """Everything that a run of the benchmark found.

    Attributes:
        int8_s: seconds of the first group's products if they were of int8.
        overhead: the figures that `pi0_overhead --json` wrote.
    """

    groups: list[Group] = field(default_factory=list)
    int8_s: float | None = None
    compiled: list[Compiled] = field(default_factory=list)
    overhead: dict[str, Any] | None = None
    load: Load | None = None
    picture_s: float | None = None
    start: Start | None = None
    scaling: dict[str, Growth] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


def text(report: Report) -> str:
    """Tables for a terminal."""
    return "\n\n".join([*map(group_text, report.groups), *_others(report), *report.missing])


def group_text(group: Group) -> str:
    """One case as a table."""
    machine, threads = group.machine, group.case.threads
    lines = [
        group.title,
        f"{threads} thread(s): products {machine.gemm / 1e9:.0f} GFLOP/s (torch's own "
        f"{machine.torch_gemm / 1e9:.0f}, oneDNN {machine.onednn_gemm / 1e9:.0f}), memory "
        f"{machine.bandwidth / 1e9:.1f} GB/s; bound {group.bound_s:.3f} s, products at their own "
        f"shapes {group.shapes_s:.3f} s",
        f"{'CPU seconds':20}{'all':>8}{'spread':>8}{'wall':>8}"
        + "".join(f"{stage:>9}" for stage in STAGES)
        + f"{'x bound':>9}{'x ours':>8}{'peak GB':>9}{'load s':>8}{'calls':>8}{'no view':>8}"
        f"{'gemm':>6}{'max diff':>10}{'cosine':>10}",
    ]
    first = group.results[0]
    for result in group.results:
        calls = result.aten_calls or dict.fromkeys(("total", "non_view", "gemm"), 0)
        difference, cosine = _agreement(first, result)
        lines.append(
            f"{result.name:20}{result.cpu_s:8.3f}{result.cpu_spread:8.0%}{result.wall_s:8.3f}"
            + "".join(f"{result.stages[stage]:9.3f}" for stage in STAGES)
            + f"{result.cpu_s / group.bound_s:9.2f}{result.cpu_s / first.cpu_s:8.2f}"
            f"{result.peak_bytes / 1e9:9.2f}{result.load_s:8.2f}{calls['total']:8}"
            f"{calls['non_view']:8}{calls['gemm']:6}{difference:10.1e}{cosine:10.6f}"
        )
    for name, seconds in (("bound", group.bound), ("products alone", group.shapes)):
        total = sum(seconds.values())
        lines.append(
            f"{name:20}{total:8.3f}{'':16}"
            + "".join(f"{seconds[stage]:9.3f}" for stage in STAGES)
            + f"{total / group.bound_s:9.2f}{total / first.cpu_s:8.2f}"
        )
    return "\n".join(lines)


def _agreement(first: Result, result: Result) -> tuple[float, float]:
    if first.actions is None or result.actions is None:
        raise ValueError(f"{result.name}: no actions were kept")
    return agreement(first.actions, result.actions)


def _others(report: Report) -> Iterable[str]:
    if report.load is not None:
        load = report.load
        yield (
            f"loading from disk, nothing cached: {load.ready_s:.2f} s; reading "
            f"{load.bytes / 1e9:.2f} GB of the file: {load.read_s:.2f} s"
        )
    if report.picture_s is not None:
        yield f"two 640 x 480 pictures to model input: {report.picture_s * 1e3:.2f} ms of CPU time"
    if report.start is not None:
        yield (
            f"pi0_node with a tiny checkpoint: active after {report.start.wall_s:.2f} s, "
            f"{report.start.cpu_s:.2f} s of CPU time with its end"
        )
    if report.compiled:
        lines = [
            f"{'torch inductor, two graphs':28}{'CPU s':>8}{'eager':>8}{'ready s: eager':>16}"
            f"{'compiling':>11}{'from cache':>12}{'auto':>10}"
        ]
        for c in report.compiled:
            lines.append(
                f"{c.size + ' size, ' + c.dtype:28}{c.inductor_s:8.3f}{c.eager_s:8.3f}"
                f"{c.eager_ready_s:16.1f}{c.compile_s:11.1f}{c.again_s:12.1f}{c.auto:>10}"
            )
        yield "\n".join(lines)
    if report.scaling:
        lines = ["growth, medium size: seconds measured, and bound of arithmetic and bytes"]
        for name, growth in report.scaling.items():
            lines.append(f"{name:16}{'':8}" + "".join(f"{v:>9}" for v in growth.values))
            lines.append(f"{'':16}{'seconds':8}" + "".join(f"{s:9.3f}" for s in growth.seconds))
            lines.append(f"{'':16}{'bound':8}" + "".join(f"{s:9.3f}" for s in growth.predicted))
        yield "\n".join(lines)


def figures(report: Report) -> dict[str, Any]:
    """For JSON; see docs/commands.md."""
    return {
        "about": about(),
        "cases": [
            {
                **asdict(group.case),
                "machine": asdict(group.machine),
                "bound_s": group.bound_s,
                "bound_stages": group.bound,
                "products_s": group.shapes_s,
                "needed_bytes": group.needed_bytes,
                "contestants": {
                    result.name: {
                        **result.figures(),
                        "ratio": result.cpu_s / group.bound_s,
                        "slower_than_ours": result.cpu_s / group.results[0].cpu_s,
                        "max_abs_difference": _agreement(group.results[0], result)[0],
                        "cosine": _agreement(group.results[0], result)[1],
                    }
                    for result in group.results
                },
            }
            for group in report.groups
        ],
        "load": None if report.load is None else asdict(report.load),
        "picture_s": report.picture_s,
        "start": None if report.start is None else asdict(report.start),
        "int8_products_s": report.int8_s,
        "compiled": [{**asdict(found), "auto": found.auto} for found in report.compiled],
        "scaling": {name: asdict(growth) for name, growth in report.scaling.items()},
        "missing": report.missing,
    }


def about() -> dict[str, str]:
    """Date, machine, versions, and how busy the machine was in the last 1, 5 and 15 minutes."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{_processor()}, {torch.get_num_threads()} thread(s) of torch's choice",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "load": " ".join(f"{value:.1f}" for value in os.getloadavg()),
    }


def _processor() -> str:
    """The processor's name, its number, and what speeds up bfloat16."""
    if not sys.platform.startswith("linux"):
        return platform.processor()
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    found = {name.strip(): value.strip() for name, value in fields.items()}
    flags = found.get("flags", "").split()
    fast = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
    cores = sum(line.startswith("processor") for line in lines)
    name = found.get("model name", platform.machine())
    return f"{name} ({cores} cores; {', '.join(fast) or 'no vector extensions known'})"
