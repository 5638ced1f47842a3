"""Trajectories and action chunks as ROS messages."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from pi0_ros.motion.rtc import MODES, NO_AGREEMENT, Agreement
from pi0_ros.motion.spline import Trajectory
from pi0_ros.msg import ActionChunk as ActionChunkMessage
from pi0_ros.node.observation import Snapshot
from pi0_ros.policy.types import ActionChunk

_SECOND = 1_000_000_000


def trajectory_message(
    trajectory: Trajectory, joints: Sequence[str], message: JointTrajectory | None = None
) -> JointTrajectory:
    """trajectory_msgs/JointTrajectory for the controller; columns of `trajectory` are `joints`.

    Args:
        message: of an earlier call with the same joints, to be filled again: making its points
            takes most of the time.
    """
    message = message or JointTrajectory(joint_names=list(joints))
    _set_time(message.header.stamp, trajectory.stamp)
    points = message.points
    del points[len(trajectory.times) :]
    points += [JointTrajectoryPoint() for _ in range(len(trajectory.times) - len(points))]
    rows = zip(points, trajectory.times, trajectory.positions, trajectory.velocities, strict=True)
    for point, time, position, velocity in rows:
        # rclpy looks at every element of a list, and takes an array as it is.
        point.positions = array("d", position.tobytes())
        point.velocities = array("d", velocity.tobytes())
        _set_time(point.time_from_start, time)
    return message


def chunk_message(
    chunk: ActionChunk,
    snapshot: Snapshot,
    joints: Sequence[str],
    now: int,
    executed: bool,
    rejected: str = "",
    agreement: Agreement = NO_AGREEMENT,
) -> ActionChunkMessage:
    """pi0_ros/ActionChunk: the whole chunk, and what became of it.

    Args:
        now: nanoseconds at which the ages of its parts are taken.
        executed: it led to a trajectory that was published.
        rejected: why it was refused; "" if it was not.
        agreement: what it was made to agree with.
    """
    verdict = ActionChunkMessage.EXECUTED if executed else ActionChunkMessage.DRY_RUN
    message = ActionChunkMessage(
        verdict=ActionChunkMessage.REJECTED if rejected else verdict,
        rejected_reason=rejected,
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
        rtc=MODES.index(agreement.rtc),
        rtc_fallback=agreement.fallback,
    )
    if agreement.prefix is not None:
        message.rtc_delay = agreement.prefix.delay
        message.rtc_weights = array("d", agreement.prefix.weights.astype(np.float64).tobytes())
    _set_time(message.header.stamp, chunk.stamp)
    return message


def _set_time(field: object, nanoseconds: int) -> None:
    """Fill a builtin_interfaces Time or Duration."""
    field.sec, field.nanosec = divmod(nanoseconds, _SECOND)
