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
    """The mean error of each step ahead, per joint and together, beside that of standing still.

    Args:
        total: figures as `evaluation_json` has them, of one recording or of all.
    """
    horizon = total["horizon"]
    figure, axes = panels(1, 1, (9, 3.4), 0.0, 90)
    axis, seconds = axes[0, 0], horizon["seconds"]
    for number, (name, errors) in enumerate(horizon["joints"].items()):
        axis.plot(seconds, _floats(errors), color=f"C{number % 10}", linewidth=1.0, label=name)
    mean, holding = _floats(horizon["mean_abs"]), _floats(horizon["holding_mean_abs"])
    axis.plot(seconds, mean, color="black", linewidth=2.0, label="all joints")
    axis.plot(seconds, holding, "--", color="black", linewidth=1.5, label="standing still")
    axis.set_xlabel("seconds after the observation")
    axis.set_ylabel(f"mean error ({', '.join(total['units'])})")
    axis.set_ylim(bottom=0.0)
    axis.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize=9)
    return _png(figure)


def paths_png(drawn: Drawn, joints: Sequence[str], dt: float) -> bytes:
    """One panel per joint: what was recorded in black, each chunk's path coloured by its time."""
    figure, axes = panels(len(joints), 1 if len(joints) < 3 else 3, (4, 2.1), 0.6, 90)
    recorded = {
        name: (drawn.times, column) for name, column in zip(joints, drawn.recorded.T, strict=True)
    }
    draw_paths(figure, axes, joints, drawn.stamps, list(drawn.predicted), dt, recorded)
    return _png(figure)


def _floats(values: Sequence[float | None]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values])


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()
