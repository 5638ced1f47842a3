"""Collecting the doctor's samples from a live graph."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pi0_ros.doctor.samples import Collected, Collector, Endpoint, Settings
from pi0_ros.node.interface import node_topics

if TYPE_CHECKING:
    from rclpy.node import Node
    from rclpy.topic_endpoint_info import TopicEndpointInfo

NAME = "pi0_doctor"


def collect_live(settings: Settings, seconds: float) -> Collected:
    """Subscribe as the node does, in the domain of ROS_DOMAIN_ID, and listen.

    Args:
        seconds: how long, of wall time.

    Raises:
        KeyboardInterrupt: Ctrl-C.
    """
    import rclpy
    from rclpy.executors import SingleThreadedExecutor

    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    try:
        node = rclpy.create_node(
            NAME, context=context, enable_rosout=False, start_parameter_services=False
        )
        listener = _Listener(node, settings)
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(node)
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            executor.spin_once(timeout_sec=min(left, 0.1))
        executor.shutdown()
        collected = listener.finish()
        node.destroy_node()
        return collected
    finally:
        rclpy.try_shutdown(context=context)


class _Listener:
    """The subscriptions, and the node's clock as it would be."""

    def __init__(self, node: Node, settings: Settings) -> None:
        from rclpy.qos import QoSProfile, ReliabilityPolicy
        from rosgraph_msgs.msg import Clock
        from sensor_msgs.msg import CompressedImage, Image, JointState
        from std_msgs.msg import Bool, Header, String

        from pi0_ros.ros.subscriptions import LatchedSubscription, subscribe

        self._node = node
        self._settings = settings
        self._collector = Collector(settings, live=True)
        self._collector.collected.start = time.time_ns()
        kinds = {
            "sensor_msgs/msg/Image": Image,
            "sensor_msgs/msg/CompressedImage": CompressedImage,
            "sensor_msgs/msg/JointState": JointState,
            "std_msgs/msg/String": String,
            "std_msgs/msg/Bool": Bool,
            "std_msgs/msg/Header": Header,
        }
        # Deep, since every message counts here; best effort matches every publisher.
        every = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)
        reliable = QoSProfile(depth=50, reliability=ReliabilityPolicy.RELIABLE)
        for topic in node_topics(settings.parameters):
            if topic.sent:
                continue
            name = settings.names[topic.name]
            kind, put, malformed = kinds[topic.type], self._put(name), self._malformed(name)
            if topic.type in ("std_msgs/msg/String", "std_msgs/msg/Bool"):
                LatchedSubscription(node, kind, name, put, reliable, malformed)
            else:
                subscribe(node, kind, name, put, every, malformed)
        subscribe(node, Clock, "/clock", self._put_clock, every, self._malformed("/clock"))

    def _put(self, topic: str) -> Any:
        put = self._collector.puts[topic]

        def receive(message: Any) -> None:
            arrival = time.time_ns()
            now: int | None = arrival
            if self._settings.use_sim_time:
                clock = self._collector.collected.clock
                now = clock[-1][1] if clock else None
            put(message, arrival, now)

        return receive

    def _malformed(self, topic: str) -> Any:
        return lambda sentence: self._collector.malformed(topic, sentence)

    def _put_clock(self, message: Any) -> None:
        value = message.clock.sec * 10**9 + message.clock.nanosec
        self._collector.collected.clock.append((time.time_ns(), value))

    def finish(self) -> Collected:
        """What was received, and the graph as it is now."""
        collected, node = self._collector.collected, self._node
        collected.end = time.time_ns()
        for name, _ in node.get_topic_names_and_types():
            publishers = _endpoints(node.get_publishers_info_by_topic(name))
            if publishers:
                collected.publishers[name] = publishers
                types = dict.fromkeys(endpoint.type for endpoint in publishers)
                collected.types[name] = tuple(types)
            collected.subscribers[name] = _endpoints(node.get_subscriptions_info_by_topic(name))
        return collected


def _endpoints(infos: Sequence[TopicEndpointInfo]) -> tuple[Endpoint, ...]:
    return tuple(
        Endpoint(
            f"{info.node_namespace.rstrip('/')}/{info.node_name}",
            info.topic_type,
            info.qos_profile.reliability.name.lower(),
            info.qos_profile.durability.name.lower(),
        )
        for info in infos
        if info.node_name != NAME
    )
