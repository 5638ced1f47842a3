"""What a robot offers before anything is configured: topics, joints, controllers, its URDF."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from pi0_ros.bags.bag import STATES_TYPE, open_bag
from pi0_ros.doctor.bag import decoded, end_of, types_in
from pi0_ros.node.parameter_table import FLOAT64_MULTI_ARRAY, JOINT_TRAJECTORY

STRING = "std_msgs/msg/String"
COMMANDS = {
    JOINT_TRAJECTORY.replace("/", "/msg/"): JOINT_TRAJECTORY,
    FLOAT64_MULTI_ARRAY.replace("/", "/msg/"): FLOAT64_MULTI_ARRAY,
}
"""Types of topics that controllers subscribe to -> as the parameter `type` has them."""


@dataclass(frozen=True)
class Listener:
    """A node that takes commands: its topic, their type, its joints and parameters where it tells.

    Attributes:
        node: its full name; "" where a bag has the commands only.
    """

    node: str
    topic: str
    type: str
    joints: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Robot:
    """What was seen.

    Attributes:
        source: where, for people.
        types: topic -> message types.
        positions: topic of joint states -> joint -> last position.
        counts: topic of joint states -> messages.
        seconds: of listening.
        listeners: who takes commands.
        urdf: text of a robot description; "" where there is none.
        urdf_source: topic or file that it is from.
        simulated_time: /clock is published.
    """

    source: str
    types: dict[str, tuple[str, ...]] = field(default_factory=dict)
    positions: dict[str, dict[str, float]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    listeners: list[Listener] = field(default_factory=list)
    urdf: str = ""
    urdf_source: str = ""
    simulated_time: bool = False

    def topics_of(self, *types: str) -> list[str]:
        return sorted(name for name, kinds in self.types.items() if set(types) & set(kinds))

    def put_joints(self, topic: str, message: Any) -> None:
        self.counts[topic] = self.counts.get(topic, 0) + 1
        pairs = zip(message.name, message.position, strict=False)
        self.positions.setdefault(topic, {}).update((str(n), float(p)) for n, p in pairs)

    def put_description(self, topic: str, text: str) -> None:
        """A robot description came; the first one counts."""
        if not self.urdf and "<robot" in text:
            self.urdf, self.urdf_source = text, topic


def is_description(topic: str) -> bool:
    """Whether a topic has the name under which URDFs are published."""
    return topic.rpartition("/")[2] == "robot_description"


def robot_in_bag(path: Path, seconds: float | None) -> Robot:
    """Of a recording; commands that were recorded stand for the controllers that took them.

    Raises:
        BagError: it cannot be read.
    """
    bag = open_bag(path)
    end = end_of(bag, seconds)
    robot = Robot(str(path), types_in(bag), seconds=(end - bag.start) / 1e9)
    commands = {name: kind for kind in COMMANDS for name in robot.topics_of(kind)}
    wanted = dict.fromkeys(robot.topics_of(STATES_TYPE), STATES_TYPE) | commands
    wanted |= {name: STRING for name in robot.topics_of(STRING) if is_description(name)}
    joints: dict[str, tuple[str, ...]] = dict.fromkeys(commands, ())
    # The doctor names damaged messages once there are parameters.
    for message, content in decoded(bag, wanted, end, lambda topic, sentence: None):
        kind = wanted[message.topic]
        if kind == STATES_TYPE:
            robot.put_joints(message.topic, content)
        elif kind == STRING:
            robot.put_description(message.topic, content.data)
        elif hasattr(content, "joint_names"):
            joints[message.topic] = tuple(content.joint_names)
    robot.listeners = [
        Listener("", topic, COMMANDS[kind], joints[topic]) for topic, kind in commands.items()
    ]
    return robot


def robot_on_graph(seconds: float) -> Robot:
    """Of a running graph in the domain of ROS_DOMAIN_ID; nothing is published."""
    import time

    from sensor_msgs.msg import JointState
    from std_msgs.msg import String

    from pi0_ros.doctor.controller_query import ask_controllers
    from pi0_ros.doctor.live import ALL, NAME, listening
    from pi0_ros.ros.graph import full_name
    from pi0_ros.ros.subscriptions import LatchedSubscription, subscribe

    robot = Robot("live graph", seconds=seconds)
    with listening() as (node, executor):
        known: set[str] = set()

        def damaged(_: str) -> None:
            """The doctor names damaged messages once there are parameters."""

        def description(topic: str) -> Any:
            return lambda message: robot.put_description(topic, message.data)

        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for topic, kinds in node.get_topic_names_and_types():
                if topic in known or not node.count_publishers(topic):
                    continue
                if STATES_TYPE in kinds:
                    put = partial(robot.put_joints, topic)
                    subscribe(node, JointState, topic, put, ALL, damaged)
                elif STRING in kinds and is_description(topic):
                    LatchedSubscription(node, String, topic, description(topic), ALL, damaged)
                known.add(topic)
            executor.spin_once(timeout_sec=0.05)
        found: set[tuple[str, str, str]] = set()
        for topic, kinds in node.get_topic_names_and_types():
            if node.count_publishers(topic):
                robot.types[topic] = tuple(kinds)
            for info in node.get_subscriptions_info_by_topic(topic):
                if info.topic_type in COMMANDS and info.node_name != NAME:
                    found.add((full_name(info), topic, COMMANDS[info.topic_type]))
        asked = ask_controllers(node, executor, sorted({name for name, _, _ in found}))
        told = {one.node: one.parameters or {} for one in asked}
        robot.listeners = [
            Listener(name, topic, kind, _joints(told[name]), told[name])
            for name, topic, kind in sorted(found, key=lambda one: one[1])
        ]
        robot.simulated_time = "/clock" in robot.types
    return robot


def _joints(parameters: Mapping[str, Any]) -> tuple[str, ...]:
    joints = parameters.get("joints")
    return tuple(joints) if isinstance(joints, Sequence) and not isinstance(joints, str) else ()
