"""A chunk as a replay records it."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class ChunkRecord:
    """One ~/action_chunk message.

    Attributes:
        stamp: time of the observation, ns.
        sequence: number of the chunk since the node started.
        instruction: the prompt it answers.
        joint_names: joint order of `positions`.
        positions: [horizon, joints] float32, rad; step i is due at `stamp` + (i + 1) * `dt`.
        dt: seconds between two steps.
        camera_ages: seconds from each camera's stamp to the publication.
        inference_time: seconds of wall time, all stages; 0 where a deterministic replay left them
            out.
        seed: with `sequence` it gives the noise that the chunk started from.
        camera_names: of `camera_ages`.
        joint_states_age: seconds from the joint state's stamp to the publication.
    """

    stamp: int
    sequence: int
    instruction: str
    joint_names: tuple[str, ...]
    positions: np.ndarray
    dt: float
    camera_ages: tuple[float, ...]
    inference_time: float
    seed: int = 0
    camera_names: tuple[str, ...] = ()
    joint_states_age: float = 0.0


def chunk_record(message: Any) -> ChunkRecord:
    """A pi0_ros/msg/ActionChunk, of rclpy or of rosbags, as a record.

    Raises:
        ValueError: it does not hold `horizon` times as many positions as joints.
    """
    stamp, joints = message.header.stamp, tuple(message.joint_names)
    positions = np.array(message.positions, np.float32).reshape(message.horizon, len(joints))
    return ChunkRecord(
        stamp=stamp.sec * 1_000_000_000 + stamp.nanosec,
        sequence=message.sequence,
        instruction=message.instruction,
        joint_names=joints,
        positions=positions,
        dt=message.dt,
        camera_ages=tuple(message.camera_ages),
        inference_time=float(sum(message.stage_times)),
        seed=message.seed,
        camera_names=tuple(message.camera_names),
        joint_states_age=message.joint_states_age,
    )
