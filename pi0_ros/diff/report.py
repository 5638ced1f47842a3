"""A difference between two replays as a table and as JSON."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np

from pi0_ros.console import table
from pi0_ros.diff.compare import (
    Difference,
    Frame,
    Thresholds,
    failures,
    first_failing,
    summary,
    trajectory_text,
)

_ANY = Thresholds(0.0, np.inf, np.inf)


def difference_json(difference: Difference, limits: Thresholds) -> dict[str, Any]:
    """The figures under the keys of `JSON_KEYS` in command.py."""
    largest, problems = difference.trajectory, failures(difference, limits)
    return {
        "a": difference.a,
        "b": difference.b,
        "chunks": dict(zip("ab", difference.counts, strict=True)),
        "matched": len(difference.stamps),
        "without_partner": {"a": list(difference.only_a), "b": list(difference.only_b)},
        "joints": {
            name: {**(summary(difference.joints[..., i]) or {}), "unit": difference.units[i]}
            for i, name in enumerate(difference.joint_names)
        },
        "tool_position_m": summary(difference.position),
        "tool_angle_rad": summary(difference.angle),
        "other_instructions": difference.instructions,
        "other_pictures": difference.images,  # keys of --json stay
        "trajectories": {
            **dict(zip("ab", difference.trajectories, strict=True)),
            "pairs": difference.trajectory_pairs,
            "max": largest if largest is None or np.isfinite(largest) else None,
            "joint": difference.trajectory_joint or None,
        },
        "first_difference": _frame_json(first_failing(difference, _ANY)),
        "first_beyond": _frame_json(first_failing(difference, limits)),
        "thresholds": asdict(limits),
        "failures": problems,
        "passed": not problems,
    }


def format_difference(difference: Difference, limits: Thresholds) -> str:
    rows = [
        ("A", difference.a),
        ("B", difference.b),
        ("chunks", f"{difference.counts[0]} in A, {difference.counts[1]} in B"),
        (
            "matched by observation stamp",
            f"{len(difference.stamps)} ({len(difference.only_a)} only in A,"
            f" {len(difference.only_b)} only in B)",
        ),
    ]
    for joint, name in enumerate(difference.joint_names):
        rows.append(
            (f"{name}, max / mean", _pair(difference.joints[..., joint], difference.units[joint]))
        )
    if difference.position is not None and difference.angle is not None:
        rows.append(("tool position, max / mean", _pair(difference.position, "m")))
        rows.append(("tool angle, max / mean", _pair(difference.angle, "rad")))
    if difference.instructions:
        rows.append(("chunks of another instruction", difference.instructions))
    if difference.images:
        rows.append(("chunks from other images", difference.images))
    if any(difference.trajectories):
        rows.append(("trajectories", _trajectories(difference)))
    rows.append(("first difference", _frame(difference, first_failing(difference, _ANY))))
    rows.append(
        ("first chunk beyond a threshold", _frame(difference, first_failing(difference, limits)))
    )
    problems = failures(difference, limits)
    lines = [table(rows), *(f"beyond: {problem}" for problem in problems)]
    return "\n".join([*lines, "result: " + ("beyond the thresholds" if problems else "passed")])


def _pair(values: np.ndarray, unit: str) -> str:
    """Small differences keep their digits: between two machines they are the finding."""
    return f"{values.max():.3g} / {values.mean():.3g} {unit}"


def _trajectories(difference: Difference) -> str:
    counts = f"{difference.trajectories[0]} in A, {difference.trajectories[1]} in B"
    if difference.trajectory is None:
        return f"{counts}, none published at the same time"
    pairs = f"{difference.trajectory_pairs} at the same times"
    return f"{counts}; {pairs} differ by {trajectory_text(difference)} at most"


def _frame(difference: Difference, frame: Frame | None) -> str:
    if frame is None:
        return "none"
    return (
        f"number {frame.number}, {frame.seconds:.2f} s after the first:"
        f" {frame.joint}, step {frame.step}, {frame.difference:.3g} {difference.unit(frame.joint)}"
    )


def _frame_json(frame: Frame | None) -> dict[str, Any] | None:
    finite = frame is not None and np.isfinite(frame.difference)
    return frame and asdict(frame if finite else replace(frame, difference=None))
