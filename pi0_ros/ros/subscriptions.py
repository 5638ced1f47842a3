"""Subscriptions that survive malformed messages, and that receive latched messages too."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.serialization import deserialize_message, serialize_message

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

if TYPE_CHECKING:
    from rclpy.node import Node
    from rclpy.subscription import Subscription


def subscribe(
    node: Node,
    kind: type,
    topic: str,
    on_message: Callable[[Any], Any],
    qos: QoSProfile,
    on_malformed: Callable[[str], Any],
    read: Callable[[bytes], Any] | None = None,
) -> Subscription:
    """Subscribe to serialised messages and deserialise them here.

    rclpy would raise the error of a message that cannot be deserialised (its text is no UTF-8, say)
    inside its executor, and block the callback group for ever.

    Args:
        on_message: gets each message.
        on_malformed: gets a sentence about each message that cannot be deserialised.
        read: serialised -> message, raises any exception; default: rclpy's own deserialisation.
    """
    return node.create_subscription(
        kind, topic, _reader(kind, on_message, on_malformed, read), qos, raw=True
    )


def _reader(
    kind: type,
    on_message: Callable[[Any], Any],
    on_malformed: Callable[[str], Any],
    read: Callable[[bytes], Any] | None = None,
) -> Callable[[bytes], None]:
    deserialize = read or partial(deserialize_message, message_type=kind)

    def receive(data: bytes) -> None:
        try:
            message = deserialize(data)
        except Exception as error:  # the kinds differ between releases of rclpy
            on_malformed(f"{len(data)} bytes that are no {kind.__name__}: {error}")
            return
        on_message(message)

    return receive


def image_reader(kind: type) -> Callable[[bytes], Any]:
    """Deserialises images without copying their pixels, which rclpy would do twice.

    Args:
        kind: sensor_msgs Image or CompressedImage.

    Returns:
        The function for `subscribe`; its messages have the definition's attributes, and `data` is a
        uint8 array.
    """
    from rosbags.typesys import Stores, get_typestore

    # Both definitions are the same in every ROS 2.
    store = get_typestore(Stores.ROS2_HUMBLE)
    read = partial(store.deserialize_cdr, typename=f"sensor_msgs/msg/{kind.__name__}")
    read(serialize_message(kind()))  # rosbags compiles at the first use: milliseconds
    return read


class LatchedSubscription:
    """Receives the messages of every publisher, and those that a publisher has latched.

    A volatile subscription matches every publisher, but receives no earlier message. A transient
    local one receives latched messages, but matches no volatile publisher, and both sides warn of
    that. So the transient local one joins the volatile one as soon as a transient local publisher
    matches. Messages that arrive at both are passed on once.
    """

    def __init__(
        self,
        node: Node,
        kind: type,
        topic: str,
        on_message: Callable[[Any], Any],
        qos: QoSProfile,
        on_malformed: Callable[[str], Any],
    ) -> None:
        """As `subscribe`; the durability of `qos` is not used."""
        self._node, self._kind, self._topic, self._qos = node, kind, topic, qos
        self._read = _reader(kind, on_message, on_malformed)
        self._received: deque[tuple[int, int]] = deque(maxlen=2 * max(qos.depth, 1))
        self._latched: Subscription | None = None
        try:
            events = SubscriptionEventCallbacks(matched=self._on_matched)
        except TypeError:  # Humble has no such event
            self._volatile = self._subscribe(DurabilityPolicy.VOLATILE, None)
            self._subscribe_latched()
        else:
            self._volatile = self._subscribe(DurabilityPolicy.VOLATILE, events)

    def _subscribe(
        self, durability: DurabilityPolicy, events: SubscriptionEventCallbacks | None
    ) -> Subscription:
        qos = QoSProfile(
            history=self._qos.history,
            depth=self._qos.depth,
            reliability=self._qos.reliability,
            durability=durability,
        )
        return self._node.create_subscription(
            self._kind, self._topic, self._receive, qos, event_callbacks=events, raw=True
        )

    def _on_matched(self, event: Any) -> None:
        publishers = self._node.get_publishers_info_by_topic(self._topic)
        # Where the graph does not know a publisher yet that has matched already, it may latch.
        if len(publishers) < event.current_count or any(
            publisher.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
            for publisher in publishers
        ):
            self._subscribe_latched()

    def _subscribe_latched(self) -> None:
        if self._latched is None:
            silent = SubscriptionEventCallbacks(use_default_callbacks=False)
            self._latched = self._subscribe(DurabilityPolicy.TRANSIENT_LOCAL, silent)

    def _receive(self, data: bytes, info: Any) -> None:
        identity = info["source_timestamp"], hash(data)
        if identity in self._received:
            return
        self._received.append(identity)
        self._read(data)

    def close(self) -> None:
        """Unsubscribe."""
        for subscription in (self._volatile, self._latched):
            if subscription is not None:
                self._node.destroy_subscription(subscription)
