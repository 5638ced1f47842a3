"""Figures of a replay: what went into the node, what came out, how old and how fast."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pi0_ros.bags.chunks import ChunkRecord
from pi0_ros.console import percentiles, table
from pi0_ros.replay.player import Playback
from pi0_ros.ros.diagnostics import Counters, refused_since

# Above these the figures say more about the player or the recording than about the node.
LATENESS_WORTH_SAYING = 0.020
STAMP_OFFSET_WORTH_SAYING = 0.5


def milliseconds(seconds: Iterable[float]) -> dict[str, float | None]:
    """ "p50" and "p95" in milliseconds; None without values."""
    return percentiles(value * 1e3 for value in seconds)


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
) -> dict[str, Any]:
    """The figures under the keys of JSON_KEYS in command.py; None where there is no value.

    Args:
        rate: None for a deterministic replay, which has no pace.
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
    points = [len(chunk.positions) for chunk in chunks]
    frames = {topic: playback.counts.get(topic, 0) for topic in cameras}
    return {
        "recording": recording,
        "rate": rate,
        "duration_s": playback.duration,
        "frames": sum(frames.values()),
        "frames_per_camera": frames,
        "chunks": len(chunks),
        "trajectories": trajectories,
        "points_per_chunk": min(points, default=None),
        "points_per_chunk_max": max(points, default=None),
        "age_ms": milliseconds(min(c.camera_ages) for c in chunks[:in_time] if c.camera_ages),
        "inference_ms": milliseconds(chunk.inference_time for chunk in chunks),
        "ticks": final.ticks,
        "busy_ticks": final.busy,
        "refused": {reason: count for reason, count in final.refused.items() if count},
        "refused_after_first_second": refused_since(snapshots, playback.start + 1_000_000_000),
        "max_lateness_ms": max(playback.lateness, default=0.0) * 1e3,
        "warnings": [*_warnings(playback, published, arrived), *warnings],
    }


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


def format_table(report: Mapping[str, Any]) -> str:
    """The figures of `make_report` as a table for people."""
    pace = "deterministic" if report["rate"] is None else f"at rate {report['rate']:g}"
    low, high = report["points_per_chunk"], report["points_per_chunk_max"]
    late = report["refused_after_first_second"]
    rows = [
        ("recording", f"{report['recording']}, {report['duration_s']:.1f} s {pace}"),
        *((f"frames in, {topic}", count) for topic, count in report["frames_per_camera"].items()),
        ("chunks out", report["chunks"]),
        ("points per chunk", low if low == high else f"{low} to {high}"),
        ("trajectories out", report["trajectories"] or "0 (a dry run)"),
        ("age of the newest image at publication, p50 / p95", pair(report["age_ms"])),
        ("inference time, p50 / p95", pair(report["inference_ms"])),
        ("timer ticks that found the policy busy", f"{report['busy_ticks']} of {report['ticks']}"),
        ("observations refused", reasons(report["refused"])),
        ("observations refused after the first second", reasons(late)),
    ]
    if report["max_lateness_ms"] > LATENESS_WORTH_SAYING * 1e3:
        rows.append(("latest message of the player", f"{report['max_lateness_ms']:.0f} ms late"))
    return "\n".join([table(rows), *(f"warning: {text}" for text in report["warnings"])])


def pair(values: Mapping[str, float | None]) -> str:
    """Percentiles in milliseconds for a table."""
    if None in values.values():
        return "-"
    return " / ".join(f"{value:.1f}" for value in values.values()) + " ms"


def reasons(counts: Mapping[str, int]) -> str:
    """How often for each reason, for a table."""
    parts = ", ".join(f"{reason} {count}" for reason, count in sorted(counts.items()))
    return f"{sum(counts.values())} ({parts})" if counts else "0"
