"""What the robot did: joint positions over time, to hold predictions against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pi0_ros.bags.bag import BagError, Recording, describe_topics
from pi0_ros.bags.chunks import RecordedTrajectory, read_trajectory
from pi0_ros.bags.messages import STATES_TYPE, TRAJECTORY_TYPE, decode_or_blame, joint_positions

GAP = 0.5
"""Seconds: between joint states further apart the joint's position is unknown."""


@dataclass(frozen=True)
class Truth:
    """Joint positions of a recording.

    Attributes:
        source: the topic they come from.
        at: [n] int64 ns -> [n, joints] float64 rad; NaN where it is unknown.
    """

    source: str
    at: Callable[[np.ndarray], np.ndarray]


def read_truth(
    bag: Recording, joint_states: Sequence[str], target: str, joints: Sequence[str]
) -> Truth:
    """What the joints did, or were told to do.

    Args:
        joint_states: topics of the joint states in the recording.
        target: topic of commanded trajectories (trajectory_msgs/JointTrajectory) or of commanded
            joint states, as a leader arm sends them (sensor_msgs/JointState); "": the joint states.

    Raises:
        BagError: the recording lacks the topic, or the topic some of the joints.
    """
    topics = [target] if target else joint_states
    topic = " and ".join(topics)
    types = {t.type for t in bag.topics if t.name in topics and t.count}
    if STATES_TYPE in types:
        return Truth(topic, _of_states(bag, topics, joints))
    if TRAJECTORY_TYPE in types:
        return Truth(topic, _of_trajectories(bag, topic, joints))
    there = f"holds {' and '.join(types)}" if types else "is not in the recording or is empty"
    raise BagError(
        f"{bag.path}: --target {topic} {there}; expected {TRAJECTORY_TYPE} or {STATES_TYPE}."
        f" The recording holds:\n{describe_topics(bag.topics)}"
    )


def _of_states(
    bag: Recording, topics: Sequence[str], joints: Sequence[str]
) -> Callable[[np.ndarray], np.ndarray]:
    series = joint_positions(bag, topics)
    _check_names(bag, " and ".join(topics), joints, list(series))
    columns = []
    for times, values in (series[name] for name in joints):
        good = np.isfinite(values)
        # In order of time, each time once.
        known, first = np.unique(times[good], return_index=True)
        columns.append((known, values[good][first]))
    return lambda times: np.column_stack([_interpolated(times, *column) for column in columns])


def _interpolated(times: np.ndarray, known: np.ndarray, values: np.ndarray) -> np.ndarray:
    """[n] values between the known ones; NaN outside of them and in gaps."""
    if len(known) < 2:
        return np.full(len(times), np.nan)
    after = np.clip(np.searchsorted(known, times), 1, len(known) - 1)
    begin, end = known[after - 1], known[after]
    share = (times - begin) / (end - begin)
    result = values[after - 1] + share * (values[after] - values[after - 1])
    unknown = (times < known[0]) | (times > known[-1]) | (end - begin > GAP * 1e9)
    return np.where(unknown, np.nan, result)


def _of_trajectories(
    bag: Recording, topic: str, joints: Sequence[str]
) -> Callable[[np.ndarray], np.ndarray]:
    """Of each time the newest trajectory received before it; at its end the last point holds."""
    trajectories: list[RecordedTrajectory] = []
    for message in bag.messages({topic: TRAJECTORY_TYPE}):
        content = decode_or_blame(bag, message, TRAJECTORY_TYPE)
        try:
            trajectory = read_trajectory(content, message.time)
        except ValueError as error:
            raise BagError(f"{bag.path}: a message on {topic}: {error}") from error
        if len(trajectory.times):
            trajectories.append(trajectory)
    names = list(dict.fromkeys(name for t in trajectories for name in t.joint_names))
    _check_names(bag, topic, joints, names)
    trajectories = [t for t in trajectories if set(joints) <= set(t.joint_names)]
    received = np.array([t.time for t in trajectories], np.int64)

    def at(times: np.ndarray) -> np.ndarray:
        found = np.full((len(times), len(joints)), np.nan)
        newest = np.searchsorted(received, times, side="right") - 1
        for number in np.unique(newest[newest >= 0]):
            trajectory = trajectories[number]
            rows = np.flatnonzero((newest == number) & (times <= bag.end))
            seconds = (times[rows] - trajectory.start) / 1e9
            for column, name in enumerate(joints):
                values = trajectory.positions[:, trajectory.joint_names.index(name)]
                found[rows, column] = np.interp(seconds, trajectory.times, values)
        return found

    return at


def _check_names(bag: Recording, topic: str, joints: Sequence[str], there: Sequence[str]) -> None:
    missing = [name for name in joints if name not in there]
    if missing:
        raise BagError(
            f"{bag.path}: {topic} lacks the joints {', '.join(missing)}; it has"
            f" {', '.join(there) or 'none'} ({len(there)}), the policy {len(joints)}"
        )
