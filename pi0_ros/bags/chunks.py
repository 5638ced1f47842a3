"""Action chunks and trajectories as they are recorded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pi0_ros.bags.messages import CHUNK_TYPE, make, make_header

DRY_RUN, EXECUTED, REJECTED = 0, 1, 2
"""What became of a chunk, as pi0_ros/msg/ActionChunk numbers it."""


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
        verdict: DRY_RUN, EXECUTED or REJECTED.
        rejected_reason: of a rejected chunk: the reason and the details; otherwise "".
        rtc, rtc_fallback, rtc_delay, rtc_weights: real-time chunking, as the message has it.
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
    verdict: int = DRY_RUN
    rejected_reason: str = ""
    rtc: int = 0
    rtc_fallback: str = ""
    rtc_delay: int = 0
    rtc_weights: tuple[float, ...] = ()

    @property
    def rejected(self) -> bool:
        """The node did not use it."""
        return self.verdict == REJECTED

    def message(self) -> Any:
        """The message without the times of the inference's stages, which differ in every run."""
        return make(
            CHUNK_TYPE,
            header=make_header(self.stamp),
            sequence=self.sequence % 2**32,
            seed=self.seed,
            instruction=self.instruction,
            dt=float(self.dt),
            horizon=len(self.positions),
            joint_names=list(self.joint_names),
            positions=np.asarray(self.positions, np.float64).ravel(),
            camera_names=list(self.camera_names),
            camera_ages=np.array(self.camera_ages),
            joint_states_age=self.joint_states_age,
            stage_names=[],
            stage_times=np.zeros(0),
            verdict=self.verdict,
            rejected_reason=self.rejected_reason,
            rtc=self.rtc,
            rtc_fallback=self.rtc_fallback,
            rtc_delay=self.rtc_delay,
            rtc_weights=np.array(self.rtc_weights, np.float64),
        )


def chunk_record(message: Any) -> ChunkRecord:
    """A pi0_ros/msg/ActionChunk, of rclpy or of rosbags, as a record.

    Raises:
        ValueError: it does not hold `horizon` times as many positions as joints.
    """
    stamp, joints = message.header.stamp, tuple(message.joint_names)
    return ChunkRecord(
        stamp=stamp.sec * 1_000_000_000 + stamp.nanosec,
        sequence=message.sequence,
        instruction=message.instruction,
        joint_names=joints,
        positions=np.array(message.positions, np.float32).reshape(message.horizon, len(joints)),
        dt=message.dt,
        camera_ages=tuple(message.camera_ages),
        inference_time=float(sum(message.stage_times)),
        seed=message.seed,
        camera_names=tuple(message.camera_names),
        joint_states_age=message.joint_states_age,
        verdict=message.verdict,
        rejected_reason=message.rejected_reason,
        rtc=message.rtc,
        rtc_fallback=message.rtc_fallback,
        rtc_delay=message.rtc_delay,
        rtc_weights=tuple(message.rtc_weights),
    )


@dataclass(frozen=True)
class RecordedTrajectory:
    """A JointTrajectory.

    Attributes:
        time: when it was published, ns.
        start: ns that `times` count from: its header's stamp, or `time` where that is 0.
        joint_names: columns of `positions`.
        times: [points] seconds from start.
        positions: [points, joints] rad.
    """

    time: int
    start: int
    joint_names: tuple[str, ...]
    times: np.ndarray
    positions: np.ndarray


def read_trajectory(message: Any, time: int) -> RecordedTrajectory:
    """A trajectory_msgs/JointTrajectory received at `time` (ns).

    Raises:
        ValueError: a point does not have one position per joint.
    """
    stamp = message.header.stamp
    start = stamp.sec * 1_000_000_000 + stamp.nanosec
    seconds = [p.time_from_start.sec + p.time_from_start.nanosec / 1e9 for p in message.points]
    names = tuple(message.joint_names)
    if any(len(point.positions) != len(names) for point in message.points):
        raise ValueError(f"points without a position for each of {len(names)} joints")
    positions = np.array([p.positions for p in message.points], float).reshape(-1, len(names))
    return RecordedTrajectory(time, start or time, names, np.array(seconds), positions)
