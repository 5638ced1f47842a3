"""The node's topics and parameters, worked out from its ROS arguments before it runs; no ROS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pi0_ros.node.arguments import ArgumentsError, NodeArguments, read_arguments
from pi0_ros.node.declared import fill_declared
from pi0_ros.node.parameters import NodeParameters, ParameterError, read_parameters


@dataclass(frozen=True)
class Topic:
    """A topic of the node.

    Attributes:
        name: as written in the node, or absolute with remaps applied.
        type: as ROS's graph spells it, such as "sensor_msgs/msg/Image".
        purpose: what the node does with it, for messages to people.
        sent: the node publishes it.
        required: the node does nothing without it.
    """

    name: str
    type: str
    purpose: str
    sent: bool = False
    required: bool = True


def observation_topics(parameters: NodeParameters) -> tuple[Topic, ...]:
    """Topics that observations are made of: cameras in their order, joint states, instruction."""
    compressed = parameters.image_transport == "compressed"
    image = "sensor_msgs/msg/CompressedImage" if compressed else "sensor_msgs/msg/Image"
    return (
        *(Topic(c.topic, image, f"camera {c.name}") for c in parameters.cameras),
        *(
            Topic(topic, "sensor_msgs/msg/JointState", "joint states")
            for topic in parameters.joint_states_topics
        ),
        Topic(
            "instruction",
            "std_msgs/msg/String",
            "instruction",
            required=not parameters.instruction,
        ),
    )


def node_topics(parameters: NodeParameters) -> tuple[Topic, ...]:
    """The topics that a node with these parameters subscribes to, and then those it publishes."""
    topics = [
        *observation_topics(parameters),
        Topic(parameters.emergency_stop_topic, "std_msgs/msg/Bool", "emergency stop"),
    ]
    if parameters.deadman_timeout:
        topics.append(Topic(parameters.deadman_topic, "std_msgs/msg/Header", "deadman"))
    outputs = (
        Topic(
            output.topic,
            output.type.replace("/", "/msg/"),
            f"output {output.name}" if parameters.outputs else "trajectories",
            sent=True,
        )
        for output in parameters.effective_outputs
    )
    return (
        *topics,
        *outputs,
        Topic("~/action_chunk", "pi0_ros/msg/ActionChunk", "chunks", sent=True),
        Topic("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray", "diagnostics", sent=True),
    )


@dataclass(frozen=True)
class Interface:
    """A node as its ROS arguments make it."""

    arguments: NodeArguments
    parameters: NodeParameters

    @property
    def name(self) -> str:
        """Fully qualified name of the node."""
        return self.arguments.full_name

    @property
    def use_sim_time(self) -> bool:
        """The node follows /clock."""
        return bool(self.arguments.overrides.get("use_sim_time", False))

    @property
    def observed(self) -> tuple[Topic, ...]:
        """`observation_topics` under their absolute names."""
        topics = observation_topics(self.parameters)
        return tuple(replace(topic, name=self.absolute(topic.name)) for topic in topics)

    def absolute(self, topic: str) -> str:
        """A topic name as written in the node, made absolute, remaps applied."""
        return self.arguments.absolute(topic)


def read_interface(ros_args: Sequence[str]) -> Interface:
    """Reads a node's ROS arguments.

    Args:
        ros_args: what the node gets after --ros-args.

    Raises:
        ArgumentsError: the node would not start with them.
    """
    arguments = read_arguments(ros_args)
    try:
        return Interface(arguments, read_parameters(fill_declared(arguments.overrides)[0]))
    except ParameterError as error:
        text = f"the node's parameters (--params, --ros-args -p): {error}"
        raise ArgumentsError(text + arguments.strangers()) from error
