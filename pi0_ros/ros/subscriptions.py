"""Subscriptions that survive malformed messages, and that receive what any publisher sends."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message, serialize_message

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

from pi0_ros.ros.graph import MATCHING, unheard

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
    on_message: Callable[..., Any],
    on_malformed: Callable[[str], Any],
    read: Callable[[bytes], Any] | None = None,
) -> Callable[..., None]:
    deserialize = read or partial(deserialize_message, message_type=kind)

    def receive(data: bytes, *more: Any) -> None:
        try:
            message = deserialize(data)
        except Exception as error:  # the kinds differ between releases of rclpy
            on_malformed(f"{len(data)} bytes that are no {kind.__name__}: {error}")
            return
        on_message(message, *more)

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


class Sender(NamedTuple):
    """Where a message comes from.

    Attributes:
        sent: nanoseconds of the sender's clock; 0 where the middleware does not tell.
        publisher: the publisher's GID; None where rclpy does not tell (before 2026).
    """

    sent: int
    publisher: bytes | None

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> Sender:
        """From what rclpy gives beside a message."""
        gid = info.get("publisher_gid")
        if isinstance(gid, Mapping):
            gid = gid.get("data")
        return cls(info["source_timestamp"], None if gid is None else bytes(gid))


class AnyQosSubscription:
    """Receives the messages of every publisher, whatever its quality of service.

    A best effort, volatile subscription matches every publisher, but may lose a message. A reliable
    one beside it does not; a best effort publisher warns that it does not match that one. Neither
    hears what was latched before. A transient local one does, but matches no volatile publisher,
    and both sides warn of that: it joins as soon as a transient local publisher matches.

    So a message may arrive several times, and a latched one after later ones: whoever listens makes
    no difference between once and often, and looks at `Sender.sent`.
    """

    def __init__(
        self,
        node: Node,
        kind: type,
        topic: str,
        on_message: Callable[[Any, Sender], Any],
        qos: QoSProfile,
        on_malformed: Callable[[str], Any],
        latched: bool = True,
    ) -> None:
        """As `subscribe`; of `qos` history and depth are used.

        Args:
            latched: what was latched before is heard, too.
        """
        self._node, self._kind, self._topic, self._qos = node, kind, topic, qos
        self._read = _reader(kind, on_message, on_malformed)
        self._silent = SubscriptionEventCallbacks(use_default_callbacks=False)
        self._latched: Subscription | None = None
        self._base_qos = self._profile(ReliabilityPolicy.BEST_EFFORT, DurabilityPolicy.VOLATILE)
        reliable = self._profile(ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE)
        self._reliable = self._subscribe(reliable, self._silent)
        if not latched:
            self._base = self._subscribe(self._base_qos, self._silent)
            return
        try:
            events = SubscriptionEventCallbacks(matched=self._on_matched)
        except TypeError:  # Humble has no such event
            self._base = self._subscribe(self._base_qos, None)
            self._subscribe_latched()
        else:
            self._base = self._subscribe(self._base_qos, events)

    def _profile(self, reliability: ReliabilityPolicy, durability: DurabilityPolicy) -> QoSProfile:
        return QoSProfile(
            history=self._qos.history,
            depth=self._qos.depth,
            reliability=reliability,
            durability=durability,
        )

    def _subscribe(
        self, qos: QoSProfile, events: SubscriptionEventCallbacks | None
    ) -> Subscription:
        return self._node.create_subscription(
            self._kind, self._topic, self._receive, qos, event_callbacks=events, raw=True
        )

    def _on_matched(self, event: Any) -> None:
        publishers = self._node.get_publishers_info_by_topic(self._topic)
        # The graph may not know a publisher yet that has matched already.
        unknown = len(publishers) < event.current_count
        if unknown or any(
            one.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL for one in publishers
        ):
            self._subscribe_latched()

    def _subscribe_latched(self) -> None:
        if self._latched is None:
            qos = self._profile(ReliabilityPolicy.RELIABLE, DurabilityPolicy.TRANSIENT_LOCAL)
            self._latched = self._subscribe(qos, self._silent)

    def _receive(self, data: bytes, info: Mapping[str, Any]) -> None:
        self._read(data, Sender.of(info))

    def unheard(self, patience: float = MATCHING) -> list[str]:
        """The publishers whose messages cannot arrive, see `pi0_ros.ros.graph.unheard`."""
        return unheard(self._node, self._topic, self._kind, self._base, self._base_qos, patience)

    def close(self) -> None:
        """Unsubscribe."""
        for subscription in (self._base, self._reliable, self._latched):
            if subscription is not None:
                self._node.destroy_subscription(subscription)


class LatchedSubscription(AnyQosSubscription):
    """An AnyQosSubscription that passes each message on once."""

    def __init__(
        self,
        node: Node,
        kind: type,
        topic: str,
        on_message: Callable[[Any], Any],
        qos: QoSProfile,
        on_malformed: Callable[[str], Any],
    ) -> None:
        """As `subscribe`; of `qos` history and depth are used."""
        self._received: deque[tuple[Sender, int]] = deque(maxlen=4 * max(qos.depth, 1))
        super().__init__(
            node, kind, topic, lambda message, _: on_message(message), qos, on_malformed
        )

    def _receive(self, data: bytes, info: Mapping[str, Any]) -> None:
        identity = Sender.of(info), hash(data)
        if identity[0].sent and identity in self._received:
            return
        self._received.append(identity)
        super()._receive(data, info)
