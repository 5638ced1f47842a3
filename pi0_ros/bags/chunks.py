"""Action chunks and trajectories as they are recorded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pi0_ros.bags.messages import CHUNK_TYPE, make, make_header
from pi0_ros.node.observation import stamp_of

DRY_RUN, EXECUTED, REJECTED = 0, 1, 2
"""What became of a chunk, as pi0_ros/msg/ActionChunk numbers it."""

# Fields of the message and of the record: alike; lists or arrays there and tuples here.
_ALIKE = ("sequence", "seed", "instruction", "dt", "joint_states_age", "verdict")
_ALIKE += ("rejected_reason", "rtc", "rtc_fallback", "rtc_delay")
_NAMES, _NUMBERS = ("joint_names", "camera_names"), ("camera_ages", "rtc_weights")


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
        return self.verdict == REJECTED

    def message(self) -> Any:
        """The message without the times of the inference's stages, which differ in every run."""
        fields = {name: getattr(self, name) for name in _ALIKE}
        fields["sequence"] %= 2**32
        fields |= {name: list(getattr(self, name)) for name in _NAMES}
        fields |= {name: np.array(getattr(self, name), np.float64) for name in _NUMBERS}
        return make(
            CHUNK_TYPE,
            header=make_header(self.stamp),
            horizon=len(self.positions),
            positions=np.asarray(self.positions, np.float64).ravel(),
            stage_names=[],
            stage_times=np.zeros(0),
            **fields,
        )


def chunk_record(message: Any) -> ChunkRecord:
    """A pi0_ros/msg/ActionChunk, of rclpy or of rosbags, as a record.

    Raises:
        ValueError: it does not hold `horizon` times as many positions as joints.
    """
    shape = message.horizon, len(message.joint_names)
    return ChunkRecord(
        stamp=stamp_of(message),
        positions=np.array(message.positions, np.float32).reshape(shape),
        inference_time=float(sum(message.stage_times)),
        **{name: getattr(message, name) for name in _ALIKE},
        **{name: tuple(getattr(message, name)) for name in (*_NAMES, *_NUMBERS)},
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
    seconds = [p.time_from_start.sec + p.time_from_start.nanosec / 1e9 for p in message.points]
    names = tuple(message.joint_names)
    if any(len(point.positions) != len(names) for point in message.points):
        raise ValueError(f"points without a position for each of {len(names)} joints")
    positions = np.array([p.positions for p in message.points], float).reshape(-1, len(names))
    start = stamp_of(message) or time
    return RecordedTrajectory(time, start, names, np.array(seconds), positions)
