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


def histogram(image: np.ndarray) -> np.ndarray:
    """[3, 256] int64, how often each value occurs in each channel of [height, width, 3] uint8."""
    step = max(1, max(image.shape[:2]) // _SIDE)
    channels = image[::step, ::step].reshape(-1, 3).T
    return np.stack([np.bincount(values, minlength=256) for values in channels])


def of_images(counts: np.ndarray, frames: int) -> dict[str, np.ndarray]:
    """[3, 1, 1] each, of values from 0 to 1, by the sum of the images' histograms; `count` [1]."""
    values = np.arange(256) / 255
    total = counts.sum(1)
    mean = counts @ values / total
    below = np.cumsum(counts, 1) / total[:, None]
    found = {
        "min": values[(counts > 0).argmax(1)],
        "max": values[255 - (counts > 0)[:, ::-1].argmax(1)],
        "mean": mean,
        "std": np.sqrt(np.maximum(counts @ values**2 / total - mean**2, 0)),
        **{name: values[(below < q).sum(1)] for name, q in QUANTILES.items()},
    }
    shaped = {name: value.reshape(3, 1, 1) for name, value in found.items()}
    return shaped | {"count": np.array([frames])}
