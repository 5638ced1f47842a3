"""Evaluations as a table and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pi0_ros.eval.many import EvalError
from pi0_ros.eval.recording import Evaluated
from pi0_ros.eval.sums import add, figures
from pi0_ros.replay.report import Percentiles


def evaluation_json(results: Sequence[Evaluated]) -> dict[str, Any]:
    """Every recording and all together, under the keys that docs/commands.md explains.

    All but `wall` is the same whichever way the recordings were evaluated.

    Raises:
        EvalError: the recordings have other joints or another pace than each other.
    """
    good = [result for result in results if result.sums is not None]
    shapes = {(r.joints, r.dt, r.sums.counts.shape) for r in good if r.sums is not None}
    if len(shapes) > 1:  # one parameter file and one checkpoint: cannot be
        raise EvalError(f"recordings of several shapes cannot be added up: {sorted(shapes)}")
    document: dict[str, Any] = {"recordings": [_recording(result) for result in results]}
    if good:
        total = add([result.sums for result in good if result.sums is not None])
        seconds = [value for result in good for value in result.seconds]
        document["all"] = {**figures(total, good[0].joints, good[0].dt), "wall": _wall(seconds)}
    document["failed"] = len(results) - len(good)
    return document


def _recording(result: Evaluated) -> dict[str, Any]:
    if result.sums is None:
        return {"recording": result.bag, "problem": result.problem}
    return {
        "recording": result.bag,
        "duration_s": result.duration,
        "compared_with": result.source,
        "instructions": list(result.instructions),
        "refused": dict(result.refused or {}),
        "refused_after_first_second": dict(result.refused_later or {}),
        **figures(result.sums, result.joints, result.dt),
        "wall": _wall(result.seconds),
    }


def _wall(seconds: Sequence[float]) -> dict[str, Any]:
    values = Percentiles.of(seconds)
    return {
        "inference_ms": {
            "p50": values.p50,
            "p95": values.p95,
            "max": max(seconds) * 1e3 if seconds else None,
        }
    }


def format_evaluation(document: dict[str, Any]) -> str:
    """The figures of all recordings, and a line for each, as tables for people."""
    lines: list[str] = []
    if "all" in document:
        lines += _all(document["all"])
    rows = [("recording", "chunks", "mean error", "standing still", "refused")]
    for one in document["recordings"]:
        if "problem" in one:
            rows.append((one["recording"], "-", "-", "-", "could not be evaluated"))
        else:
            refused = sum(one["refused"].values())
            errors = _number(one["mean_abs"]), _number(one["holding_mean_abs"])
            rows.append((one["recording"], str(one["chunks"]), *errors, str(refused)))
    lines += ["", *_aligned(rows)]
    lines += [f"problem: {one['problem']}" for one in document["recordings"] if "problem" in one]
    return "\n".join(lines).lstrip("\n")


def _all(total: dict[str, Any]) -> list[str]:
    rows = [("joint", "mean error", "rms", "max", "standing still", "jerk", "recorded", "step p95")]
    for name, joint in total["joints"].items():
        smooth = total["smoothness"][name]
        rows.append(
            (
                name,
                *map(_number, (joint["mean_abs"], joint["rms"], joint["max"])),
                _number(joint["holding_mean_abs"]),
                *map(_number, (smooth["jerk_rms"], smooth["recorded_jerk_rms"])),
                _number(smooth["boundary_step"]["p95"]),
            )
        )
    seconds, errors = total["horizon"]["seconds"], total["horizon"]["mean_abs"]
    holding = total["horizon"]["holding_mean_abs"]
    chosen = sorted({0, len(seconds) // 4, len(seconds) // 2, len(seconds) - 1})
    ahead = [
        ("ahead", *(f"{seconds[i]:g} s" for i in chosen)),
        ("mean error", *(_number(errors[i]) for i in chosen)),
        ("standing still", *(_number(holding[i]) for i in chosen)),
    ]
    wall = total["wall"]["inference_ms"]
    return [
        f"{total['chunks']} chunks, {total['steps_compared']} values compared"
        " (rad; jerk in rad/s^3, rms; step: where a chunk leaves its predecessor)",
        "",
        *_aligned(rows),
        "",
        *_aligned(ahead),
        "",
        f"inference, p50 / p95 / max  {wall['p50']:.1f} / {wall['p95']:.1f} / {wall['max']:.1f} ms",
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
