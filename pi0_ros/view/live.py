"""A timeline that follows a running node: it subscribes to what that node hears and says."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory
from visualization_msgs.msg import MarkerArray

from pi0_ros.bags.chunks import chunk_record
from pi0_ros.msg import ActionChunk
from pi0_ros.node.images import ImageError, decompress, to_rgb
from pi0_ros.ros.process import NodeError
from pi0_ros.ros.spinning import ros_node
from pi0_ros.view.timeline import Timeline

DESCRIPTION = "robot_description"
KEEP = 60.0
"""Seconds that the slider goes back."""

LOOK_FOR = 10.0
"""Seconds in which the node and a robot description have to be found."""

_PICTURES = {"sensor_msgs/msg/Image": (Image, to_rgb)}
_PICTURES["sensor_msgs/msg/CompressedImage"] = (CompressedImage, decompress)
_STATES = "sensor_msgs/msg/JointState"
_BEST_EFFORT = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
_KEPT = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
_SENT_WITHIN = 0.25  # seconds between a trajectory and the chunk that it was made of


class Live:
    """Who the running node is, and what it hears and says.

    Attributes:
        topics: what it subscribes to, topic -> message types.
    """

    def __init__(self, node: Node, name: str, interrupted: Callable[[], bool]) -> None:
        """Find the node `name`.

        Args:
            node: of the viewer; somebody spins it.
            interrupted: whether the user wants to end.

        Raises:
            NodeError: there is none.
            KeyboardInterrupt: `interrupted` said so.
        """
        self._node, self._name, self._interrupted = node, name, interrupted
        self.topics: dict[str, list[str]] = {}
        namespace, _, plain = name.rpartition("/")
        self._split = plain, namespace or "/"
        if not self._wait(lambda: self._split in node.get_node_names_and_namespaces()):
            there = node.get_node_names_and_namespaces()
            names = sorted(f"{space.rstrip('/')}/{one}" for one, space in there)
            raise NodeError(
                f"there is no node {name} in this ROS domain (ROS_DOMAIN_ID); there are"
                f" {', '.join(names)}. Start it, or name another by --node"
            )

        def listens() -> bool:
            self.topics = dict(node.get_subscriber_names_and_types_by_node(*self._split))
            return any(_STATES in kinds for kinds in self.topics.values())

        if not self._wait(listens):
            raise NodeError(
                f"{name} subscribes to no joint states: it is not active (ros2 lifecycle get"
                f" {name})"
            )
        self._published = -np.inf  # steady seconds of the newest trajectory

    def description(self) -> str:
        """The URDF that is published on robot_description.

        Raises:
            NodeError: none is.
        """
        heard: list[str] = []
        topic = f"{self._name.rpartition('/')[0]}/{DESCRIPTION}"
        subscription = self._node.create_subscription(
            String, topic, lambda message: heard.append(message.data), _KEPT
        )
        if not self._wait(lambda: bool(heard)):
            raise NodeError(
                f"nobody publishes a URDF on {topic} (robot_state_publisher does); give --urdf"
            )
        self._node.destroy_subscription(subscription)
        return heard[-1]

    def joint_names(self) -> list[str]:
        """The joints of the node's chunks; waits for the first chunk.

        Raises:
            NodeError: none comes.
        """
        heard: list[list[str]] = []
        subscription = self._node.create_subscription(
            ActionChunk,
            f"{self._name}/action_chunk",
            lambda message: heard.append(list(message.joint_names)),
            10,
        )
        if not self._wait(lambda: bool(heard)):
            raise NodeError(f"{self._name} publishes no chunks; /diagnostics says why")
        self._node.destroy_subscription(subscription)
        return heard[-1]

    def follow(self, timeline: Timeline) -> None:
        """Subscribe; everything goes to the timeline from now on, at the time of its arrival."""
        node, name = self._node, self._name
        for topic, kinds in self.topics.items():
            for kind in kinds:
                if kind == _STATES:
                    hear = partial(self._on_joints, timeline)
                    node.create_subscription(JointState, topic, hear, _BEST_EFFORT)
                elif kind in _PICTURES:
                    message_type, convert = _PICTURES[kind]
                    hear = partial(self._on_picture, timeline, topic, convert)
                    node.create_subscription(message_type, topic, hear, _BEST_EFFORT)
        chunk, markers = partial(self._on_chunk, timeline), partial(self._on_markers, timeline)
        node.create_subscription(JointTrajectory, self._trajectories(), self._on_trajectory, 10)
        node.create_subscription(ActionChunk, f"{name}/action_chunk", chunk, 10)
        node.create_subscription(MarkerArray, f"{name}/markers", markers, 10)

    def _trajectories(self) -> str:
        """Where the node publishes trajectories; remapped to a controller's topic as a rule."""
        said = dict(self._node.get_publisher_names_and_types_by_node(*self._split))
        kind = "trajectory_msgs/msg/JointTrajectory"
        return next(topic for topic, kinds in said.items() if kind in kinds)

    def _wait(self, condition: Callable[[], bool]) -> bool:
        end = time.monotonic() + LOOK_FOR
        while not condition():
            if self._interrupted():
                raise KeyboardInterrupt
            if time.monotonic() > end:
                return False
            time.sleep(0.05)
        return True

    def _on_joints(self, timeline: Timeline, message: JointState) -> None:
        timeline.add_joints(now(), dict(zip(message.name, message.position, strict=False)))

    def _on_picture(
        self, timeline: Timeline, topic: str, convert: Callable[[Any], np.ndarray], message: Any
    ) -> None:
        if not timeline.wants_picture(topic, now()):
            return
        try:
            timeline.add_picture(topic, now(), convert(message))
        except ImageError:  # the node refuses it too, and says why
            return

    def _on_trajectory(self, _: JointTrajectory) -> None:
        self._published = time.monotonic()

    def _on_chunk(self, timeline: Timeline, message: ActionChunk) -> None:
        record = chunk_record(message)
        # The chunk's clock is the node's, which may be simulated: here it came just now.
        age = round(max((record.joint_states_age, *record.camera_ages)) * 1e9)
        record = replace(record, stamp=now() - age)
        sent = time.monotonic() - self._published < _SENT_WITHIN
        timeline.add_chunk(now(), record, sent)

    def _on_markers(self, timeline: Timeline, message: MarkerArray) -> None:
        lines = {marker.ns: marker for marker in message.markers}
        if "rejected" in lines:
            places = np.array([(p.x, p.y, p.z) for p in lines["rejected"].points])
            why = lines["text"].text.rpartition("rejected: ")[2] if "text" in lines else ""
            timeline.add_rejected(now(), places, why)


def now() -> int:
    """Nanoseconds of this process's clock, in which a live timeline is."""
    return time.monotonic_ns()


@contextmanager
def live(name: str, interrupted: Callable[[], bool]) -> Iterator[Live]:
    """Joins the running node `name`; see `Live`."""
    with ros_node("pi0_view") as node:
        yield Live(node, name, interrupted)
