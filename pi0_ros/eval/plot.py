"""Plots of an evaluation, as PNG bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from pi0_ros.eval.evaluate import Drawn


def horizon_png(total: dict[str, Any]) -> bytes:
    """The mean error of each step ahead, per joint and together, beside that of standing still.

    Args:
        total: figures as `evaluation_json` has them, of one recording or of all.
    """
    horizon = total["horizon"]
    figure, axes = _figure(1, 1, (9, 3.4))
    axis = axes[0, 0]
    for number, (name, errors) in enumerate(horizon["joints"].items()):
        values = _floats(errors)
        axis.plot(horizon["seconds"], values, color=f"C{number % 10}", linewidth=1.0, label=name)
    mean, holding = _floats(horizon["mean_abs"]), _floats(horizon["holding_mean_abs"])
    axis.plot(horizon["seconds"], mean, color="black", linewidth=2.0, label="all joints")
    style = {"color": "black", "linestyle": "--", "linewidth": 1.5}
    axis.plot(horizon["seconds"], holding, label="standing still", **style)
    axis.set_xlabel("seconds after the observation")
    axis.set_ylabel("mean error (rad)")
    axis.set_ylim(bottom=0.0)
    axis.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize=9)
    return _png(figure)


def paths_png(drawn: Drawn, joints: Sequence[str], dt: float) -> bytes:
    """One panel per joint: what was recorded in black, each chunk's path coloured by its time."""
    columns = 1 if len(joints) < 3 else 3
    rows = -(-len(joints) // columns)
    figure, axes = _figure(rows, columns, (4 * columns, 2.1 * rows + 0.6))
    ahead = (np.arange(drawn.predicted.shape[1]) + 1) * dt
    colours = None
    for joint, (axis, name) in enumerate(zip(axes.flat, joints, strict=False)):
        paths = [
            np.column_stack((stamp + ahead, chunk[:, joint]))
            for stamp, chunk in zip(drawn.stamps, drawn.predicted, strict=True)
        ]
        colours = LineCollection(paths, array=drawn.stamps, cmap="viridis", linewidths=0.7)
        axis.add_collection(colours)
        axis.plot(drawn.times, drawn.recorded[:, joint], color="black", linewidth=1.3)
        axis.autoscale_view()
        axis.set_title(name, fontsize=10)
        axis.set_ylabel("rad")
        axis.grid(alpha=0.3)
    for axis in axes.flat[len(joints) :]:
        axis.set_visible(False)
    for column in range(columns):
        lowest = (len(joints) - 1 - column) // columns
        axes[lowest, column].set_xlabel("seconds")
        axes[lowest, column].tick_params(labelbottom=True)
    figure.colorbar(colours, ax=axes, label="time of the observation (s)")
    return _png(figure)


def _figure(rows: int, columns: int, size: tuple[float, float]) -> tuple[Figure, Any]:
    figure = Figure(figsize=size, dpi=90, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, sharex=True, squeeze=False)


def _floats(values: Sequence[float | None]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values])


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()
