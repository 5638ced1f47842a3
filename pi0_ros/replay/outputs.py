"""What a deterministic replay writes of the node's outputs: their messages, at their times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from pi0_ros.bags.messages import SAMPLES_TYPE, TRAJECTORY_TYPE, encode, make, make_header
from pi0_ros.motion.limits import JointLimits
from pi0_ros.motion.sampling import Sampler
from pi0_ros.motion.spline import Motion, Trajectory
from pi0_ros.node.interface import Interface
from pi0_ros.node.parameter_table import JOINT_TRAJECTORY
from pi0_ros.replay.steps import Moved

Write = Callable[[str, int, bytes], None]
"""Takes topic, nanoseconds and CDR bytes."""


def output_topics(interface: Interface) -> dict[str, str]:
    """Topic -> message type of the outputs."""
    kinds = {True: TRAJECTORY_TYPE, False: SAMPLES_TYPE}
    return {
        interface.absolute(output.topic): kinds[output.type == JOINT_TRAJECTORY]
        for output in interface.parameters.effective_outputs
    }


class Outputs:
    """Sends each trajectory to all outputs, as `pi0_ros.node.outputs.CommandOutputs` does.

    Attributes:
        trajectories: how many were sent.
    """

    def __init__(self, interface: Interface, limits: JointLimits, write: Write) -> None:
        """`write` gets the messages in the order of their times."""
        self.trajectories = 0
        self._write = write
        names = interface.parameters.joint_names
        self._trajectories: list[tuple[str, tuple[str, ...], list[int]]] = []
        self._samples: list[_Samples] = []
        for output in interface.parameters.effective_outputs:
            topic, columns = interface.absolute(output.topic), list(map(names.index, output.joints))
            if output.type == JOINT_TRAJECTORY:
                self._trajectories.append((topic, output.joints, columns))
            else:
                self._samples.append(_Samples(topic, columns, output.rate_hz, limits))

    def send(self, moved: Moved) -> None:
        self.trajectories += 1
        for topic, joints, columns in self._trajectories:
            message = trajectory_message(moved.trajectory, joints, columns)
            self._write(topic, moved.time, encode(message))
        for samples in self._samples:
            samples.follow(moved.motion, moved.time)

    def sample_until(self, end: int | None = None) -> None:
        """Messages that are due before `end` (ns); None: until everything is at rest."""
        while self._samples:
            first = min(self._samples, key=lambda samples: samples.due)
            if first.sampler.at_rest or (end is not None and first.due >= end):
                return
            time, message = first.take()
            self._write(first.topic, time, encode(message))


class _Samples:
    def __init__(self, topic: str, columns: list[int], rate_hz: float, limits: JointLimits) -> None:
        self.topic, self._columns = topic, columns
        self._period = round(1e9 / rate_hz)
        self.sampler = Sampler(self._period, limits.velocity[columns])
        self._next = 0

    @property
    def due(self) -> float:
        """Nanoseconds of the next sample."""
        return np.inf if self.sampler.at_rest else self._next

    def follow(self, motion: Motion, now: int) -> None:
        if self.sampler.at_rest:
            self._next = now + self._period
        positions, velocities = (v[:, self._columns] for v in (motion.positions, motion.velocities))
        self.sampler.follow(replace(motion, positions=positions, velocities=velocities), now)

    def take(self) -> tuple[int, Any]:
        """Time and message of the next sample."""
        at, self._next = self._next, self._next + self._period
        layout = make("std_msgs/msg/MultiArrayLayout", dim=[], data_offset=0)
        return at, make(SAMPLES_TYPE, layout=layout, data=self.sampler.sample(at))


def trajectory_message(trajectory: Trajectory, joints: tuple[str, ...], columns: list[int]) -> Any:
    """trajectory_msgs/JointTrajectory as `pi0_ros.node.messages.trajectory_message` fills it."""
    empty = np.zeros(0)
    points = [
        make(
            "trajectory_msgs/msg/JointTrajectoryPoint",
            positions[columns],
            velocities[columns],
            empty,
            empty,
            make("builtin_interfaces/msg/Duration", *divmod(time, 1_000_000_000)),
        )
        for time, positions, velocities in zip(
            trajectory.times, trajectory.positions, trajectory.velocities, strict=True
        )
    ]
    return make(TRAJECTORY_TYPE, make_header(trajectory.stamp), list(joints), points)
