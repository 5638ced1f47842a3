"""What pi0_node does with joint states, chunks and ticks, without ROS."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import numpy as np

from pi0_ros.motion.enable import MotionEnable
from pi0_ros.motion.executor import Executor, MotionSettings
from pi0_ros.motion.limits import JointLimits
from pi0_ros.motion.refusal import Measured, Refusal
from pi0_ros.motion.spline import Trajectory
from pi0_ros.node.joint_groups import JointGroups
from pi0_ros.node.joint_states import Reading
from pi0_ros.node.parameter_table import SPECS
from pi0_ros.policy.types import ActionChunk
from support.closed_loop.conditions import Conditions

FRESH = 200_000_000
"""Nanoseconds: an older joint state is none (joint_states_max_age)."""


def settings_of(conditions: Conditions) -> MotionSettings:
    """The node's defaults, with what belongs to the controller."""
    given = {spec.name: spec.default for spec in SPECS} | {
        "controller": conditions.form.controller,
        "splice_lead": conditions.splice_lead,
        "emergency_acceleration_scale": conditions.emergency_acceleration_scale,
        "reject_latch": 1000,  # the policies here are not good ones
        "max_jump": 7.0,
    }
    return MotionSettings.of(SimpleNamespace(**given))


class Node:
    """An executor, and what it is told of the arm.

    Attributes:
        enable: of the executor.
        refused: reason -> chunks refused.
    """

    def __init__(self, conditions: Conditions, settings: MotionSettings) -> None:
        joints = tuple(f"joint_{i}" for i in range(len(conditions.start)))
        limits = JointLimits(
            joints,
            conditions.lower,
            conditions.upper,
            conditions.velocity,
            conditions.acceleration,
        )
        self.joints, self.enable = joints, MotionEnable()
        self.executor = Executor(joints, limits, settings, self.enable)
        self._states = JointGroups(joints, limits, FRESH, lambda topic: ["/robot"])
        self.refused: Counter[str] = Counter()

    def see(
        self, stamp: int, positions: np.ndarray, velocities: np.ndarray | None, now: int
    ) -> None:
        """A joint state came."""
        reading = Reading(tuple(range(len(positions))), positions, velocities)
        self._states.put(reading, "joint_states", stamp, now)

    def observe(self, time: int) -> np.ndarray | None:
        """Where the policy sees the arm."""
        return self._states.at(time)[0] if self._states.complete else None

    def measured(self, now: int) -> Measured | None:
        """The newest joint state that is fresh."""
        newest = self._states.measured(now)
        return None if newest is None or now - newest.stamp > FRESH else newest

    def chunk(self, chunk: ActionChunk, now: int) -> Trajectory | None:
        """A chunk came out of the policy."""
        result = self.executor.update(chunk, self.measured(now), now)
        if isinstance(result, Refusal):
            self.refused[result.reason.value] += 1
            return self.tick(now)
        return result.trajectory

    def tick(self, now: int) -> Trajectory | None:
        plan = self.executor.tick(self.measured(now), now)
        return None if plan is None else plan.trajectory

    def jump(self) -> None:
        """The clock jumped."""
        self._states.clear()
        self.executor.reset()
