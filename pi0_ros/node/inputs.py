"""What the node subscribes to while it is active: cameras, joint states, the instruction."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import String

from pi0_ros.motion.refusal import Reason
from pi0_ros.node.observation import INSTRUCTION, JOINT_STATES
from pi0_ros.node.parameters import NodeParameters
from pi0_ros.node.qos import QosProfiles
from pi0_ros.ros.subscriptions import LatchedSubscription, image_reader, subscribe


class InputSubscriptions:
    """The subscriptions, from activation to deactivation."""

    def __init__(
        self,
        node: Node,
        parameters: NodeParameters,
        qos: QosProfiles,
        on_image: Callable[[str, Any], None],
        on_joint_state: Callable[[str, Any], None],
        on_instruction: Callable[[str], None],
        on_unusable: Callable[[str, Reason, str], None],
    ) -> None:
        """Subscribe.

        Args:
            on_image: gets a camera's name and a message.
            on_joint_state: gets a topic, as the parameters give it, and a message.
            on_unusable: gets a stream's name, the reason and a sentence for each message that
                cannot be deserialised.
        """
        self._node = node

        def malformed(stream: str) -> Callable[[str], None]:
            return partial(on_unusable, stream, Reason.MALFORMED)

        image_type = Image if parameters.image_transport == "raw" else CompressedImage
        read = image_reader(image_type)
        self._subscriptions = [
            subscribe(
                node,
                image_type,
                camera.topic,
                partial(on_image, camera.name),
                qos.images[camera.name],
                malformed(camera.name),
                read,
            )
            for camera in parameters.cameras
        ]
        self._subscriptions += [
            subscribe(
                node,
                JointState,
                topic,
                partial(on_joint_state, topic),
                qos.joint_states[topic],
                malformed(JOINT_STATES),
            )
            for topic in parameters.joint_states_topics
        ]
        self._instruction = LatchedSubscription(
            node,
            String,
            "instruction",
            lambda message: on_instruction(message.data),
            qos.instruction,
            malformed(INSTRUCTION),
        )

    def close(self) -> None:
        """Unsubscribe from all."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._instruction.close()
