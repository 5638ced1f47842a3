"""How joint_trajectory_controller executes a trajectory: cubic between points, rest at the end.

Written from the controller's documentation, independent of pi0_ros.motion, which it checks.
"""

from __future__ import annotations

import numpy as np


def execute(
    times: np.ndarray, positions: np.ndarray, velocities: np.ndarray, at: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Position, velocity and acceleration at times (nanoseconds) between the points.

    Before the first point it is that point; after the last one it rests there.
    """
    times, at = np.asarray(times), np.asarray(at)
    last = len(times) - 1
    index = np.searchsorted(times, at, side="right") - 1
    i = np.clip(index, 0, max(last - 1, 0))
    j = np.minimum(i + 1, last)
    total = np.maximum(times[j] - times[i], 1)[:, None] / 1e9
    t = (at - times[i])[:, None] / 1e9
    x0, x1, v0, v1 = positions[i], positions[j], velocities[i], velocities[j]
    c2 = (-3 * x0 + 3 * x1 - 2 * v0 * total - v1 * total) / total**2
    c3 = (2 * x0 - 2 * x1 + v0 * total + v1 * total) / total**3
    p = x0 + v0 * t + c2 * t**2 + c3 * t**3
    v = v0 + 2 * c2 * t + 3 * c3 * t**2
    a = 2 * c2 + 6 * c3 * t
    early, late = index < 0, index >= last
    p[early], v[early], a[early] = positions[0], velocities[0], 0.0
    p[late], v[late], a[late] = positions[-1], 0.0, 0.0
    return p, v, a


def between(times: np.ndarray, per_segment: int = 7, after: int | None = None) -> np.ndarray:
    """Times to check: inside every segment, and at its ends; from `after` on."""
    times = np.asarray(times, dtype=np.int64)
    if len(times) < 2:
        return times
    share = np.linspace(0, 1, per_segment)
    inside = times[:-1, None] + (np.diff(times)[:, None] * share).astype(np.int64)
    # A nanosecond before its end a segment still counts as itself.
    found = np.unique(np.concatenate([inside[:, :-1].ravel(), times[1:] - 1, times[-1:]]))
    return found if after is None else found[found >= after]
