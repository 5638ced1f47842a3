"""Subscriptions that no message can harm, and that also hear what was said before them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message, serialize_message

if TYPE_CHECKING:
    from rclpy.node import Node
    from rclpy.subscription import Subscription


def subscribe(
    node: Node,
    kind: type,
    topic: str,
    put: Callable[[Any], Any],
    qos: QoSProfile,
    malformed: Callable[[str], Any],
    read: Callable[[bytes], Any] | None = None,
) -> Subscription:
    """Subscribe to serialised messages and deserialise them here.

    One that cannot be deserialised (its text is no UTF-8, say) must not reach rclpy's executor,
    whose callback group it would block for ever.

    Args:
        put: gets each message.
        malformed: gets a sentence about each one that is none.
        read: serialised -> message, any exception for what is none; default: rclpy's own way.
    """
    deserialize = read or partial(deserialize_message, message_type=kind)

    def receive(data: bytes) -> None:
        try:
            message = deserialize(data)
        except Exception as error:  # the kinds differ between releases of rclpy
            malformed(f"{len(data)} bytes that are no {kind.__name__}: {error}")
            return
        put(message)

    return node.create_subscription(kind, topic, receive, qos, raw=True)


def image_reader(kind: type) -> Callable[[bytes], Any]:
    """Reads serialised images without copying their pixels, which rclpy would do twice.

    Args:
        kind: sensor_msgs Image or CompressedImage.

    Returns:
        What reads; its messages have the definition's attributes, `data` as uint8 array.
    """
    from rosbags.typesys import Stores, get_typestore

    # Both definitions are the same in every ROS 2.
    store = get_typestore(Stores.ROS2_HUMBLE)
    read = partial(store.deserialize_cdr, typename=f"sensor_msgs/msg/{kind.__name__}")
    read(serialize_message(kind()))  # what reads is made at first use, which takes milliseconds
    return read


class KeptTopic:
    """A reliable subscription that also hears what was published before it, where it is kept.

    A volatile subscription hears every publisher but no past message, a transient-local one hears
    past messages but no volatile publisher; so the second joins the first once such a publisher is
    seen. A message may arrive by both.
    """

    def __init__(
        self,
        node: Node,
        kind: type,
        topic: str,
        put: Callable[[Any], Any],
        malformed: Callable[[str], Any],
        depth: int,
    ) -> None:
        self._node, self._topic = node, topic

        def subscribe_as(durability: DurabilityPolicy) -> Subscription:
            qos = QoSProfile(
                depth=depth, reliability=ReliabilityPolicy.RELIABLE, durability=durability
            )
            return subscribe(node, kind, topic, put, qos, malformed)

        self._subscribe_as = subscribe_as
        self._subscriptions = [subscribe_as(DurabilityPolicy.VOLATILE)]

    def look(self) -> None:
        """Look for publishers that keep messages; to be called now and then."""
        kept = DurabilityPolicy.TRANSIENT_LOCAL
        if len(self._subscriptions) == 1 and any(
            publisher.qos_profile.durability == kept
            for publisher in self._node.get_publishers_info_by_topic(self._topic)
        ):
            self._subscriptions.append(self._subscribe_as(kept))

    def close(self) -> None:
        """Unsubscribe."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
