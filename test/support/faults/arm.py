"""An ideal arm: joint_trajectory_controller's rules, and joints that do exactly what they are told.

Independent of what the node uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from support.controller import between, execute

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
    """Joints that follow the newest trajectory exactly."""

    def __init__(self, joints: Sequence[str], positions: Sequence[float]) -> None:
        self.joints = list(joints)
        self._rest = np.array(positions, np.float64)
        self._path: Path | None = None

    def execute(self, message: Any, now: int) -> None:
        """Take over a trajectory as the controller would; one it would refuse changes nothing."""
        if list(message.joint_names) != self.joints or not message.points:
            return
        try:
            path = Path(message, now)
        except ValueError:
            return
        if path.end <= now or not np.isfinite(path.positions).all():
            return
        path.begin_at(now, *self.state(now))
        self._path = path

    def state(self, now: int) -> tuple[np.ndarray, np.ndarray]:
        """Positions and velocities, [joints] each."""
        if self._path is None:
            return self._rest, np.zeros_like(self._rest)
        position, velocity, _ = self._path.sample([now])
        return position[0], velocity[0]

    def freeze(self, now: int) -> None:
        """Stay where it is: the clock jumped, and what was to happen lies in another time."""
        self._rest, self._path = self.state(now)[0].copy(), None
