"""A motion as the points of a trajectory; a trajectory and an action chunk as messages.

The rules are joint_trajectory_controller's (ros2_controllers): a stamp of 0 means "start now",
`time_from_start` strictly increases, a trajectory wholly in the past is rejected, and so is a last
velocity other than 0 (parameter allow_nonzero_velocity_at_trajectory_end of the controller).
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pi0_ros.motion.spline import Motion
from pi0_ros.node.observation import Snapshot
from pi0_ros.policy.types import ActionChunk

if TYPE_CHECKING:
    from trajectory_msgs.msg import JointTrajectory

    from pi0_ros.msg import ActionChunk as ActionChunkMessage

_SECOND = 1_000_000_000


@dataclass(frozen=True)
class Trajectory:
    """Timed points.

    Attributes:
        stamp: nanoseconds that `times` count from; 0 is the time at which it is received.
        times: nanoseconds per point, strictly increasing, the first above 0.
        positions: [points, joints] float64, radians.
        velocities: [points, joints] float64, radians per second.
    """

    stamp: int
    times: tuple[int, ...]
    positions: np.ndarray
    velocities: np.ndarray


def trajectory_of(motion: Motion, stamp: int, zero: int) -> Trajectory:
    """The points of a motion.

    Args:
        stamp: of the message, nanoseconds; 0: start now.
        zero: nanoseconds that the points' times count from: `stamp`, or what "now" is. Points that
            are not later are left out.
    """
    left = motion.times > zero
    times = tuple((motion.times[left] - zero).tolist())
    return Trajectory(stamp, times, motion.positions[left], motion.velocities[left])


def trajectory_message(trajectory: Trajectory, joints: Sequence[str]) -> JointTrajectory:
    """trajectory_msgs/JointTrajectory for the controller; columns of `trajectory` are `joints`."""
    from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

    message = JointTrajectory(joint_names=list(joints))
    _set_time(message.header.stamp, trajectory.stamp)
    points = zip(trajectory.times, trajectory.positions, trajectory.velocities, strict=True)
    for time, position, velocity in points:
        point = JointTrajectoryPoint()
        # rclpy looks at every element of a list, and takes an array as it is.
        point.positions = array("d", position.tobytes())
        point.velocities = array("d", velocity.tobytes())
        _set_time(point.time_from_start, time)
        message.points.append(point)
    return message


def chunk_message(
    chunk: ActionChunk, snapshot: Snapshot, joints: Sequence[str], now: int
) -> ActionChunkMessage:
    """pi0_ros/ActionChunk: the whole chunk, with the ages of its parts at `now` (nanoseconds)."""
    from pi0_ros.msg import ActionChunk as ActionChunkMessage

    message = ActionChunkMessage(
        sequence=chunk.sequence % 2**32,
        seed=chunk.seed,
        instruction=snapshot.instruction,
        dt=float(chunk.dt),
        horizon=len(chunk.positions),
        joint_names=list(joints),
        positions=array("d", np.asarray(chunk.positions, dtype=np.float64).tobytes()),
        camera_names=list(snapshot.image_stamps),
        camera_ages=[(now - stamp) / _SECOND for stamp in snapshot.image_stamps.values()],
        joint_states_age=(now - snapshot.state_stamp) / _SECOND,
        stage_names=list(chunk.stage_times),
        stage_times=[float(time) for time in chunk.stage_times.values()],
    )
    _set_time(message.header.stamp, chunk.stamp)
    return message


def _set_time(field: object, nanoseconds: int) -> None:
    """Fill a builtin_interfaces Time or Duration."""
    field.sec, field.nanosec = divmod(nanoseconds, _SECOND)
