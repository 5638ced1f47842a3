"""Evaluations as tables and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pi0_ros.console import percentiles, table
from pi0_ros.eval.evaluate import Evaluated
from pi0_ros.eval.figures import add, figures

JOINTS = (
    "joint",
    "mean error",
    "rms",
    "max",
    "standing still",
    "jerk",
    "recorded jerk",
    "step at a new chunk, p95",
)
"""Columns of `joint_rows`."""


def evaluation_json(results: Sequence[Evaluated]) -> dict[str, Any]:
    """Every recording and all together, under the keys of `JSON_KEYS` in command.py.

    All but `wall` is the same whichever way the recordings were evaluated.
    """
    good = [result for result in results if result.sums is not None]
    document: dict[str, Any] = {"recordings": [_recording(result) for result in results]}
    if good:
        total = add([result.sums for result in good if result.sums is not None])
        seconds = [value for result in good for value in result.seconds]
        document["all"] = {
            **figures(total, good[0].joints, good[0].units, good[0].dt),
            "wall": _wall(seconds),
        }
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
        **figures(result.sums, result.joints, result.units, result.dt),
        "wall": _wall(result.seconds),
    }


def _wall(seconds: Sequence[float]) -> dict[str, Any]:
    return {"inference_ms": percentiles((value * 1e3 for value in seconds), largest=True)}


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def per_unit(one: dict[str, Any], key: str) -> str:
    """A figure of each unit, such as "0.012 rad, 0.0004 m"."""
    return ", ".join(f"{number(values[key])} {unit}" for unit, values in one["units"].items())


def verdict(total: dict[str, Any]) -> str:
    """Whether the policy is better than not moving at all, in a sentence per unit."""
    found = []
    for unit, values in total["units"].items():
        error, holding = values["mean_abs"], values["holding_mean_abs"]
        if error is None:
            continue
        where = f" ({unit})" if len(total["units"]) > 1 else ""
        if holding == 0:
            found.append(f"the recorded arm stood still{where}: nothing can be told of it")
        elif error < holding:
            share = f"{100 * error / holding:.0f} %"
            found.append(f"better than standing still{where}: {share} of its error")
        else:
            share = f"{error / holding:.2f} times its error"
            found.append(f"worse than standing still{where}: {share}; it has learned nothing here")
    return "; ".join(found)


def joint_rows(total: dict[str, Any]) -> list[tuple[str, ...]]:
    """Of every joint its name and figures; see JOINTS."""
    rows = []
    for name, joint in total["joints"].items():
        smooth = total["smoothness"][name]
        values = (
            *(joint[key] for key in ("mean_abs", "rms", "max", "holding_mean_abs")),
            smooth["jerk_rms"],
            smooth["recorded_jerk_rms"],
            smooth["boundary_step"]["p95"],
        )
        rows.append((f"{name} ({joint['unit']})", *map(number, values)))
    return rows


def format_evaluation(document: dict[str, Any]) -> str:
    """The figures of all recordings, and a line for each, as tables for people."""
    lines: list[str] = []
    if "all" in document:
        lines += [*_all(document["all"]), ""]
    rows = []
    for one in document["recordings"]:
        if "problem" in one:
            rows.append((one["recording"], None, None, None, "could not be evaluated"))
        else:
            errors = per_unit(one, "mean_abs"), per_unit(one, "holding_mean_abs")
            refused = sum(one["refused"].values())
            rows.append((one["recording"], one["chunks"], *errors, refused))
    headers = ("recording", "chunks", "mean error", "standing still", "refused")
    lines.append(table(rows, headers, "<>>>>"))
    lines += [f"problem: {one['problem']}" for one in document["recordings"] if "problem" in one]
    return "\n".join(lines)


def _all(total: dict[str, Any]) -> list[str]:
    horizon = total["horizon"]
    last = len(horizon["seconds"]) - 1
    chosen = sorted({0, (last + 1) // 4, (last + 1) // 2, last})
    ahead = [
        ("mean error", *(number(horizon["mean_abs"][i]) for i in chosen)),
        ("standing still", *(number(horizon["holding_mean_abs"][i]) for i in chosen)),
    ]
    headers = ("ahead", *(f"{horizon['seconds'][i]:.3g} s" for i in chosen))
    wall = " / ".join(f"{value:.1f}" for value in total["wall"]["inference_ms"].values())
    return [
        f"{total['chunks']} chunks, {total['steps_compared']} values compared"
        " (jerk in the joint's unit/s^3, rms; step: where a chunk leaves its predecessor)",
        "",
        table(joint_rows(total), JOINTS, "<" + ">" * 7),
        *(["", table(ahead, headers, "<" + ">" * len(chosen))] if len(total["units"]) == 1 else []),
        "",
        f"inference, p50 / p95 / max  {wall} ms",
        "",
        f"verdict: {verdict(total)}",
    ]
