"""The emulated joint_trajectory_controller: trajectories in, commanded joint positions out.

Written from the rules of joint_trajectory_controller (ros2_controllers; the branches humble, jazzy,
kilted and master, and its documentation of trajectory replacement). Three things are stricter
here: numbers that are not finite, names given twice and a first time below 0 are rejected.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pi0_ros.sim.spline import SECOND, Spline

_STILL = float(np.finfo(np.float32).eps)  # rad/s: more at the end of a trajectory is motion


class Rejected(ValueError):
    """A trajectory that is not executed; its text has what came and what was expected."""


@dataclass(frozen=True)
class Points:
    """A trajectory_msgs/JointTrajectory in plain data.

    Attributes:
        names: joints, in the order of the columns.
        stamp: nanoseconds that `times` count from; 0: when it is received.
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
                raise Rejected(f"point {i} has {field}: send positions and velocities only")
        if bool(len(point.velocities)) != bool(len(points[0].velocities)):
            raise Rejected(f"point {i}: expected velocities at every point or at none")
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
            raise Rejected(f"point {i} has {len(row)} {what} for {len(names)} joint names")
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(names))


def _nanoseconds(field: Any) -> int:
    return int(field.sec) * SECOND + int(field.nanosec)


class Controller:
    """Executes one trajectory after the other.

    Points with velocities are joined by cubics, points without by lines; the last point is held.
    What a new trajectory does to the executing one depends on `splice`:

    False, as up to Kilted: the old one is forgotten at once. If the first point is still to come,
    the path to it begins at the measured state; if points have passed already, the command steps to
    where the new trajectory is by now.

    True, as documented for master (allow_trajectory_replacement): the old one goes on until the new
    one starts; from there the path leads to its first point that is still to come, without a step.

    Args:
        joints: whose positions are commanded, in the order of the commands.
        from_desired: the path to a first point that is still to come begins at the last command
            instead of the measured state (interpolate_from_desired_state).
        splice: see above.
        allow_nonzero_end: a trajectory may end in motion.
        allow_partial: a trajectory may leave joints out. They hold their last command, or, with
            `splice`, go on along the old trajectory.
    """

    def __init__(
        self,
        joints: Sequence[str],
        *,
        from_desired: bool = False,
        splice: bool = False,
        allow_nonzero_end: bool = False,
        allow_partial: bool = False,
    ) -> None:
        self.joints = tuple(joints)
        self._from_desired = from_desired
        self._splice = splice
        self._allow_nonzero_end = allow_nonzero_end
        self._allow_partial = allow_partial
        self._new: Points | None = None
        self._paths: list[Spline] = []
        self._last = 0  # nanoseconds of the last command

    def accept(self, trajectory: Points, now: int) -> None:
        """Takes a trajectory that arrived at `now` (nanoseconds); the next command follows it.

        Raises:
            Rejected: it is not valid; what was executed before goes on.
        """
        self._check(trajectory, now)
        stamp = trajectory.stamp or now
        times = np.asarray(trajectory.times, dtype=np.int64) + stamp
        self._new = replace(trajectory, stamp=stamp, times=times)

    def command(
        self, now: int, measured: np.ndarray, velocities: np.ndarray | None = None
    ) -> np.ndarray:
        """What to command at a time; before any trajectory, where the joints were at first.

        Args:
            now: nanoseconds, not decreasing from call to call.
            measured: [joints] radians.
            velocities: [joints] radians per second, measured; None: unknown, which counts as
                0.

        Returns:
            [joints] float64 radians.
        """
        measured = np.asarray(measured, dtype=np.float64)
        if measured.shape != (len(self.joints),):
            raise ValueError(f"measured must be [{len(self.joints)}], got {list(measured.shape)}")
        if not self._paths:
            self._paths = [Spline.hold(now, position) for position in measured.tolist()]
            self._last = now
        if self._new is not None:
            speeds = np.zeros(len(measured)) if velocities is None else np.asarray(velocities)
            self._begin(self._new, now, measured.tolist(), speeds.tolist())
            self._new = None
        self._last = now
        return np.array([path.at(now)[0] for path in self._paths])

    def _begin(self, new: Points, now: int, measured: list[float], speeds: list[float]) -> None:
        """Make the paths of an accepted trajectory, whose times are absolute."""
        times = new.times.tolist()
        for joint, name in enumerate(self.joints):
            old = self._paths[joint]
            if name not in new.names:
                if not self._splice:
                    self._paths[joint] = Spline.hold(now, old.at(self._last)[0])
                continue
            column = new.names.index(name)
            positions = np.asarray(new.positions, dtype=np.float64)[:, column].tolist()
            velocities = [None] * len(times)
            if new.velocities is not None:
                velocities = np.asarray(new.velocities, dtype=np.float64)[:, column].tolist()
            points = list(zip(times, positions, velocities, strict=True))
            if self._splice:
                path = old.splice(points, new.stamp, now)
            elif times[0] <= now:
                path = Spline.through(points)
            elif self._from_desired:
                path = Spline.through([(self._last, *old.at(self._last)), *points])
            else:
                path = Spline.through([(now, measured[joint], speeds[joint]), *points])
            self._paths[joint] = path

    def _check(self, trajectory: Points, now: int) -> None:
        self._check_names(trajectory.names)
        times = np.asarray(trajectory.times)
        if not times.size:
            raise Rejected("the trajectory has no points")
        shape = (len(times), len(trajectory.names))
        for what in ("positions", "velocities"):
            values = getattr(trajectory, what)
            if values is None and what == "velocities":
                continue
            values = np.asarray(values, dtype=np.float64)
            if values.shape != shape:
                raise Rejected(
                    f"{what} must be [{shape[0]} points, {shape[1]} joints], "
                    f"got {list(values.shape)}"
                )
            if not np.isfinite(values).all():
                point, joint = np.argwhere(~np.isfinite(values))[0]
                raise Rejected(
                    f"{what} must be finite, got {values[point, joint]} for joint "
                    f"{trajectory.names[joint]} at point {point}"
                )
        if times[0] < 0:
            raise Rejected(f"the first point is {times[0] / SECOND} s before the start")
        stuck = np.flatnonzero(np.diff(times) <= 0)
        if stuck.size:
            i = int(stuck[0])
            raise Rejected(
                f"times must strictly increase: point {i} is at {times[i] / SECOND} s, "
                f"point {i + 1} at {times[i + 1] / SECOND} s"
            )
        end = trajectory.stamp + int(times[-1])
        if trajectory.stamp and end < now:
            raise Rejected(
                f"the trajectory ended {(now - end) / SECOND:.3f} s ago; is the stamp of this "
                "clock? A stamp of 0 starts now"
            )
        if trajectory.velocities is not None and not self._allow_nonzero_end:
            for name, velocity in zip(trajectory.names, trajectory.velocities[-1], strict=True):
                if abs(velocity) > _STILL:
                    raise Rejected(
                        f"the last velocity of joint {name} must be 0, got {velocity} rad/s"
                    )

    def _check_names(self, names: Sequence[str]) -> None:
        expected = f"expected {', '.join(self.joints)}"
        doubled = sorted({name for name in names if list(names).count(name) > 1})
        unknown = [name for name in names if name not in self.joints]
        missing = [name for name in self.joints if name not in names]
        if not names:
            raise Rejected(f"the trajectory names no joints; {expected}")
        if doubled:
            raise Rejected(f"joints named twice: {', '.join(doubled)}; {expected}")
        if unknown:
            raise Rejected(f"unknown joints: {', '.join(unknown)}; {expected}")
        if missing and not self._allow_partial:
            raise Rejected(f"joints left out: {', '.join(missing)}; {expected}")
