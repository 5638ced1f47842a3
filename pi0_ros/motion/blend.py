"""Splicing: a path begins in the setpoint's state and blends into its own."""

from __future__ import annotations

import math

import numpy as np


def derivative(positions: np.ndarray, dt: float) -> np.ndarray:
    """Velocities along positions that are `dt` seconds apart.

    Central differences, one-sided at both ends. A cubic Hermite spline through them has continuous
    velocities and passes every position.

    Args:
        positions: [points, joints].

    Returns:
        [points, joints] float64, per second; 0 for a single point.
    """
    positions = np.asarray(positions, dtype=np.float64)
    velocities = np.zeros_like(positions)
    if len(positions) > 1:  # as np.gradient, in half the time
        steps = positions[1:] - positions[:-1]
        velocities[0], velocities[-1] = steps[0] / dt, steps[-1] / dt
        velocities[1:-1] = (positions[2:] - positions[:-2]) / (2 * dt)
    return velocities


def splice(
    positions: np.ndarray,
    velocities: np.ndarray,
    dt: float,
    position: np.ndarray,
    velocity: np.ndarray,
    blend: float,
) -> tuple[np.ndarray, np.ndarray]:
    """A path that begins in another state than its own, and returns to itself.

    The difference at the first point decays along a quintic: position and velocity are met there
    exactly, and position, velocity and acceleration of the difference are 0 after `blend`.

    Args:
        positions: [points, joints] radians, `dt` seconds apart.
        velocities: [points, joints] radians per second.
        position: [joints] of the state to begin in.
        velocity: [joints] of the state to begin in.
        blend: seconds; up to `dt` it only replaces the first point.

    Returns:
        positions, velocities: [points, joints] float64; from `blend` on the path's own, bit by bit.
    """
    positions = np.array(positions, dtype=np.float64)
    velocities = np.array(velocities, dtype=np.float64)
    if blend > dt:
        count = min(len(positions), math.ceil(blend / dt))
        s = (np.arange(count) * dt / blend)[:, None]
        gap, rate = position - positions[0], velocity - velocities[0]
        positions[:count] += gap * (1 + s**3 * (-10 + s * (15 - 6 * s)))
        positions[:count] += rate * blend * (s + s**3 * (-6 + s * (8 - 3 * s)))
        velocities[:count] += gap / blend * (s**2 * (-30 + s * (60 - 30 * s)))
        velocities[:count] += rate * (1 + s**2 * (-18 + s * (32 - 15 * s)))
    positions[0], velocities[0] = position, velocity  # exactly, not but for rounding
    return positions, velocities
