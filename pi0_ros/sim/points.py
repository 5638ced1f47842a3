"""A trajectory_msgs/JointTrajectory in plain data, and when the controller rejects it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from pi0_ros.sim.waypoints import SECOND

_STILL = float(np.finfo(np.float32).eps)  # rad/s: more at the end of a trajectory is motion


class Reason(Enum):
    """Why a trajectory is rejected."""

    JOINT_COUNT = "joints left out or too many"
    NO_JOINTS = "no joint names"
    NO_POINTS = "no points"
    ENDED = "end in the past"
    UNKNOWN_JOINT = "unknown joint"
    NOT_AT_REST = "last velocity not zero"
    TIMES = "times not strictly increasing"
    FIELDS = "fields of the points"
    # The real controller does not look at these two.
    DOUBLED_JOINT = "joint named twice"
    NOT_FINITE = "not finite"


class Rejected(ValueError):
    """A trajectory that is not executed; its text has what came and what was expected."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason.value}: {detail}")
        self.reason = reason


@dataclass(frozen=True)
class Points:
    """A trajectory_msgs/JointTrajectory in plain data.

    Attributes:
        names: joints, in the order of the columns.
        stamp: nanoseconds that `times` count from; 0: from the cycle that executes it first.
        times: [points] int64, nanoseconds.
        positions: [points, joints] radians.
        velocities: [points, joints] radians per second, or None.
    """

    names: tuple[str, ...]
    stamp: int
    times: np.ndarray
    positions: np.ndarray
    velocities: np.ndarray | None = None


def points_of(message: Any) -> Points:
    """What a trajectory_msgs/JointTrajectory holds; its attributes are enough, no ROS needed.

    Raises:
        Rejected: points of different lengths, velocities at some points only, or accelerations or
            efforts, which a controller would use and this one does not.
    """
    points = message.points
    for i, point in enumerate(points):
        for field in ("accelerations", "effort"):
            if len(getattr(point, field)):
                detail = f"point {i} has {field}: send positions and velocities only"
                raise Rejected(Reason.FIELDS, detail)
        if bool(len(point.velocities)) != bool(len(points[0].velocities)):
            detail = f"point {i}: expected velocities at every point or at none"
            raise Rejected(Reason.FIELDS, detail)
    velocities = None
    if points and len(points[0].velocities):
        velocities = _rows("velocities", [p.velocities for p in points], message.joint_names)
    return Points(
        names=tuple(message.joint_names),
        stamp=_nanoseconds(message.header.stamp),
        times=np.array([_nanoseconds(point.time_from_start) for point in points], dtype=np.int64),
        positions=_rows("positions", [p.positions for p in points], message.joint_names),
        velocities=velocities,
    )


def _rows(what: str, rows: list[Sequence[float]], names: Sequence[str]) -> np.ndarray:
    for i, row in enumerate(rows):
        if len(row) != len(names):
            detail = f"point {i} has {len(row)} {what} for {len(names)} joint names"
            raise Rejected(Reason.FIELDS, detail)
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(names))


def _nanoseconds(field: Any) -> int:
    return int(field.sec) * SECOND + int(field.nanosec)


@dataclass(frozen=True)
class Checks:
    """What a controller demands of a trajectory before it executes it.

    Attributes:
        joints: of the controller.
        partial: a trajectory may leave joints out.
        moving_end: it may end in motion.
        past_first: that it ended before its arrival is looked at before the names of its joints
            are, not after the velocities at its end.
    """

    joints: tuple[str, ...]
    partial: bool
    moving_end: bool
    past_first: bool

    def check(self, points: Points, now: int) -> None:
        """Look at a trajectory that arrives at `now` (nanoseconds).

        Raises:
            Rejected: for the first check that fails, in the order of the real controller.
        """
        self._count(points)
        if self.past_first:
            _check_arrival(points, now)
        self._names(points)
        if not self.moving_end:
            _check_rest(points)
        if not self.past_first:
            _check_arrival(points, now)
        _check_times(points.times)
        _check_fields(points)

    def _count(self, points: Points) -> None:
        names = points.names
        if not self.partial and len(names) != len(self.joints):
            detail = f"got {', '.join(names) or 'none'}; expected {', '.join(self.joints)}"
            raise Rejected(Reason.JOINT_COUNT, detail)
        if not names:
            detail = f"the trajectory names no joints; expected some of {', '.join(self.joints)}"
            raise Rejected(Reason.NO_JOINTS, detail)
        if not len(points.times):
            raise Rejected(Reason.NO_POINTS, "the trajectory is empty; expected at least one")

    def _names(self, points: Points) -> None:
        expected = f"expected {', '.join(self.joints)}"
        unknown = [name for name in points.names if name not in self.joints]
        if unknown:
            raise Rejected(Reason.UNKNOWN_JOINT, f"{', '.join(unknown)}; {expected}")
        doubled = sorted({name for name in points.names if points.names.count(name) > 1})
        if doubled:
            raise Rejected(Reason.DOUBLED_JOINT, f"{', '.join(doubled)}; {expected}")


def _check_rest(points: Points) -> None:
    if points.velocities is None or not len(points.velocities):
        return
    for name, velocity in zip(points.names, points.velocities[-1], strict=False):
        if abs(velocity) > _STILL:
            raise Rejected(Reason.NOT_AT_REST, f"joint {name} at {velocity} rad/s; expected 0")


def _check_arrival(points: Points, now: int) -> None:
    end = points.stamp + int(points.times[-1])
    if points.stamp and end < now:
        detail = (
            f"the trajectory ended {(now - end) / SECOND:.3f} s ago; is the stamp of this clock?"
        )
        raise Rejected(Reason.ENDED, f"{detail} A stamp of 0 starts now")


def _check_times(times: np.ndarray) -> None:
    stuck = np.flatnonzero(np.diff(times) <= 0)
    if stuck.size:
        here, after = times[stuck[0]] / SECOND, times[stuck[0] + 1] / SECOND
        raise Rejected(Reason.TIMES, f"point {stuck[0]} is at {here} s, the next at {after} s")


def _check_fields(points: Points) -> None:
    shape = (len(points.times), len(points.names))
    for what in ("positions", "velocities"):
        values = getattr(points, what)
        if values is None and what == "velocities":
            continue
        values = np.asarray(values, dtype=np.float64)
        if values.shape != shape:
            detail = f"[{shape[0]} points, {shape[1]} joints], got {list(values.shape)}"
            raise Rejected(Reason.FIELDS, f"{what} must be {detail}")
        if not np.isfinite(values).all():
            point, joint = np.argwhere(~np.isfinite(values))[0]
            detail = f"{values[point, joint]} for joint {points.names[joint]} at point {point}"
            raise Rejected(Reason.NOT_FINITE, f"{what} have {detail}")
