"""A stand-in for a controller of ros2_control: a node with the parameters of the real one.

The names and defaults are those of the parameter files of ros2_controllers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

UNSET = Parameter.Type.STRING_ARRAY
"""Declared without a value. Where it is among several that are asked for, none is told."""

_TRAJECTORY = {
    "update_rate": 100,
    "command_interfaces": ["position"],
    "state_interfaces": ["position", "velocity"],
    "allow_partial_joints_goal": False,
    "allow_nonzero_velocity_at_trajectory_end": False,
    "constraints.goal_time": 0.0,
    "constraints.stopped_velocity_tolerance": 0.01,
}
VERSIONS: dict[str, dict[str, Any]] = {
    "humble": _TRAJECTORY | {"open_loop_control": False, "state_publish_rate": 50.0},
    "jazzy": _TRAJECTORY | {"interpolate_from_desired_state": False},
    "master": _TRAJECTORY
    | {"interpolate_from_desired_state": False, "allow_trajectory_replacement": True},
    "forward": {"update_rate": 100, "interface_name": "position"},
}
"""Kind of controller -> its parameters besides `joints` and those of each joint."""


class ControllerNode(Node):
    """Subscribes where the real one does, and executes nothing.

    Attributes:
        received: messages.
    """

    def __init__(
        self,
        name: str,
        joints: Sequence[str],
        version: str,
        context: Context,
        **changes: Any,
    ) -> None:
        """`changes`: parameters; `a__b` stands for `a.b`."""
        super().__init__(name, context=context)
        self.received: list[Any] = []
        values = {"joints": list(joints), **VERSIONS[version]}
        if version != "forward":
            for joint in joints:
                values |= {f"constraints.{joint}.{kind}": 0.0 for kind in ("trajectory", "goal")}
                values |= {f"gains.{joint}.{kind}": 0.0 for kind in "pid"}
        values |= {key.replace("__", "."): value for key, value in changes.items()}
        for key, value in values.items():
            self.declare_parameter(key, value)
        kind, topic = (JointTrajectory, "~/joint_trajectory")
        if version == "forward":
            kind, topic = (Float64MultiArray, "~/commands")
        self.create_subscription(kind, topic, self.received.append, 10)


class ManagerNode(Node):
    """Diagnoses the states of controllers ten times a second, as the controller manager does."""

    def __init__(self, context: Context, **states: str) -> None:
        """`states`: controller -> its state."""
        super().__init__("controller_manager", context=context)
        self.declare_parameter("update_rate", 500)
        publisher = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        status = DiagnosticStatus(name="controller_manager: Controllers Activity")
        for name, state in states.items():
            status.values.append(KeyValue(key=f"{name}.state", value=state))
            status.values.append(KeyValue(key=f"{name}.execution_time", value="Avg: 1.0 us"))
        message = DiagnosticArray(status=[status])
        self.create_timer(0.1, lambda: publisher.publish(message))
