"""A timeline that follows a running node: what it receives, and its chunks."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import String

from pi0_ros.bags.bag import IMAGE_TYPES, STATES_TYPE
from pi0_ros.bags.chunks import chunk_record
from pi0_ros.bags.images import TO_RGB
from pi0_ros.msg import ActionChunk
from pi0_ros.node.images import ImageError
from pi0_ros.ros.diagnostics import read_statuses
from pi0_ros.ros.process import NodeError
from pi0_ros.ros.spinning import wait_until
from pi0_ros.view.timeline import DRY_RUN, ENABLED, LATCHED, Timeline

KEEP = 60.0
"""Seconds that the slider goes back."""

LOOK_FOR = 10.0
"""Seconds in which the node and a robot description have to be found."""

_IMAGES = dict(zip(IMAGE_TYPES, (Image, CompressedImage), strict=True))
_BEST_EFFORT = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
_KEPT = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Live:
    """Who the running node is, and what it receives and publishes.

    Attributes:
        topics: what it subscribes to, topic -> message types.
    """

    def __init__(self, node: Node, name: str, interrupted: Callable[[], bool]) -> None:
        """Find the node `name`.

        Args:
            node: of the viewer; another thread spins it.
            interrupted: whether the user wants to end.

        Raises:
            NodeError: there is none.
            KeyboardInterrupt: `interrupted` returned True.
        """
        self._node, self._name, self._interrupted = node, name, interrupted
        self.topics: dict[str, list[str]] = {}
        namespace, _, plain = name.rpartition("/")
        split = plain, namespace or "/"
        if not self._wait(lambda: split in node.get_node_names_and_namespaces()):
            there = node.get_node_names_and_namespaces()
            names = sorted(f"{space.rstrip('/')}/{one}" for one, space in there)
            raise NodeError(
                f"there is no node {name} in this ROS domain (ROS_DOMAIN_ID); there are"
                f" {', '.join(names)}. Start it, or name another by --node"
            )

        def subscribes() -> bool:
            self.topics = dict(node.get_subscriber_names_and_types_by_node(*split))
            return any(STATES_TYPE in kinds for kinds in self.topics.values())

        if not self._wait(subscribes):
            raise NodeError(
                f"{name} subscribes to no joint states: it is not active (ros2 lifecycle get"
                f" {name})"
            )

    def description(self) -> str:
        """The URDF that is published on robot_description.

        Raises:
            NodeError: none is.
        """
        topic = f"{self._name.rpartition('/')[0]}/robot_description"
        none = f"no URDF is published on {topic} (robot_state_publisher publishes it); give --urdf"
        return self._first(String, topic, _KEPT, none).data

    def joint_names(self) -> list[str]:
        """The joints of the node's chunks; waits for the first chunk.

        Raises:
            NodeError: none comes.
        """
        none = f"{self._name} publishes no chunks; /diagnostics has the reason"
        chunk = self._first(ActionChunk, f"{self._name}/action_chunk", QoSProfile(depth=10), none)
        return list(chunk.joint_names)

    def follow(self, timeline: Timeline) -> None:
        """Subscribe; everything goes to the timeline from now on, at the time of its arrival."""
        node = self._node
        for topic, kinds in self.topics.items():
            if STATES_TYPE in kinds:
                callback = partial(_on_joints, timeline)
                node.create_subscription(JointState, topic, callback, _BEST_EFFORT)
            for kind in _IMAGES.keys() & set(kinds):
                callback = partial(_on_image, timeline, topic, TO_RGB[kind])
                node.create_subscription(_IMAGES[kind], topic, callback, _BEST_EFFORT)
        callback = partial(_on_diagnostics, timeline, self._name)
        node.create_subscription(DiagnosticArray, "/diagnostics", callback, 10)
        callback = partial(_on_chunk, timeline)
        node.create_subscription(ActionChunk, f"{self._name}/action_chunk", callback, 10)

    def _first(self, kind: type, topic: str, qos: QoSProfile, none: str) -> Any:
        """The first message of a topic; NodeError with the text `none` if none comes."""
        received: list[Any] = []
        subscription = self._node.create_subscription(kind, topic, received.append, qos)
        try:
            if not self._wait(lambda: bool(received)):
                raise NodeError(none)
        finally:
            self._node.destroy_subscription(subscription)
        return received[0]

    def _wait(self, condition: Callable[[], bool]) -> bool | None:
        return wait_until(condition, LOOK_FOR, self._check)

    def _check(self) -> None:
        if self._interrupted():
            raise KeyboardInterrupt


def _on_joints(timeline: Timeline, message: JointState) -> None:
    timeline.add_joints(now(), dict(zip(message.name, message.position, strict=False)))


def _on_image(
    timeline: Timeline, topic: str, to_rgb: Callable[[Any], Any], message: Image | CompressedImage
) -> None:
    if not timeline.wants_image(topic, now()):
        return
    try:
        timeline.add_image(topic, now(), to_rgb(message))
    except ImageError:  # the node refuses it too, with the reason in /diagnostics
        return


def _on_diagnostics(timeline: Timeline, name: str, message: DiagnosticArray) -> None:
    for values in read_statuses(message, name).values():
        if "latched" in values:
            state = ENABLED if values.get("enabled") == "True" else DRY_RUN
            if values["latched"]:
                state = f"{LATCHED} by {values['latched']}; call ~/reset"
            timeline.add_state(now(), state)


def _on_chunk(timeline: Timeline, message: ActionChunk) -> None:
    record = chunk_record(message)
    # The chunk's clock is the node's, which may be simulated: here it came just now.
    age = round(max((record.joint_states_age, *record.camera_ages)) * 1e9)
    timeline.add_chunk(now(), replace(record, stamp=now() - age))


def now() -> int:
    """Nanoseconds of this process's clock, in which a live timeline is."""
    return time.monotonic_ns()
