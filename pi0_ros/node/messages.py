"""Trajectories and action chunks as ROS messages."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import count

import numpy as np
from rclpy.serialization import serialize_message
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from pi0_ros.motion.rtc import MODES, NO_AGREEMENT, Agreement
from pi0_ros.motion.spline import Trajectory
from pi0_ros.msg import ActionChunk as ActionChunkMessage
from pi0_ros.node.observation import Snapshot
from pi0_ros.policy.types import ActionChunk

_SECOND = 1_000_000_000
_TRIES = 5
_marks = count()


def trajectory_message(trajectory: Trajectory, joints: Sequence[str]) -> JointTrajectory:
    """trajectory_msgs/JointTrajectory for the controller; columns of `trajectory` are `joints`."""
    message = JointTrajectory(joint_names=list(joints))
    _set_time(message.header.stamp, trajectory.stamp)
    columns = trajectory.times, trajectory.positions.tolist(), trajectory.velocities.tolist()
    for time, positions, velocities in zip(*columns, strict=True):
        point = JointTrajectoryPoint(positions=positions, velocities=velocities)
        _set_time(point.time_from_start, time)
        message.points.append(point)
    return message


class TrajectorySerializer:
    """Serialises a `trajectory_message` without making it, which would take thirty times as long.

    Messages with the same joints and as many points differ in their numbers only. Each of these is
    two words of 32 bits: a float64, or the seconds and nanoseconds of a time. ROS serialises one
    message whose numbers all have the same second word; it is found again, and overwritten.
    """

    def __init__(self, joints: Sequence[str]) -> None:
        self._joints = tuple(joints)
        self._points = 0

    def serialize(self, trajectory: Trajectory) -> bytes:
        """As `rclpy.serialization.serialize_message` does; columns are this serialiser's joints."""
        points = len(trajectory.times)
        if points != self._points and not any(self._begin(points) for _ in range(_TRIES)):
            return serialize_message(trajectory_message(trajectory, self._joints))
        joints = len(self._joints)
        numbers = np.empty((self._points, 2 * joints + 1))  # point by point, as in the message
        numbers[:, :joints] = trajectory.positions
        numbers[:, joints:-1] = trajectory.velocities
        words = numbers.view(np.uint32).reshape(self._points, -1, 2)
        words[:, -1] = np.transpose(np.divmod(trajectory.times, _SECOND))
        self._words[self._places] = words
        self._words[self._stamp] = divmod(trajectory.stamp, _SECOND)
        return self._words.tobytes()

    def _begin(self, points: int) -> bool:
        """Have ROS serialise a message with so many points, and find its numbers; False where more
        are found than it has, as padding may hold what the memory held before."""
        # No text has a byte FF, and no count is as large. Another mark each time.
        mark = 0x3AFF0000 + next(_marks) % 2**16
        value = np.full((points, len(self._joints)), np.uint64(mark) << np.uint64(32))
        value = value.view(np.float64)
        message = trajectory_message(Trajectory(mark, (mark,) * points, value, value), self._joints)
        words = np.frombuffer(serialize_message(message), np.uint32)
        places = np.flatnonzero(words == mark)[:, None] + [-1, 0]
        if len(places) != 1 + points * (2 * len(self._joints) + 1):
            return False
        # Without the padding behind the last number, which strict readers of recordings refuse.
        self._words = words[: places[-1, 1] + 1].copy()
        self._stamp, self._places = places[0], places[1:].reshape(points, -1, 2)
        self._points = points
        return True


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
