"""Plot of a replay: per joint, where it was and where each chunk wanted it to go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from pi0_ros.bags.chunks import ChunkRecord
from pi0_ros.bags.results import UNKNOWN_UNIT

Series = tuple[np.ndarray, np.ndarray]


def plot_chunks(
    path: str | Path,
    chunks: Sequence[ChunkRecord],
    recorded: Mapping[str, Series],
    start: int,
    title: str = "",
    units: Mapping[str, str] | None = None,
) -> None:
    """Writes a PNG with one panel per joint; see `draw_paths`.

    Args:
        chunks: at least one, all of the same joints.
        recorded: joint name -> (times in ns [k] int64, positions [k]); joints may lack.
        start: time in ns that the plot calls 0.
        title: line above the panels.
        units: joint name -> "rad" or "m"; joints may lack.

    Raises:
        ValueError: there are no chunks to draw.
    """
    if not chunks:
        raise ValueError("no chunks to draw")
    joints = chunks[0].joint_names
    figure, axes = panels(len(joints), 1 if len(joints) < 4 else 2, (7, 2.2), 0.8, 100)
    draw_paths(
        figure,
        axes,
        joints,
        np.array([(chunk.stamp - start) / 1e9 for chunk in chunks]),
        [chunk.positions for chunk in chunks],
        chunks[0].dt,
        {name: ((times - start) / 1e9, values) for name, (times, values) in recorded.items()},
        [(units or {}).get(name, UNKNOWN_UNIT) for name in joints],
    )
    figure.suptitle(f"{title}\nblack: recorded, coloured: predicted".strip(), fontsize=11)
    figure.savefig(path)


def panels(
    count: int, columns: int, size: tuple[float, float], rest: float, dpi: int
) -> tuple[Figure, Any]:
    """A figure of `count` panels with a common time axis, and its axes [rows, columns].

    Args:
        size: width and height of a panel, inches.
        rest: inches of height beside the panels.
    """
    rows = -(-count // columns)
    shape = (size[0] * columns, size[1] * rows + rest)
    figure = Figure(figsize=shape, dpi=dpi, layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, squeeze=False)
    for axis in axes.flat[count:]:
        axis.set_visible(False)
    for column in range(columns):
        axes[(count - 1 - column) // columns, column].tick_params(labelbottom=True)
    return figure, axes


def draw_paths(
    figure: Figure,
    axes: Any,
    joints: Sequence[str],
    stamps: np.ndarray,
    chunks: Sequence[np.ndarray],
    dt: float,
    recorded: Mapping[str, Series],
    units: Sequence[str],
) -> None:
    """Draws each chunk's path as a thin line, coloured by the time of its observation.

    Args:
        axes: of `panels`, one per joint.
        stamps: [chunks] seconds of the observations.
        chunks: [steps, joints] each; step i is due (i + 1) * dt after the observation.
        recorded: joint -> (seconds [k], positions [k]) of a black line; joints may lack.
        units: of the joints.
    """
    colours = None
    for index, (axis, joint, unit) in enumerate(zip(axes.flat, joints, units, strict=False)):
        paths = [
            np.column_stack((stamp + np.arange(1, len(chunk) + 1) * dt, chunk[:, index]))
            for stamp, chunk in zip(stamps, chunks, strict=True)
        ]
        colours = LineCollection(paths, array=stamps, cmap="viridis", linewidths=0.8, alpha=0.8)
        axis.add_collection(colours)
        if joint in recorded:
            axis.plot(*recorded[joint], color="black", linewidth=1.4)
        axis.autoscale_view()
        axis.set_title(joint, fontsize=10)
        axis.set_ylabel(unit)
        axis.grid(alpha=0.3)
    columns = axes.shape[1]
    for column in range(columns):
        lowest = (len(joints) - 1 - column) // columns
        axes[lowest, column].set_xlabel("time since the first message (s)")
    assert colours is not None
    figure.colorbar(colours, ax=axes, label="time of the chunk's observation (s)")
