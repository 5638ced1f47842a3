"""Errors and smoothness of predicted chunks: sums that add up over recordings, and figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pi0_ros.console import percentiles


@dataclass(frozen=True)
class Sums:
    """What a recording, or several, add to the figures; [h, j] are horizon steps and joints.

    Attributes:
        chunks: predicted.
        counts: [h, j] int64: steps at whose time the recorded position is known.
        absolute, squared: [h, j] sums of the error, rad and rad^2.
        largest: [j] rad.
        holding: [h, j] sums of the absolute error of standing still where the arm was observed.
        jerks, recorded_jerks: [j] sums of squares, (rad/s^3)^2, of `jerk_counts` and of
            `recorded_counts` values.
        boundaries: [chunk changes, j] rad: how far a chunk begins from what its predecessor wants
            at that time.
    """

    chunks: int
    counts: np.ndarray
    absolute: np.ndarray
    squared: np.ndarray
    largest: np.ndarray
    holding: np.ndarray
    jerks: np.ndarray
    jerk_counts: np.ndarray
    recorded_jerks: np.ndarray
    recorded_counts: np.ndarray
    boundaries: np.ndarray


def sums_of(
    predicted: np.ndarray, recorded: np.ndarray, state: np.ndarray, stamps: np.ndarray, dt: float
) -> Sums:
    """The sums of one recording.

    Args:
        predicted: [n, h, j] rad; step i is due (i + 1) * dt after the observation.
        recorded: [n, h, j] rad, of the same times; NaN where it is not known.
        state: [n, j] rad, observed.
        stamps: [n] int64 ns, of the observations, in order.
        dt: seconds.
    """
    known = np.isfinite(recorded) & np.isfinite(predicted)
    error = np.where(known, predicted - np.where(known, recorded, 0.0), 0.0)
    hold = np.where(known, state[:, None] - np.where(known, recorded, 0.0), 0.0)
    jerks, recorded_jerks = _jerk(predicted, dt), _jerk(recorded, dt)
    axes = (0, 1)
    return Sums(
        chunks=len(predicted),
        counts=known.sum(axis=0),
        absolute=np.abs(error).sum(axis=0),
        squared=np.square(error).sum(axis=0),
        largest=np.abs(error).max(axis=axes, initial=0.0),
        holding=np.abs(hold).sum(axis=0),
        jerks=np.nansum(np.square(jerks), axis=axes),
        jerk_counts=np.isfinite(jerks).sum(axis=axes),
        recorded_jerks=np.nansum(np.square(recorded_jerks), axis=axes),
        recorded_counts=np.isfinite(recorded_jerks).sum(axis=axes),
        boundaries=_boundaries(predicted, stamps, dt),
    )


def add(parts: Sequence[Sums]) -> Sums:
    """The sums of several recordings, in their order; at least one."""
    columns = {name: [getattr(part, name) for part in parts] for name in vars(parts[0])}
    largest, boundaries = columns.pop("largest"), columns.pop("boundaries")
    return Sums(
        largest=np.max(largest, axis=0),
        boundaries=np.concatenate(boundaries),
        **{name: sum(values[1:], values[0]) for name, values in columns.items()},
    )


def figures(sums: Sums, joints: Sequence[str], units: Sequence[str], dt: float) -> dict[str, Any]:
    """The figures under the keys of `JSON_KEYS` in command.py; null without values.

    Args:
        units: of the joints, "rad" or "m": no figure adds the one to the other.
    """
    counts = sums.counts.sum(axis=0)
    steps = sums.counts.sum(axis=1)

    def errors(columns: list[int]) -> dict[str, float | None]:
        count = counts[columns].sum()
        return {
            "mean_abs": _ratio(sums.absolute[:, columns].sum(), count),
            "rms": _root(sums.squared[:, columns].sum(), count),
            "holding_mean_abs": _ratio(sums.holding[:, columns].sum(), count),
        }

    by_joint = {
        name: {
            "unit": units[j],
            "max": float(sums.largest[j]) if counts[j] else None,
            **errors([j]),
        }
        for j, name in enumerate(joints)
    }
    by_unit = {
        unit: errors([j for j, one in enumerate(units) if one == unit])
        for unit in dict.fromkeys(units)
    }
    mixed = len(by_unit) > 1
    whole = dict.fromkeys(("mean_abs", "rms", "holding_mean_abs"))
    if not mixed:
        (whole,) = by_unit.values()
    horizon = {
        "seconds": [float((i + 1) * dt) for i in range(len(steps))],
        **{
            key: [None if mixed else _ratio(s.sum(), n) for s, n in zip(sum_of, steps, strict=True)]
            for key, sum_of in (("mean_abs", sums.absolute), ("holding_mean_abs", sums.holding))
        },
        "joints": {
            name: [
                _ratio(s, n) for s, n in zip(sums.absolute[:, j], sums.counts[:, j], strict=True)
            ]
            for j, name in enumerate(joints)
        },
    }
    smoothness = {
        name: {
            "jerk_rms": _root(sums.jerks[j], sums.jerk_counts[j]),
            "recorded_jerk_rms": _root(sums.recorded_jerks[j], sums.recorded_counts[j]),
            "boundary_step": percentiles(filter(np.isfinite, sums.boundaries[:, j]), largest=True),
        }
        for j, name in enumerate(joints)
    }
    return {
        "chunks": sums.chunks,
        "steps_compared": int(counts.sum()),
        **whole,
        "units": by_unit,
        "joints": by_joint,
        "horizon": horizon,
        "smoothness": smoothness,
    }


def _jerk(path: np.ndarray, dt: float) -> np.ndarray:
    """[n, h - 3, j] rad/s^3: third differences along the horizon."""
    return np.diff(path, n=3, axis=1) / dt**3


def _boundaries(predicted: np.ndarray, stamps: np.ndarray, dt: float) -> np.ndarray:
    """[changes, j] rad between a chunk's first step and what the one before wants then."""
    found = []
    for before, after, gap in zip(
        predicted[:-1], predicted[1:], np.diff(stamps) / 1e9, strict=True
    ):
        place = gap / dt  # of the first step, in steps of the chunk before
        low = int(np.floor(place + 1e-6))
        if 0 <= low < len(before) - 1:
            share = place - low
            found.append(np.abs(after[0] - (before[low] + share * (before[low + 1] - before[low]))))
    return np.array(found).reshape(-1, predicted.shape[2])


def _ratio(total: float, count: int) -> float | None:
    return float(total / count) if count else None


def _root(total: float, count: int) -> float | None:
    return float(np.sqrt(total / count)) if count else None
