"""The arm of the fault suite: its controller, and joints that lag behind the commands."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pi0_ros.sim.controller import Controller
from pi0_ros.sim.points import Rejected, points_of
from support.controller import between, execute

PERIOD = 10_000_000
"""Nanoseconds of a cycle of the controller."""

LAG = 60_000_000
"""Nanoseconds: the joints' time constant."""

_SECOND = 1_000_000_000


def nanoseconds(time: Any) -> int:
    """A builtin_interfaces Time or Duration."""
    return time.sec * _SECOND + time.nanosec


class Path:
    """A JointTrajectory on the clock: cubic between its points, at rest after the last one.

    Attributes:
        times: [points] int64, nanoseconds of the clock.
        positions, velocities: [points, joints] float64.
    """

    def __init__(self, message: Any, received: int) -> None:
        """`received`: nanoseconds of the clock; a stamp of 0 means that time.

        Raises:
            ValueError: the arrays do not fit each other.
        """
        start = nanoseconds(message.header.stamp) or received
        points = message.points
        self.times = np.array([start + nanoseconds(p.time_from_start) for p in points], np.int64)
        self.positions = np.array([p.positions for p in points], np.float64)
        self.velocities = np.array([p.velocities for p in points], np.float64)
        shape = len(points), len(message.joint_names)
        if self.positions.shape != shape or self.velocities.shape != shape:
            raise ValueError(
                f"{shape[0]} points of {shape[1]} joints, but positions {self.positions.shape}"
                f" and velocities {self.velocities.shape}"
            )

    @property
    def end(self) -> int:
        """Nanoseconds of the last point."""
        return int(self.times[-1])

    def begin_at(self, time: int, position: np.ndarray, velocity: np.ndarray) -> None:
        """Move from this state to the first point, if that is still to come."""
        if time < self.times[0]:
            self.times = np.concatenate([[time], self.times])
            self.positions = np.vstack([position, self.positions])
            self.velocities = np.vstack([velocity, self.velocities])

    def sample(self, at: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Position, velocity and acceleration, [times, joints] each."""
        return execute(self.times, self.positions, self.velocities, np.asarray(at, np.int64))

    def sample_times(self) -> np.ndarray:
        """Times to check: the points, just before them, and some between them."""
        return between(self.times)


class Arm:
    """joint_trajectory_controller (jazzy, 100 Hz), and joints that follow its commands late.

    Attributes:
        command: [joints] radians of the last cycle.
    """

    def __init__(self, joints: Sequence[str], positions: Sequence[float]) -> None:
        self.joints = list(joints)
        self._hold(np.array(positions, np.float64))

    def execute(self, message: Any, now: int) -> None:
        """Give the controller a trajectory; one that it rejects changes nothing."""
        self._advance(now)
        with contextlib.suppress(Rejected):
            self._controller.accept(points_of(message), now)

    def state(self, now: int) -> tuple[np.ndarray, np.ndarray]:
        """Positions and velocities, [joints] each."""
        self._advance(now)
        return self._position, self._velocity

    def freeze(self, now: int) -> None:
        """Hold the last command: the clock jumped, and what was to happen lies in another time."""
        self._advance(now)
        self._hold(self.command)

    def _hold(self, positions: np.ndarray) -> None:
        self._controller = Controller(self.joints, "jazzy", PERIOD)
        self.command = self._position = positions
        self._velocity = np.zeros_like(positions)
        self._cycle: int | None = None

    def _advance(self, now: int) -> None:
        """The controller's cycles up to a time."""
        if self._cycle is None:
            self._cycle = now - PERIOD
        while self._cycle + PERIOD <= now:
            self._cycle += PERIOD
            self.command = self._controller.command(self._cycle, self._position, self._velocity)
            way = (self.command - self._position) * (1 - math.exp(-PERIOD / LAG))
            self._position, self._velocity = self._position + way, way * _SECOND / PERIOD
