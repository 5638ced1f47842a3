"""The loss curve as an image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from examples.touch_task.train import Losses

_SMOOTH = 50  # steps


def draw_losses(file: Path, curves: Losses) -> None:
    """Write a PNG: the losses over the steps, smoothed; the flow joins when its phase begins.

    Raises:
        ImportError: matplotlib is not installed.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
    for values, label in (
        (curves.patches, "which patch (cross entropy)"),
        (curves.goal, "where the expert goes"),
        (curves.flow, "flow"),
    ):
        first_step = len(curves.goal) - len(values)
        window = min(_SMOOTH, len(values))
        if not window:
            continue
        smooth = np.convolve(values, np.ones(window) / window, mode="valid")
        axes.plot(first_step + window - 1 + np.arange(len(smooth)), smooth, label=label)
    axes.set(xlabel="step", ylabel=f"loss (mean of {_SMOOTH} steps)", yscale="log")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(file, dpi=120)
    plt.close(figure)
