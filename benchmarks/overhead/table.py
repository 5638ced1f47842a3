"""The figures as a table: for a terminal, and for docs/reliability.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.overhead.figures import OVERHEAD_LIMIT, STOP_LIMIT, Figures
from pi0_ros import console

_TARGET = (
    f"target: p99 overhead <= {OVERHEAD_LIMIT * 1e3:g} ms, no tick lost,"
    f" p99 of stops <= {STOP_LIMIT * 1e3:g} ms"
)


def table(runs: Sequence[Figures]) -> list[list[str]]:
    """Rows of cells; the first row names the runs, the first column the figures."""
    head = ["", *(str(run.case) for run in runs)]
    rows = [_row(run) for run in runs]
    return [head, *([label, *(row[label] for row in rows)] for label in rows[0])]


def _row(run: Figures) -> dict[str, str]:
    lost = run.lost
    reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(run.refused.items()))
    cpu = f"{run.node_cpu:.0%}"
    if run.policy_cpu is not None:
        cpu += f", policy {run.policy_cpu:.0%}"
    stops = {}
    if run.stop_ms is not None:
        stops[f"{run.stops} emergency stops, to the stopping trajectory, ms"] = _spread(run.stop_ms)
    return {
        "seconds measured": f"{run.seconds:.0f}",
        f"ticks per second ({run.case.rate_hz:g} wanted)": f"{run.tick_hz:.2f}",
        "lost ticks: missed, busy, refused": f"{lost.missed}, {lost.busy}, {lost.refused} of"
        f" {lost.due}" + (f" ({reasons})" if reasons else ""),
        "overhead p50 / p95 / p99, ms": _spread(run.overhead_ms),
        "of it decoding and transfer, ms": _spread(run.transfer_ms),
        "inference p50 / p95 / p99, ms": _spread(run.inference_ms),
        "age of the newest image at the tick, ms": _spread(run.image_age_ms),
        "trajectories that arrived": str(run.trajectories),
        "the robot sent, Hz": ", ".join(f"{hz:.1f}" for hz in run.robot_hz.values()),
        "CPU of the node's process": cpu,
        **stops,
        _TARGET: "met" if run.met else "not met",
    }


def _spread(values: Mapping[str, float]) -> str:
    return " / ".join(f"{value:.2f}" for value in values.values())


def text(runs: Sequence[Figures]) -> str:
    """For a terminal."""
    head, *rows = table(runs)
    return console.table(rows, head)


def markdown(runs: Sequence[Figures], about: Sequence[str]) -> str:
    """For docs/reliability.md; `about` are sentences on date, machine, versions, and so on."""
    head, *rows = ["| " + " | ".join(row) + " |" for row in table(runs)]
    return "\n".join([*about, "", head, "|---" * (len(runs) + 1) + "|", *rows])
