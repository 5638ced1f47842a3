"""Figures of a replay: what went into the node, what came out, how old and how fast."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pi0_ros.bags.chunks import ChunkRecord
from pi0_ros.console import percentiles, table
from pi0_ros.errors import UserError
from pi0_ros.replay.playback import Playback
from pi0_ros.ros.diagnostics import Counters, refused_since


class ReplayError(UserError, ValueError):
    """What a replay is asked for cannot be had."""


# Above these the figures say more about the player or the recording than about the node.
LATENESS_WORTH_SAYING = 0.020
STAMP_OFFSET_WORTH_SAYING = 0.5


@dataclass(frozen=True)
class Report:
    """The figures of one replay. `report_json` names and explains them.

    Attributes:
        rate: None for a deterministic replay, which has no pace.
        age, inference: percentiles in milliseconds, "p50" and "p95".
    """

    recording: str
    rate: float | None
    duration: float
    frames_per_camera: Mapping[str, int]
    chunks: int
    trajectories: int
    points: tuple[int, int] | None
    age: Mapping[str, float | None]
    inference: Mapping[str, float | None]
    ticks: int
    busy: int
    refused: Mapping[str, int]
    refused_after_first_second: Mapping[str, int]
    max_lateness: float
    warnings: tuple[str, ...]


def milliseconds(seconds: Iterable[float]) -> dict[str, float | None]:
    """ "p50" and "p95" in milliseconds; None without values."""
    found = percentiles(seconds)
    return {name: None if value is None else value * 1e3 for name, value in found.items()}


def make_report(
    recording: str,
    rate: float | None,
    playback: Playback,
    cameras: Sequence[str],
    chunks: Sequence[ChunkRecord],
    in_time: int,
    trajectories: int,
    snapshots: Sequence[Counters],
    warnings: Sequence[str] = (),
) -> Report:
    """Sums a replay up.

    Args:
        cameras: topics in the recording that are cameras.
        chunks: every ~/action_chunk that was not rejected, in order.
        in_time: how many of them came before the end of the recording. Then its clock stands still,
            and with it the ages of the others.
        trajectories: how many trajectories came.
        snapshots: the counters of every /diagnostics message, in order.
        warnings: what went wrong elsewhere.
    """
    final = snapshots[-1] if snapshots else Counters(0, 0, 0, 0, 0, {})
    published = {"chunks": final.chunks, "trajectories": final.trajectories}
    arrived = {"chunks": len(chunks), "trajectories": trajectories}
    found = _warnings(playback, published, arrived)
    points = [len(chunk.positions) for chunk in chunks]
    return Report(
        recording=recording,
        rate=rate,
        duration=playback.duration,
        frames_per_camera={topic: playback.counts.get(topic, 0) for topic in cameras},
        chunks=len(chunks),
        trajectories=trajectories,
        points=(min(points), max(points)) if points else None,
        age=milliseconds(min(chunk.camera_ages) for chunk in chunks[:in_time] if chunk.camera_ages),
        inference=milliseconds(chunk.inference_time for chunk in chunks),
        ticks=final.ticks,
        busy=final.busy,
        refused={reason: count for reason, count in final.refused.items() if count},
        refused_after_first_second=refused_since(snapshots, playback.start + 1_000_000_000),
        max_lateness=max(playback.lateness, default=0.0),
        warnings=(*found, *warnings),
    )


def _warnings(
    playback: Playback, published: Mapping[str, int], arrived: Mapping[str, int]
) -> Iterable[str]:
    for topic, offset in playback.stamp_offsets.items():
        if abs(offset) > STAMP_OFFSET_WORTH_SAYING:
            side = "before" if offset > 0 else "after"
            yield (
                f"{topic}: header stamps lie up to {abs(offset):.3f} s {side} the times the "
                "recording received them at; the node's clock follows the latter, so it takes "
                "these messages for old ones (`stale`, `skewed`)"
            )
    late = percentiles(playback.lateness)["p95"]
    if late is not None and late > LATENESS_WORTH_SAYING:
        yield (
            f"one message in twenty was sent more than {late * 1e3:.0f} ms late: this machine"
            " does not keep the pace, and ages are not what they would be on the robot (try --rate"
            " 0.5)"
        )
    for what, count in published.items():
        if arrived[what] < count:
            yield f"the node published {count} {what}, but {arrived[what]} arrived"


def report_json(report: Report) -> dict[str, object]:
    """The report under plain keys, ready for json.dump; what has no value is null.

    - recording: its path; rate: null for a deterministic replay; duration_s: of the part played, in
      the recording's time
    - frames: images played; frames_per_camera: by topic in the recording
    - chunks, trajectories: published (trajectories only with --enable)
    - points_per_chunk, points_per_chunk_max: smallest and largest number of steps of a chunk
    - age_ms: p50, p95 of the newest image's age at publication, in the recording's time, for the
      chunks that came before its end
    - inference_ms: p50, p95 of the inference, wall time
    - ticks: of the node's timer; busy_ticks: those that found the previous inference running
    - refused, refused_after_first_second: reason -> observations
    - max_lateness_ms: of the player; warnings: sentences
    """
    low, high = report.points or (None, None)
    return {
        "recording": report.recording,
        "rate": report.rate,
        "duration_s": report.duration,
        "frames": sum(report.frames_per_camera.values()),
        "frames_per_camera": dict(report.frames_per_camera),
        "chunks": report.chunks,
        "trajectories": report.trajectories,
        "points_per_chunk": low,
        "points_per_chunk_max": high,
        "age_ms": dict(report.age),
        "inference_ms": dict(report.inference),
        "ticks": report.ticks,
        "busy_ticks": report.busy,
        "refused": dict(report.refused),
        "refused_after_first_second": dict(report.refused_after_first_second),
        "max_lateness_ms": report.max_lateness * 1e3,
        "warnings": list(report.warnings),
    }


def format_table(report: Report) -> str:
    """The report as a table for people."""
    pace = "deterministic" if report.rate is None else f"at rate {report.rate:g}"
    rows = [("recording", f"{report.recording}, {report.duration:.1f} s {pace}")]
    rows += [(f"frames in, {topic}", str(n)) for topic, n in report.frames_per_camera.items()]
    rows.append(("chunks out", str(report.chunks)))
    rows.append(("points per chunk", _span(report.points)))
    rows.append(("trajectories out", str(report.trajectories or "0 (a dry run)")))
    rows.append(("age of the newest image at publication, p50 / p95", _pair(report.age)))
    rows.append(("inference time, p50 / p95", _pair(report.inference)))
    rows.append(("timer ticks that found the policy busy", f"{report.busy} of {report.ticks}"))
    rows.append(("observations refused", _reasons(report.refused)))
    rows.append(
        ("observations refused after the first second", _reasons(report.refused_after_first_second))
    )
    if report.max_lateness > LATENESS_WORTH_SAYING:
        rows.append(("latest message of the player", f"{report.max_lateness * 1e3:.0f} ms late"))
    return "\n".join([table(rows), *(f"warning: {text}" for text in report.warnings)])


def _span(points: tuple[int, int] | None) -> str:
    if points is None:
        return "-"
    low, high = points
    return str(low) if low == high else f"{low} to {high}"


def _pair(values: Mapping[str, float | None]) -> str:
    if None in values.values():
        return "-"
    return " / ".join(f"{value:.1f}" for value in values.values()) + " ms"


def _reasons(counts: Mapping[str, int]) -> str:
    if not counts:
        return "0"
    parts = ", ".join(f"{reason} {count}" for reason, count in sorted(counts.items()))
    return f"{sum(counts.values())} ({parts})"
