"""Hears what controllers get and what they command, where they publish that."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from trajectory_msgs.msg import JointTrajectory

from pi0_ros.doctor.reaction import reference_of, sent_of
from pi0_ros.doctor.samples import Collected
from pi0_ros.node.interface import Interface
from pi0_ros.node.parameter_table import JOINT_TRAJECTORY
from pi0_ros.ros.graph import full_name
from pi0_ros.ros.subscriptions import subscribe

try:
    from control_msgs.msg import JointTrajectoryControllerState
except ImportError:  # it comes with ros2_controllers
    JointTrajectoryControllerState = None

_DEEP = QoSProfile(depth=200, reliability=ReliabilityPolicy.BEST_EFFORT)
_PERIOD = 0.2  # seconds between two looks at the graph


class ControllerWatch:
    """Subscribes to an output and to its controller's state, once both are there.

    To an output that has no controller it does not subscribe: the node would take it for one.
    """

    def __init__(self, node: Node, interface: Interface, collected: Collected) -> None:
        self._node, self._collected = node, collected
        self._topics = {
            interface.absolute(output.topic)
            for output in interface.parameters.effective_outputs
            if output.type == JOINT_TRAJECTORY and JointTrajectoryControllerState is not None
        }
        self._looked = 0.0

    def look(self) -> None:
        """Subscribe to what has come up; call it again and again."""
        now = time.monotonic()
        if now - self._looked < _PERIOD:
            return
        self._looked = now
        for topic in sorted(self._topics):
            for info in self._node.get_subscriptions_info_by_topic(topic):
                controller = full_name(info)
                state = f"{controller}/controller_state"
                if self._node.count_publishers(state):
                    self._follow(topic, controller, state)
                    self._topics.discard(topic)
                    break

    def _follow(self, topic: str, controller: str, state: str) -> None:
        sent = self._collected.sent.setdefault(topic, [])
        references = self._collected.references.setdefault(controller, [])

        def on_trajectory(message: JointTrajectory) -> None:
            if found := sent_of(message, self._node.get_clock().now().nanoseconds):
                sent.append(found)

        def on_state(message: Any) -> None:
            if found := reference_of(message):
                references.append(found)

        def malformed(topic: str) -> Any:
            return lambda sentence: self._collected.malformed.setdefault(topic, Counter()).update(
                [sentence]
            )

        subscribe(self._node, JointTrajectory, topic, on_trajectory, _DEEP, malformed(topic))
        kind = JointTrajectoryControllerState
        subscribe(self._node, kind, state, on_state, _DEEP, malformed(state))
