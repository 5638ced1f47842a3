"""Plot of a replay: per joint, where it was and where each chunk wanted it to go."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from pi0_ros.bags.chunks import ChunkRecord


def plot_chunks(
    path: str | Path,
    chunks: Sequence[ChunkRecord],
    recorded: Mapping[str, tuple[np.ndarray, np.ndarray]],
    start: int,
    title: str = "",
) -> None:
    """Writes a PNG with one panel per joint.

    The recorded position is a black line; each chunk's path is a thin line, coloured by the time
    of the chunk's observation.

    Args:
        chunks: at least one, all of the same joints.
        recorded: joint name -> (times in ns [k] int64, positions in rad [k]); joints may lack.
        start: time in ns that the plot calls 0.
        title: line above the panels.

    Raises:
        ValueError: there are no chunks to draw.
    """
    if not chunks:
        raise ValueError("no chunks to draw")
    joints = chunks[0].joint_names
    columns = 1 if len(joints) < 4 else 2
    rows = -(-len(joints) // columns)
    figure = Figure(figsize=(7 * columns, 2.2 * rows + 0.8), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, sharex=True, squeeze=False)
    stamps = np.array([(chunk.stamp - start) / 1e9 for chunk in chunks])
    colours = None
    for index, (axis, joint) in enumerate(zip(axes.flat, joints, strict=False)):
        paths = [_path(chunk, index, begin) for chunk, begin in zip(chunks, stamps, strict=True)]
        colours = LineCollection(paths, array=stamps, cmap="viridis", linewidths=0.8, alpha=0.8)
        axis.add_collection(colours)
        if joint in recorded:
            times, positions = recorded[joint]
            axis.plot((times - start) / 1e9, positions, color="black", linewidth=1.4)
        axis.autoscale_view()
        axis.set_title(joint, fontsize=10)
        axis.set_ylabel("rad")
        axis.grid(alpha=0.3)
    for axis in axes.flat[len(joints) :]:
        axis.set_visible(False)
    for column in range(columns):
        lowest = (len(joints) - 1 - column) // columns
        axes[lowest, column].set_xlabel("time since the first message (s)")
        axes[lowest, column].tick_params(labelbottom=True)
    assert colours is not None
    figure.colorbar(colours, ax=axes, label="time of the chunk's observation (s)")
    figure.suptitle(f"{title}\nblack: recorded, coloured: predicted".strip(), fontsize=11)
    figure.savefig(path)


def _path(chunk: ChunkRecord, joint: int, begin: float) -> np.ndarray:
    """[horizon, 2] float64: seconds and radians of one joint's predicted path."""
    steps = np.arange(1, len(chunk.positions) + 1)
    return np.column_stack((begin + steps * chunk.dt, chunk.positions[:, joint]))
