"""Trajectories of two joints, and a controller to give them to."""

from dataclasses import replace

import numpy as np

from pi0_ros.sim.controller import Controller
from pi0_ros.sim.points import Points
from pi0_ros.sim.versions import Parameters

MS = 1_000_000
SECOND = 1_000_000_000
NOW = 1_790_000_000_123_456_789
HERE = np.array([0.1, -0.2])


def points(times, positions, velocities=None, stamp=0, names=("a", "b")) -> Points:
    """Times in milliseconds."""
    return Points(
        tuple(names),
        stamp,
        np.array(times, dtype=np.int64) * MS,
        np.array(positions, dtype=float),
        None if velocities is None else np.array(velocities, dtype=float),
    )


def ramp(**changes) -> Points:
    """Positions only: (1, 2) at 100 ms, (2, 4) at 200 ms."""
    return replace(points([100, 200], [[1, 2], [2, 4]]), **changes)


def running(first=None, version="humble", **parameters) -> Controller:
    """A controller at 1 kHz, at rest at HERE, told of `first` at NOW."""
    controller = Controller(("a", "b"), version, MS, Parameters(**parameters))
    np.testing.assert_array_equal(controller.command(NOW, HERE), HERE)
    if first is not None:
        controller.accept(first, NOW)
    return controller


def at(controller: Controller, ms: float, measured=HERE) -> np.ndarray:
    return controller.command(NOW + round(ms * MS), np.asarray(measured, dtype=float))
