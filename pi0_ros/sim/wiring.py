"""Which controllers the simulated robot has, and the topics on which they are commanded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pi0_ros.sim.controller import Controller
from pi0_ros.sim.points import Reason, Rejected, points_of
from pi0_ros.sim.stage import JOINTS

_ARM, _GRIPPER = JOINTS[:-1], JOINTS[-1:]


class ForwardController:
    """The emulated forward_command_controller: each message is the command until the next one."""

    def __init__(self, joints: Sequence[str]) -> None:
        self._joints = tuple(joints)
        self._command: np.ndarray | None = None

    def accept(self, message: Any, now: int) -> None:
        """Takes a std_msgs/Float64MultiArray, positions in the order of the joints.

        Raises:
            Rejected: it has not one finite number for each joint; the last command goes on.
        """
        values = np.array(message.data, dtype=np.float64)
        if values.shape != (len(self._joints),) or not np.isfinite(values).all():
            names = ", ".join(self._joints)
            detail = f"expected a finite position for each of {names}, got {values}"
            raise Rejected(Reason.FIELDS, detail)
        self._command = values

    def command(self, now: int, measured: np.ndarray, velocities: np.ndarray) -> np.ndarray:
        """[joints] radians; before any message it holds where the joints were at first."""
        if self._command is None:
            self._command = np.array(measured, dtype=np.float64)
        return self._command


class TrajectoryController(Controller):
    """joint_trajectory_controller, which takes messages."""

    def accept(self, message: Any, now: int) -> None:
        """Takes a trajectory_msgs/JointTrajectory; see `Controller.accept`."""
        super().accept(points_of(message), now)


@dataclass(frozen=True)
class Input:
    """A controller: the topic of its commands, its joints, and whether it forwards positions."""

    topic: str
    joints: tuple[str, ...]
    forward: bool = False


WIRINGS = {
    "one": (Input("joint_trajectory", JOINTS),),
    "two": (
        Input("arm_controller/joint_trajectory", _ARM),
        Input("gripper_controller/joint_trajectory", _GRIPPER),
    ),
    "forward-gripper": (
        Input("arm_controller/joint_trajectory", _ARM),
        Input("gripper_controller/commands", _GRIPPER, forward=True),
    ),
    "forward": (Input("position_controller/commands", JOINTS, forward=True),),
}
"""Name -> controllers; each joint belongs to one."""


class Controllers:
    """All controllers of a wiring, as one."""

    def __init__(
        self, wiring: str, make_controller: Callable[[Sequence[str]], TrajectoryController]
    ) -> None:
        """Nothing is executed.

        Args:
            wiring: a key of WIRINGS.
            make_controller: makes the controller of a trajectory's joints.
        """
        self._controllers = {
            entry.topic: (ForwardController if entry.forward else make_controller)(entry.joints)
            for entry in WIRINGS[wiring]
        }
        self._columns = [[JOINTS.index(j) for j in entry.joints] for entry in WIRINGS[wiring]]

    def accept(self, topic: str, message: Any, now: int) -> None:
        """Takes a message that arrived on a topic at `now` (nanoseconds).

        Raises:
            Rejected: the controller does not take it.
        """
        self._controllers[topic].accept(message, now)

    def command(self, now: int, measured: np.ndarray, velocities: np.ndarray) -> np.ndarray:
        """[joints] radians in the order of JOINTS; see `Controller.command`."""
        command = np.empty(len(JOINTS))
        for controller, own in zip(self._controllers.values(), self._columns, strict=True):
            command[own] = controller.command(now, measured[own], velocities[own])
        return command
