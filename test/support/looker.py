"""Somebody who looks at the node's markers, path and ghost."""

from __future__ import annotations

from typing import Any

from support.arm_urdf import arm_urdf
from support.harness import Harness
from support.waiting import wait_until


def publish_description(node: Any, text: str | None = None) -> None:
    """As robot_state_publisher does: once, kept for those who come later."""
    from rclpy.qos import DurabilityPolicy, QoSProfile
    from std_msgs.msg import String

    kept = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    data = arm_urdf() if text is None else text
    node.create_publisher(String, "robot_description", kept).publish(String(data=data))


class Looker:
    """Subscribes to what is to be seen.

    Attributes:
        markers, paths, ghosts: every message, in order.
    """

    def __init__(self, robot: Harness, *topics: str) -> None:
        from nav_msgs.msg import Path
        from sensor_msgs.msg import JointState
        from visualization_msgs.msg import MarkerArray

        self.markers: list[MarkerArray] = []
        self.paths: list[Path] = []
        self.ghosts: list[JointState] = []
        self.robot = robot
        name = robot.node.get_fully_qualified_name()
        kinds = {
            "markers": (MarkerArray, self.markers),
            "path": (Path, self.paths),
            "preview/joint_states": (JointState, self.ghosts),
        }
        for topic in topics or kinds:
            kind, heard = kinds[topic]
            robot.robot.create_subscription(kind, f"{name}/{topic}", heard.append, 100)
        wanted = {f"{name}/{topic}" for topic in topics or kinds}
        publishers = [p for p in robot.node.publishers if p.topic_name in wanted]
        assert len(publishers) == len(wanted)
        wait_until(lambda: all(p.get_subscription_count() for p in publishers), "discovery")

    def wait_for_robot(self) -> None:
        """Until the node has read the description, which it looks for once a second."""
        wait_until(lambda: self.robot.node.display.robot is not None, "the robot description")

    def namespaces(self) -> dict[str, Any]:
        """Namespace -> marker of the newest markers."""
        return {marker.ns: marker for marker in self.markers[-1].markers} if self.markers else {}

    def wait_for(self, *namespaces: str) -> dict[str, Any]:
        """The newest markers, once they hold these namespaces."""
        wait_until(lambda: set(namespaces) <= set(self.namespaces()), f"markers {namespaces}")
        return self.namespaces()
