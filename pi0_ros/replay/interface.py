"""What the node will subscribe to and publish, worked out from its parameters before it runs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pi0_ros.bags.bag import NeededTopic
from pi0_ros.node.parameters import (
    NodeParameters,
    ParameterError,
    build,
    given_values,
    resolve,
)

NODE_NAME = "pi0"
# What the node publishes: key -> (name, message type).
OUTPUTS = {
    "joint_trajectory": ("~/joint_trajectory", "trajectory_msgs/msg/JointTrajectory"),
    "action_chunk": ("~/action_chunk", "pi0_ros/msg/ActionChunk"),
    "diagnostics": ("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray"),
}


class InterfaceError(ValueError):
    """Parameters or ROS arguments that the node would not start with."""


@dataclass(frozen=True)
class Interface:
    """The node's topics, with remaps and namespace applied.

    Attributes:
        name: fully qualified name of the node.
        needed: what it subscribes to; cameras first.
        outputs: what it publishes, key of `OUTPUTS` -> topic.
    """

    name: str
    needed: tuple[NeededTopic, ...]
    outputs: Mapping[str, str]

    @property
    def output_types(self) -> dict[str, str]:
        """Topic -> message type of what the node publishes."""
        return {topic: OUTPUTS[key][1] for key, topic in self.outputs.items()}


def needed_topics(
    parameters: NodeParameters, absolute: Callable[[str], str]
) -> tuple[NeededTopic, ...]:
    """The topics that a node with these parameters subscribes to, /clock apart.

    Args:
        absolute: makes a topic name absolute, remaps applied.
    """
    compressed = parameters.image_transport == "compressed"
    image = "sensor_msgs/msg/CompressedImage" if compressed else "sensor_msgs/msg/Image"
    return (
        *(
            NeededTopic(absolute(camera.topic), image, f"camera {camera.name}")
            for camera in parameters.cameras
        ),
        NeededTopic(
            absolute(parameters.joint_states_topic), "sensor_msgs/msg/JointState", "joint states"
        ),
        NeededTopic(
            absolute("instruction"),
            "std_msgs/msg/String",
            "task; the parameter `instruction` does instead",
            required=not parameters.instruction,
        ),
    )


def resolve_interface(ros_args: Sequence[str]) -> Interface:
    """Reads the node's parameters and topic names as rcl does: files, wildcards, -p, -r, __ns.

    An empty node takes the node's name and arguments for a moment, so that none of ROS's rules
    for parameter files and names is written here a second time.

    Args:
        ros_args: the arguments after --ros-args that the node gets.

    Raises:
        InterfaceError: ROS does not take the arguments or a parameter file, or the node would not
            take its parameters.
    """
    import rclpy
    from rclpy.node import Node

    context = rclpy.Context()
    try:
        rclpy.init(args=["--ros-args", *ros_args], context=context)
    except Exception as error:  # rclpy raises several kinds, all with rcl's reason as text
        raise InterfaceError(f"ROS does not take the node's arguments: {error}") from error
    try:
        node = Node(
            NODE_NAME,
            context=context,
            enable_rosout=False,
            start_parameter_services=False,
        )
        interface = Interface(
            name=node.get_fully_qualified_name(),
            needed=needed_topics(build(resolve(given_values(node))), node.resolve_topic_name),
            outputs={key: node.resolve_topic_name(name) for key, (name, _) in OUTPUTS.items()},
        )
        node.destroy_node()
        return interface
    except ParameterError as error:
        raise InterfaceError(f"the node's parameters (--params, --ros-args -p): {error}") from error
    finally:
        rclpy.shutdown(context=context)
