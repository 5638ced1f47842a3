"""Plot of a difference between two replays: over time, over the horizon, and at the tool."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from pi0_ros.diff.compare import Difference, Thresholds, first_failing

_LIMIT = {"color": "black", "linestyle": "--", "linewidth": 1.0}


def plot_difference(path: str | Path, difference: Difference, limits: Thresholds) -> None:
    """Writes a PNG: each joint's largest difference per chunk and per step, and the tool's.

    Joints of one unit share a row. Dashed lines are the thresholds; a red line marks the first
    chunk beyond one.
    """
    units = tuple(dict.fromkeys(difference.units))
    rows = len(units) + (difference.position is not None)
    figure = Figure(figsize=(11, 3.4 * rows + 0.6), dpi=90, layout="constrained")
    axes = figure.subplots(rows, 2, squeeze=False)
    times = (difference.stamps - difference.stamps[0]) / 1e9
    steps = np.arange(difference.joints.shape[1])
    lines = []
    for joint, name in enumerate(difference.joint_names):
        values = difference.joints[..., joint]
        colour, row = f"C{joint % 10}", axes[units.index(difference.units[joint])]
        lines += row[0].plot(times, values.max(axis=1), color=colour, linewidth=1.2, label=name)
        row[1].plot(steps, values.mean(axis=0), color=colour, linewidth=1.2)
    for row, unit in zip(axes, units, strict=False):
        row[0].axhline(limits.joint, **_LIMIT)
        _label(row[0], "largest difference of each chunk", "time of the observation (s)", unit)
        _label(row[1], "mean difference of each step", "step of the chunk", unit)
    figure.legend(handles=lines, loc="outside lower center", ncols=6)
    if difference.position is not None and difference.angle is not None:
        for axis, values, limit, unit, what in (
            (axes[-1, 0], difference.position, limits.position, "m", "position"),
            (axes[-1, 1], difference.angle, limits.angle, "rad", "angle"),
        ):
            axis.plot(times, values.max(axis=1), color="C0", linewidth=1.2)
            axis.axhline(limit, **_LIMIT)
            title = f"tool {what}, largest difference of each chunk"
            _label(axis, title, "time of the observation (s)", unit)
    failing = first_failing(difference, limits)
    over_time = [*axes[: len(units), 0], *(axes[-1] if rows > len(units) else [])]
    if failing is not None:
        for axis in over_time:
            axis.axvline(failing.seconds, color="tab:red", linewidth=1.5)
    figure.suptitle(f"A: {difference.a}    B: {difference.b}", fontsize=10)
    figure.savefig(path)


def _label(axis: Any, title: str, below: str, unit: str) -> None:
    axis.set_title(title, fontsize=10)
    axis.set_xlabel(below)
    axis.set_ylabel(unit)
    axis.grid(alpha=0.3)
    axis.set_ylim(bottom=0.0)
