"""The figures of a benchmark: as a table for a terminal, as JSON, and as the targets they meet."""

import os
import platform
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
from pi0_ros.console import table
from pi0_ros.policy.graph_cache import chip_name


@dataclass(frozen=True)
class Group:
    """The contestants in one case, ours first.

    Attributes:
        bound: stage -> seconds, at the machine's best rate; see `machine.bound`.
        shapes: stage -> seconds of the products alone; see `machine.by_shape`.
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
        overhead: the figures that `python -m benchmarks.overhead --json` wrote.
    """

    groups: list[Group] = field(default_factory=list)
    int8_s: float | None = None
    compiled: list[Compiled] = field(default_factory=list)
    overhead: dict[str, Any] | None = None
    load: Load | None = None
    image_s: float | None = None
    start: Start | None = None
    scaling: dict[str, Growth] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


def text(report: Report) -> str:
    """Tables for a terminal."""
    return "\n\n".join([*map(group_text, report.groups), *_others(report), *report.missing])


def group_text(group: Group) -> str:
    """One case as a table."""
    machine, threads = group.machine, group.case.threads
    headers = ("CPU seconds", "all", "spread", "wall", *STAGES, "x bound", "x ours")
    headers += ("peak GB", "load s", "calls", "no view", "gemm", "max diff", "cosine")
    first, rows = group.results[0], []
    for result in group.results:
        difference, cosine = _agreement(first, result)
        calls = (result.aten_calls.get(kind, 0) for kind in ("total", "non_view", "gemm"))
        rows.append(
            (
                result.name,
                f"{result.cpu_s:.3f}",
                f"{result.cpu_spread:.0%}",
                f"{result.wall_s:.3f}",
                *(f"{result.stages[stage]:.3f}" for stage in STAGES),
                f"{result.cpu_s / group.bound_s:.2f}",
                f"{result.cpu_s / first.cpu_s:.2f}",
                f"{result.peak_bytes / 1e9:.2f}",
                f"{result.load_s:.2f}",
                *calls,
                f"{difference:.1e}",
                f"{cosine:.6f}",
            )
        )
    for name, seconds in (("bound", group.bound), ("products alone", group.shapes)):
        total = sum(seconds.values())
        ratios = f"{total / group.bound_s:.2f}", f"{total / first.cpu_s:.2f}"
        stages = (f"{seconds[stage]:.3f}" for stage in STAGES)
        rows.append((name, f"{total:.3f}", "", "", *stages, *ratios, *[""] * 7))
    return "\n".join(
        (
            group.title,
            f"{threads} thread(s): products {machine.gemm / 1e9:.0f} GFLOP/s (torch's own "
            f"{machine.torch_gemm / 1e9:.0f}, oneDNN {machine.onednn_gemm / 1e9:.0f}), memory "
            f"{machine.bandwidth / 1e9:.1f} GB/s; bound {group.bound_s:.3f} s, products at their "
            f"own shapes {group.shapes_s:.3f} s",
            table(rows, headers, "<".ljust(len(headers), ">")),
        )
    )


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
    if report.image_s is not None:
        yield f"two 640 x 480 images to model input: {report.image_s * 1e3:.2f} ms of CPU time"
    if report.start is not None:
        yield (
            f"pi0_node with a tiny checkpoint: active after {report.start.wall_s:.2f} s, "
            f"{report.start.cpu_s:.2f} s of CPU time with its end"
        )
    if report.compiled:
        headers = ("torch inductor, two graphs", "CPU s", "eager", "ready s: eager", "compiling")
        rows = [
            (
                f"{c.size} size, {c.dtype}",
                f"{c.inductor_s:.3f}",
                f"{c.eager_s:.3f}",
                *(f"{s:.1f}" for s in (c.eager_ready_s, c.compile_s, c.again_s)),
                c.auto,
            )
            for c in report.compiled
        ]
        yield table(rows, (*headers, "from cache", "auto"), "<>>>>>>")
    if report.scaling:
        rows = []
        for name, growth in report.scaling.items():
            rows.append((name, "", *growth.values))
            rows.append(("", "seconds", *(f"{s:.3f}" for s in growth.seconds)))
            rows.append(("", "bound", *(f"{s:.3f}" for s in growth.predicted)))
        columns = max(map(len, rows))
        padded = [(*row, *[""] * (columns - len(row))) for row in rows]
        yield "\n".join(
            (
                "growth, medium size: seconds measured, and bound of arithmetic and bytes",
                table(padded, align="<<".ljust(columns, ">")),
            )
        )


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
        "image_s": report.image_s,
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
    """The processor's name, its number of cores, and what speeds up bfloat16."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.is_file() else ""
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "").split()
    fast = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
    vectors = ", ".join(fast) or "no vector extensions known"
    return f"{chip_name(torch.device('cpu'))} ({os.cpu_count()} cores; {vectors})"
