"""The figures as a table: for a terminal, and for docs/reliability.md."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

from benchmarks.overhead.figures import OVERHEAD_LIMIT, Figures, OverheadError

BEGIN, END = "<!-- overhead: begin -->", "<!-- overhead: end -->"

_TARGET = f"target: p99 overhead <= {OVERHEAD_LIMIT * 1e3:g} ms, no tick lost"
_PACKAGES = ("pi0_ros", "torch", "numpy")
_ROS = ("ros-jazzy-rclpy", "ros-kilted-rclpy")


def table(runs: Sequence[Figures]) -> list[list[str]]:
    """Rows of cells; the first row names the runs, the first column the figures."""
    head = ["", *(str(run.case) for run in runs)]
    rows = [_row(run) for run in runs]
    return [head, *([label, *(row[label] for row in rows)] for label in rows[0])]


def _row(run: Figures) -> dict[str, str]:
    lost = run.lost
    told = ", ".join(f"{reason} {count}" for reason, count in sorted(run.refused.items()))
    cpu = f"{run.node_cpu:.0%}"
    if run.policy_cpu is not None:
        cpu += f", policy {run.policy_cpu:.0%}"
    return {
        "seconds measured": f"{run.seconds:.0f}",
        f"ticks per second ({run.case.rate_hz:g} wanted)": f"{run.tick_hz:.2f}",
        "lost ticks: missed, busy, refused": f"{lost.missed}, {lost.busy}, {lost.refused} of"
        f" {lost.due}" + (f" ({told})" if told else ""),
        "overhead p50 / p95 / p99, ms": _spread(run.overhead_ms),
        "of it decoding and transfer, ms": _spread(run.transfer_ms),
        "inference p50 / p95 / p99, ms": _spread(run.inference_ms),
        "age of the newest picture at the tick, ms": _spread(run.image_age_ms),
        "trajectories that arrived": str(run.trajectories),
        "the robot sent, Hz": ", ".join(f"{hz:.1f}" for hz in run.robot_hz.values()),
        "CPU of the node's process": cpu,
        _TARGET: "met" if run.met else "not met",
    }


def _spread(values: Mapping[str, float]) -> str:
    return " / ".join(f"{value:.2f}" for value in values.values())


def text(runs: Sequence[Figures]) -> str:
    """For a terminal."""
    rows = table(runs)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def markdown(runs: Sequence[Figures], about: Sequence[str]) -> str:
    """For docs/reliability.md; `about` are sentences on date, machine, versions, and so on."""
    head, *rows = ["| " + " | ".join(row) + " |" for row in table(runs)]
    return "\n".join([*about, "", head, "|---" * (len(runs) + 1) + "|", *rows])


def has_marks(path: Path) -> bool:
    """Whether a file has the two marks that `write_between` needs."""
    _, begin, rest = path.read_text().partition(BEGIN)
    return bool(begin) and END in rest


def write_between(path: Path, block: str) -> None:
    """Put a block between the two marks of a file; text around it stays.

    Raises:
        OverheadError: the file lacks the marks.
    """
    if not has_marks(path):
        raise OverheadError(f"{path} lacks the lines {BEGIN} and {END}")
    before, _, rest = path.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    path.write_text(f"{before}{BEGIN}\n{block}\n{END}{after}")


def machine() -> str:
    """Processor, cores, and how busy the machine is."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].partition(":")[2].strip() if names else cpu
    load = os.getloadavg()[0]
    return f"{cpu}, {os.cpu_count()} cores, {load:.1f} processes wanting one beforehand"


def versions() -> str:
    """Of Python, ROS and what else the figures depend on."""
    told = [f"Python {platform.python_version()}"]
    ros = os.environ.get("ROS_DISTRO") or next(filter(None, map(_version, _ROS)), "")
    told.append(f"ROS {ros or 'of unknown version'}")
    told += [f"{name} {_version(name) or 'of unknown version'}" for name in _PACKAGES]
    return ", ".join(told)


def _version(package: str) -> str:
    try:
        name = package if package.startswith("ros-") else ""
        return f"{name} {metadata.version(package)}".strip()
    except metadata.PackageNotFoundError:
        return ""
