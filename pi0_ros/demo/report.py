"""Figures of the demo: what was touched, how old and how fast the chunks were, what was refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from pi0_ros import console
from pi0_ros.demo.commands import Commands, commands_of
from pi0_ros.demo.record import Attempt, Record
from pi0_ros.motion.limits import JointLimits
from pi0_ros.replay.report import milliseconds, pair, reasons
from pi0_ros.ros.diagnostics import refused_since

_MANY = 0.1  # share of late ticks above which the machine is to blame, not the policy
_LATE = ("stale", "skewed", "expired", "timeout")  # reasons of refusals


@dataclass(frozen=True)
class Report:
    """What the table shows. The names are the keys of `--json`, which JSON_KEYS in command.py
    explains; `attempts` are its `instructions`.
    """

    attempts: tuple[Attempt, ...]
    successes: int
    chunks: int
    trajectories: int
    images_hz: float
    age_ms: Mapping[str, float | None]
    inference_ms: Mapping[str, float | None]
    overhead_ms: Mapping[str, float | None]
    ticks: int
    busy_ticks: int
    refused: Mapping[str, int]
    stops: int
    resets: int
    commands: Commands
    warnings: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Every instruction was followed, and no command stepped."""
        return self.successes == len(self.attempts) and self.commands.smooth

    def document(self) -> dict[str, object]:
        """As plain values."""
        document = asdict(self)
        kept = ("instruction", "touched", "right", "seconds")
        attempts = [{key: a[key] for key in kept} for a in document.pop("attempts")]
        return {"instructions": attempts, **document}


def make_report(record: Record, limits: JointLimits, version: str) -> Report:
    """The figures of a run that came to its end, with a controller of that version."""
    last = record.counters[-1]
    inference = record.statuses.get("inference", {})
    first, end, count = record.images
    report = Report(
        attempts=tuple(record.attempts),
        successes=sum(attempt.right for attempt in record.attempts),
        chunks=len(record.chunks),
        trajectories=last.trajectories,
        images_hz=(count - 1) / (end - first) * 1e9 if end > first else 0.0,
        age_ms=milliseconds(min(chunk.camera_ages) for _, chunk in record.chunks),
        inference_ms=milliseconds(chunk.inference_time for _, chunk in record.chunks),
        overhead_ms={
            name: float(text) if (text := inference.get(f"overhead.{name}_ms")) else None
            for name in ("p50", "p99")
        },
        ticks=last.ticks,
        busy_ticks=last.busy,
        refused=refused_since(record.counters, record.attempts[0].begun),
        stops=int(record.statuses["limits"]["stops"]),
        resets=record.resets,
        commands=commands_of(record.trajectories, limits, version),
    )
    return replace(report, warnings=tuple(_warnings(report)))


def _warnings(report: Report) -> list[str]:
    warnings = []
    late = report.busy_ticks + sum(report.refused.get(reason, 0) for reason in _LATE)
    if late > _MANY * report.ticks:
        warnings.append(
            f"{late} of {report.ticks} ticks found the policy busy or images old: this machine is "
            "too slow or busy with other things; a smaller --speed gives it more time"
        )
    if report.stops:
        warnings.append(f"stops of the arm because no chunk came: {report.stops}")
    if not report.commands.smooth:
        warnings.append(
            f"the command of joint {report.commands.joint} steps by {report.commands.step:.2f}"
            " times its velocity limit in one cycle of the controller"
        )
    return warnings


def format_report(report: Report) -> str:
    """The figures for people, a line each."""
    rows = [
        *((attempt.instruction, attempt.verdict) for attempt in report.attempts),
        ("right", f"{report.successes} of {len(report.attempts)}"),
        ("chunks; trajectories", f"{report.chunks}; {report.trajectories}"),
        ("points of a trajectory", "-".join(str(n) for n in sorted(set(report.commands.points)))),
        ("largest command step, of the velocity limit", f"{report.commands.step:.2f} times"),
        ("images of each camera", f"{report.images_hz:.1f} per second"),
        ("age of the newest image at publication, p50 / p95", pair(report.age_ms)),
        ("inference time, p50 / p95", pair(report.inference_ms)),
        ("overhead of the node, p50 / p99", pair(report.overhead_ms)),
        ("ticks that found the policy busy", f"{report.busy_ticks} of {report.ticks}"),
        ("observations refused since the first instruction", reasons(report.refused)),
    ]
    return "\n".join([console.table(rows), *(f"warning: {text}" for text in report.warnings)])
