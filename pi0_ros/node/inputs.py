"""What the node subscribes to while it is active: cameras, joint states, the instruction."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import String

from pi0_ros.node.observation import ObservationBuffer
from pi0_ros.ros.subscriptions import LatchedSubscription, image_reader, subscribe

if TYPE_CHECKING:
    from pi0_ros.node.node import Pi0Node

# Newest message only, and whatever reliability the publisher offers.
_IMAGE = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
_INSTRUCTION = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
# Deeper, because messages about other robots' joints may lie between two of ours.
_JOINT_STATES = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)


class Inputs:
    """The subscriptions, from activation to deactivation; all they hear goes to the buffer."""

    def __init__(self, node: Pi0Node, buffer: ObservationBuffer) -> None:
        self._node = node
        self._buffer = buffer
        parameters = node.parameters
        image_type = Image if parameters.image_transport == "raw" else CompressedImage
        read = image_reader(image_type)
        self._subscriptions = [
            subscribe(
                node,
                image_type,
                camera.topic,
                self._then_collect(partial(buffer.put_image, camera.name)),
                _IMAGE,
                partial(buffer.blame, camera.name, "malformed"),
                read,
            )
            for camera in parameters.cameras
        ]
        self._subscriptions.append(
            subscribe(
                node,
                JointState,
                parameters.joint_states_topic,
                self._then_collect(buffer.put_joint_state),
                _JOINT_STATES,
                partial(buffer.blame, "joint states", "malformed"),
            )
        )
        blame = partial(buffer.blame, "instruction", "malformed")
        self._instruction = LatchedSubscription(
            node, String, "instruction", self._instruct, _INSTRUCTION, blame
        )

    def _then_collect(self, put: Callable[[Any], Any]) -> Callable[[Any], None]:
        """Puts a message, and publishes a chunk that became ready meanwhile.

        The executor serves every subscription that is ready before it serves a guard condition.
        """

        def put_and_collect(message: Any) -> None:
            put(message)
            self._node.collect()

        return put_and_collect

    def close(self) -> None:
        """Unsubscribe from all."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._instruction.close()

    def _instruct(self, message: String) -> None:
        before = self._buffer.instruction
        problem = self._buffer.put_instruction(message.data)
        if problem:
            self._node.log_throttled("instruction", f"the instruction was dropped: {problem}")
        elif self._buffer.instruction != before:
            text = self._buffer.instruction
            self._node.log_throttled("new instruction", f"instruction: {text!r}", warn=False)
