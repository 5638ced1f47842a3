"""Recorded messages as objects, and results as messages, by rosbags: no ROS is needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pi0_ros.bags.writer import CHUNK_TYPE, message_types
from pi0_ros.node.observation import Snapshot
from pi0_ros.policy.types import ActionChunk

TRAJECTORY_TYPE = "trajectory_msgs/msg/JointTrajectory"
_SECOND = 1_000_000_000


def decode(data: bytes, kind: str) -> Any:
    """A recorded message; `data` of a picture are a bytearray, which compares as a whole.

    Raises:
        ValueError: the bytes are no message of this type.
    """
    try:
        message = message_types().deserialize_cdr(data, kind)
    except Exception as error:  # of many kinds, depending on where the bytes end
        raise ValueError(f"{len(data)} bytes that are no {kind}: {error}") from error
    if isinstance(getattr(message, "data", None), np.ndarray):
        message.data = bytearray(message.data)
    return message


def encode_chunk(chunk: ActionChunk, snapshot: Snapshot, joints: Sequence[str], now: int) -> bytes:
    """pi0_ros/ActionChunk as `pi0_ros.motion.trajectory.chunk_message` fills it, serialised.

    The times of the inference's stages are left out: they differ from run to run.

    Args:
        now: nanoseconds at which it counts as published.
    """
    types = message_types().types
    message = types[CHUNK_TYPE](
        header=_header(chunk.stamp),
        sequence=chunk.sequence % 2**32,
        seed=chunk.seed,
        instruction=snapshot.instruction,
        dt=float(chunk.dt),
        horizon=len(chunk.positions),
        joint_names=list(joints),
        positions=np.asarray(chunk.positions, np.float64).ravel(),
        camera_names=list(snapshot.image_stamps),
        camera_ages=np.array([(now - s) / _SECOND for s in snapshot.image_stamps.values()]),
        joint_states_age=(now - snapshot.state_stamp) / _SECOND,
        stage_names=[],
        stage_times=np.zeros(0),
        verdict=0,
        rejected_reason="",
    )
    return bytes(message_types().serialize_cdr(message, CHUNK_TYPE))


def encode_trajectory(trajectory: Any) -> bytes:
    """ROS's trajectory_msgs/JointTrajectory, serialised."""
    types = message_types().types
    duration = types["builtin_interfaces/msg/Duration"]
    point = types["trajectory_msgs/msg/JointTrajectoryPoint"]
    empty = np.zeros(0)
    points = [
        point(
            np.array(p.positions),
            np.array(p.velocities),
            empty,
            empty,
            duration(p.time_from_start.sec, p.time_from_start.nanosec),
        )
        for p in trajectory.points
    ]
    stamp = trajectory.header.stamp
    header = _header(stamp.sec * _SECOND + stamp.nanosec)
    message = types[TRAJECTORY_TYPE](header, list(trajectory.joint_names), points)
    return bytes(message_types().serialize_cdr(message, TRAJECTORY_TYPE))


def _header(stamp: int) -> Any:
    types = message_types().types
    time = types["builtin_interfaces/msg/Time"](*divmod(stamp, _SECOND))
    return types["std_msgs/msg/Header"](stamp=time, frame_id="")
