"""The statistics that a LeRobot data set keeps of every feature, per episode and of all.

Names and shapes: lerobot/datasets/compute_stats.py of LeRobot 0.6.1. Those of images are of a
histogram of their values, which adds up exactly; LeRobot's own are of samples, too.
"""

from __future__ import annotations

import numpy as np

QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
_SIDE = 150
"""Pixels that the longer side of an image is thinned out to, about."""


def of_numbers(values: np.ndarray) -> dict[str, np.ndarray]:
    """Statistics of [frames, n] numbers: [n] each, and `count` [1]."""
    values = np.asarray(values, np.float64)
    found = {
        "min": values.min(0),
        "max": values.max(0),
        "mean": values.mean(0),
        "std": values.std(0),
        "count": np.array([len(values)]),
    }
    quantiles = np.quantile(values, list(QUANTILES.values()), axis=0)
    return found | dict(zip(QUANTILES, quantiles, strict=True))


class ImageHistogram:
    """How often each of 256 values occurs in each channel of some images."""

    def __init__(self) -> None:
        self.counts = np.zeros((3, 256), np.int64)
        self.frames = 0

    def add(self, image: np.ndarray) -> None:
        """[height, width, 3] uint8 RGB."""
        step = max(1, max(image.shape[:2]) // _SIDE)
        thin = image[::step, ::step]
        for channel in range(3):
            self.counts[channel] += np.bincount(thin[..., channel].ravel(), minlength=256)
        self.frames += 1

    def __add__(self, other: ImageHistogram) -> ImageHistogram:
        both = ImageHistogram()
        both.counts = self.counts + other.counts
        both.frames = self.frames + other.frames
        return both

    def statistics(self) -> dict[str, np.ndarray]:
        """[3, 1, 1] each, of values from 0 to 1; `count` [1] counts images."""
        values = np.arange(256) / 255
        total = self.counts.sum(1)
        mean = self.counts @ values / total
        below = np.cumsum(self.counts, 1) / total[:, None]
        found = {
            "min": np.array([values[np.flatnonzero(row)[0]] for row in self.counts]),
            "max": np.array([values[np.flatnonzero(row)[-1]] for row in self.counts]),
            "mean": mean,
            "std": np.sqrt(np.maximum(self.counts @ values**2 / total - mean**2, 0)),
            **{name: values[(below < q).sum(1)] for name, q in QUANTILES.items()},
        }
        shaped = {name: value.reshape(3, 1, 1) for name, value in found.items()}
        return shaped | {"count": np.array([self.frames])}
