"""Figures of the demo: who was touched, how old and how fast the chunks were, what was refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from pi0_ros.demo.record import Attempt, Record
from pi0_ros.replay.report import Percentiles
from pi0_ros.ros.diagnostics import refused_since
from pi0_ros.sim.score import Spread, boundary_steps
from pi0_ros.sim.shadow import Tally

_MANY = 0.1  # share of ticks that were late, which says more about the machine than the policy
_LATE = ("stale", "skewed", "expired", "timeout")  # reasons of refusals


@dataclass(frozen=True)
class Figures:
    """What the table shows; their names are the keys of `--json`.

    Attributes:
        instructions: the attempts, in order.
        successes: how many of them were right.
        chunks, trajectories: heard; trajectories as far as the controller took them.
        pictures_hz: of the front camera.
        age_ms: of the newest picture at a chunk's publication.
        inference_ms: wall time of the policy.
        overhead_ms: `p50` and `p99` of what the node adds to it; None where it does not say.
        ticks, busy_ticks: of the node's timer, and those that found the policy busy.
        refused: reason -> observations refused, since the first instruction.
        stops: trajectories that slowed the arm down because no other came.
        rejected: trajectories that the controller did not take.
        resets: calls of ~/reset, because something had latched.
        boundary_step_rad: by how much the command steps where a new trajectory takes over.
        warnings: sentences.
    """

    instructions: tuple[Attempt, ...]
    successes: int
    chunks: int
    trajectories: int
    pictures_hz: float
    age_ms: Percentiles
    inference_ms: Percentiles
    overhead_ms: Mapping[str, float | None]
    ticks: int
    busy_ticks: int
    refused: Mapping[str, int]
    stops: int
    rejected: int
    resets: int
    boundary_step_rad: Spread
    warnings: tuple[str, ...]

    def document(self) -> dict[str, object]:
        """As plain values."""
        attempts = [
            {
                "instruction": attempt.instruction,
                "touched": attempt.touched,
                "right": attempt.right,
                "seconds": attempt.seconds,
            }
            for attempt in self.instructions
        ]
        return {**asdict(self), "instructions": attempts}


def figures(record: Record) -> Figures:
    """The figures of a run that came to its end."""
    chunks = [heard.chunk for heard in record.chunks]
    last = record.counters[-1]
    refused = refused_since(record.counters, record.attempts[0].begun)
    episode = record.shadow.episode(0, "", "", Tally(), Tally())
    steps, _ = boundary_steps(episode.start, episode.commands, episode.boundaries)
    inference = record.statuses.get("inference", {})
    first, end, count = record.pictures
    found = Figures(
        instructions=tuple(record.attempts),
        successes=sum(attempt.right for attempt in record.attempts),
        chunks=len(chunks),
        trajectories=episode.published,
        pictures_hz=(count - 1) / (end - first) * 1e9 if end > first else 0.0,
        age_ms=Percentiles.of(min(chunk.camera_ages) for chunk in chunks),
        inference_ms=Percentiles.of(chunk.inference_time for chunk in chunks),
        overhead_ms={
            name: float(text) if (text := inference.get(f"overhead.{name}_ms")) else None
            for name in ("p50", "p99")
        },
        ticks=last.ticks,
        busy_ticks=last.busy,
        refused=refused,
        stops=int(record.statuses["limits"]["stops"]),
        rejected=episode.rejected,
        resets=record.resets,
        boundary_step_rad=Spread.of(steps),
        warnings=(),
    )
    return Figures(**{**vars(found), "warnings": tuple(_warnings(found))})


def _warnings(found: Figures) -> list[str]:
    """What explains an arm that did not obey, other than the policy."""
    warnings = []
    late = found.busy_ticks + sum(found.refused.get(reason, 0) for reason in _LATE)
    if late > _MANY * found.ticks:
        warnings.append(
            f"{late} of {found.ticks} ticks found the policy busy or pictures old: this machine is "
            "too slow or busy with other things; a smaller --speed gives it more time"
        )
    if found.stops:
        warnings.append(f"stops of the arm for want of a chunk: {found.stops}")
    return warnings


def table(found: Figures) -> str:
    """The figures for people, a line each."""
    overhead = "not known"
    if None not in found.overhead_ms.values():
        overhead = f"{found.overhead_ms['p50']:.2f} / {found.overhead_ms['p99']:.2f} ms"
    step = found.boundary_step_rad
    steps = "none" if step.max is None else f"{step.p50:.4f} / {step.max:.4f} rad"
    reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(found.refused.items()))
    rows = [(attempt.instruction, attempt.verdict) for attempt in found.instructions]
    rows += [
        ("right", f"{found.successes} of {len(found.instructions)}"),
        ("chunks; trajectories executed", f"{found.chunks}; {found.trajectories}"),
        ("pictures of each camera", f"{found.pictures_hz:.1f} per second"),
        ("age of the newest image at publication, p50 / p95", _pair(found.age_ms)),
        ("inference time, p50 / p95", _pair(found.inference_ms)),
        ("overhead of the node, p50 / p99", overhead),
        ("timer ticks that found the policy busy", f"{found.busy_ticks} of {found.ticks}"),
        (
            "observations refused since the first instruction",
            f"{sum(found.refused.values())} ({reasons})" if reasons else "0",
        ),
        ("position step at takeover, p50 / max", steps),
    ]
    width = max(len(name) for name, _ in rows)
    lines = [f"{name:<{width}}  {value}" for name, value in rows]
    return "\n".join([*lines, *(f"warning: {text}" for text in found.warnings)])


def _pair(values: Percentiles) -> str:
    return "-" if values.p50 is None else f"{values.p50:.1f} / {values.p95:.1f} ms"
