"""Recorded messages as objects, and results as messages, by rosbags: no ROS is needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pi0_ros.bags.writer import CHUNK_TYPE, message_types
from pi0_ros.motion.trajectory import Trajectory
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


def encode_chunk(
    chunk: ActionChunk, snapshot: Snapshot, joints: Sequence[str], now: int, executed: bool
) -> bytes:
    """pi0_ros/ActionChunk as `pi0_ros.node.messages.chunk_message` fills it, serialised.

    The times of the inference's stages are left out: they differ from run to run.

    Args:
        now: nanoseconds at which it counts as published.
        executed: it is published as a trajectory too.
    """
    types = message_types().types
    kind = types[CHUNK_TYPE]
    message = kind(
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
        verdict=kind.EXECUTED if executed else kind.DRY_RUN,
        rejected_reason="",
    )
    return bytes(message_types().serialize_cdr(message, CHUNK_TYPE))


def encode_trajectory(trajectory: Trajectory, joints: Sequence[str]) -> bytes:
    """trajectory_msgs/JointTrajectory as `pi0_ros.node.messages.trajectory_message` fills it."""
    types = message_types().types
    duration = types["builtin_interfaces/msg/Duration"]
    point = types["trajectory_msgs/msg/JointTrajectoryPoint"]
    empty = np.zeros(0)
    points = zip(trajectory.times, trajectory.positions, trajectory.velocities, strict=True)
    message = types[TRAJECTORY_TYPE](
        _header(trajectory.stamp),
        list(joints),
        [point(p, v, empty, empty, duration(*divmod(t, _SECOND))) for t, p, v in points],
    )
    return bytes(message_types().serialize_cdr(message, TRAJECTORY_TYPE))


def _header(stamp: int) -> Any:
    types = message_types().types
    time = types["builtin_interfaces/msg/Time"](*divmod(stamp, _SECOND))
    return types["std_msgs/msg/Header"](stamp=time, frame_id="")
