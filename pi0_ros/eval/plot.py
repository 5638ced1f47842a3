"""Plots of an evaluation, as PNG bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from pi0_ros.eval.evaluate import Drawn
from pi0_ros.replay.plot import draw_paths, panels


def horizon_png(total: dict[str, Any]) -> bytes:
    """The mean error of each step ahead per joint, a panel for each unit.

    Where joints have one unit, also of all together, beside that of standing still.

    Args:
        total: figures as `evaluation_json` has them, of one recording or of all.
    """
    horizon = total["horizon"]
    units = list(total["units"])
    figure, axes = panels(len(units), 1, (9, 3.4), 0.0, 90)
    seconds = horizon["seconds"]
    for number, (name, errors) in enumerate(horizon["joints"].items()):
        axis = axes[units.index(total["joints"][name]["unit"]), 0]
        axis.plot(seconds, _floats(errors), color=f"C{number % 10}", linewidth=1.0, label=name)
    if len(units) == 1:
        mean, holding = _floats(horizon["mean_abs"]), _floats(horizon["holding_mean_abs"])
        axis.plot(seconds, mean, color="black", linewidth=2.0, label="all joints")
        axis.plot(seconds, holding, "--", color="black", linewidth=1.5, label="standing still")
    for axis, unit in zip(axes[:, 0], units, strict=True):
        axis.set_ylabel(f"mean error ({unit})")
        axis.set_ylim(bottom=0.0)
        axis.grid(alpha=0.3)
    axis.set_xlabel("seconds after the observation")
    figure.legend(loc="outside right upper", fontsize=9)
    return _png(figure)


def paths_png(drawn: Drawn, joints: Sequence[str], dt: float, units: Sequence[str]) -> bytes:
    """One panel per joint: what was recorded in black, each chunk's path coloured by its time."""
    figure, axes = panels(len(joints), 1 if len(joints) < 3 else 3, (4, 2.1), 0.6, 90)
    recorded = {
        name: (drawn.times, column) for name, column in zip(joints, drawn.recorded.T, strict=True)
    }
    draw_paths(figure, axes, joints, drawn.stamps, list(drawn.predicted), dt, recorded, units)
    return _png(figure)


def _floats(values: Sequence[float | None]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values])


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()
