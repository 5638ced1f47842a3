"""Collecting the doctor's samples from a live graph."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.topic_endpoint_info import TopicEndpointInfo
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import Bool, Header, String
from trajectory_msgs.msg import JointTrajectory

from pi0_ros.doctor.controller_query import ask_controllers
from pi0_ros.doctor.controllers import controller_nodes
from pi0_ros.doctor.reaction import reference_of, sent_of
from pi0_ros.doctor.samples import Collected, Collector, Endpoint
from pi0_ros.node.interface import Interface, node_topics
from pi0_ros.node.parameter_table import JOINT_TRAJECTORY
from pi0_ros.ros.diagnostics import read_statuses
from pi0_ros.ros.graph import full_name
from pi0_ros.ros.recorder import Recorded
from pi0_ros.ros.subscriptions import LatchedSubscription, subscribe

try:
    from control_msgs.msg import JointTrajectoryControllerState
except ImportError:  # it comes with ros2_controllers
    JointTrajectoryControllerState = None

NAME = "pi0_doctor"
NAMES = 2.0
"""Seconds in which DDS may still tell the names of nodes; it tells of their topics first."""

_UNKNOWN = "_NODE_NAME_UNKNOWN_"
_KINDS = {
    Recorded(kind).type: kind for kind in (Image, CompressedImage, JointState, String, Bool, Header)
}
ALL = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)
"""Deep, since every message counts here; best effort matches every publisher."""

_DEEP = QoSProfile(depth=200, reliability=ReliabilityPolicy.BEST_EFFORT)
_PERIOD = 0.2  # seconds between two looks at the graph


@contextmanager
def listening(use_sim_time: bool = False) -> Iterator[tuple[Node, SingleThreadedExecutor]]:
    """The doctor's node in the domain of ROS_DOMAIN_ID, and the executor to spin it with."""
    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    try:
        node = Node(
            NAME,
            context=context,
            enable_rosout=False,
            start_parameter_services=False,
            parameter_overrides=[Parameter("use_sim_time", value=use_sim_time)],
        )
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(node)
        yield node, executor
        executor.shutdown()
        node.destroy_node()
    finally:
        rclpy.try_shutdown(context=context)


def collect_live(interface: Interface, seconds: float) -> Collected:
    """Subscribe as the node does, in the domain of ROS_DOMAIN_ID, and listen (wall time)."""
    collector = Collector(interface, live=True)
    collected = collector.collected
    with listening(interface.use_sim_time) as (node, executor):
        collected.start = time.time_ns()
        _subscribe(node, interface, collector)
        watch = _ControllerWatch(node, interface, collector)
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            executor.spin_once(timeout_sec=min(left, 0.1))
            watch.look()
        collected.end = time.time_ns()
        patience = time.monotonic() + NAMES
        while not _look_at_graph(node, collected) and time.monotonic() < patience:
            executor.spin_once(timeout_sec=0.05)
        asked = ask_controllers(node, executor, controller_nodes(interface, collected))
        collected.controllers = {controller.node: controller for controller in asked}
    return collected


def _subscribe(node: Node, interface: Interface, collector: Collector) -> None:
    clock = collector.collected.clock

    def receive(topic: str) -> Callable[[Any], None]:
        def put(message: Any) -> None:
            arrival = time.time_ns()
            now: int | None = arrival
            if interface.use_sim_time:
                now = clock[-1][1] if clock else None
            collector.puts[topic](message, arrival, now)

        return put

    def malformed(topic: str) -> Callable[[str], None]:
        return partial(collector.malformed, topic)

    def on_clock(message: Clock) -> None:
        value = message.clock.sec * 1_000_000_000 + message.clock.nanosec
        clock.append((time.time_ns(), value))

    for topic in node_topics(interface.parameters):
        if topic.sent:
            continue
        name, kind = interface.absolute(topic.name), _KINDS[topic.type]
        if kind in (String, Bool):
            LatchedSubscription(node, kind, name, receive(name), ALL, malformed(name))
        else:
            subscribe(node, kind, name, receive(name), ALL, malformed(name))
    subscribe(node, Clock, "/clock", on_clock, ALL, malformed("/clock"))
    note = partial(note_diagnostics, collector.collected, interface.name)
    subscribe(node, DiagnosticArray, "/diagnostics", note, ALL, malformed("/diagnostics"))


def note_diagnostics(collected: Collected, name: str, message: DiagnosticArray) -> None:
    """Keep what the node `name` and the controller manager report."""
    for about, values in read_statuses(message, name).items():
        collected.diagnostics[about] = values
    for status in message.status:
        if status.name.endswith("Controllers Activity"):
            for pair in status.values:
                if not pair.key.endswith((".execution_time", ".periodicity")):
                    collected.states[pair.key.removesuffix(".state")] = pair.value


def _look_at_graph(node: Node, collected: Collected) -> bool:
    """Note publishers and subscribers of every topic; whether the names of all are known."""
    for name, _ in node.get_topic_names_and_types():
        publishers = _endpoints(node.get_publishers_info_by_topic(name))
        if publishers:
            collected.publishers[name] = publishers
            collected.types[name] = tuple(dict.fromkeys(e.type for e in publishers))
        collected.subscribers[name] = _endpoints(node.get_subscriptions_info_by_topic(name))
    found = (*collected.publishers.values(), *collected.subscribers.values())
    return not any(_UNKNOWN in end.node for ends in found for end in ends)


def _endpoints(infos: Sequence[TopicEndpointInfo]) -> tuple[Endpoint, ...]:
    return tuple(
        Endpoint(full_name(info), info.topic_type, info.qos_profile.durability.name.lower())
        for info in infos
        if info.node_name != NAME
    )


class _ControllerWatch:
    """Subscribes to an output and to its controller's state, once both are there.

    To an output that has no controller it does not subscribe: the node would take it for one.
    """

    def __init__(self, node: Node, interface: Interface, collector: Collector) -> None:
        self._node, self._collector = node, collector
        self._topics = {
            interface.absolute(output.topic)
            for output in interface.parameters.effective_outputs
            if output.type == JOINT_TRAJECTORY and JointTrajectoryControllerState is not None
        }
        self._looked = 0.0

    def look(self) -> None:
        """Subscribe to what has come up; call it again and again."""
        now = time.monotonic()
        if now - self._looked < _PERIOD:
            return
        self._looked = now
        for topic in sorted(self._topics):
            for info in self._node.get_subscriptions_info_by_topic(topic):
                controller = full_name(info)
                state = f"{controller}/controller_state"
                if self._node.count_publishers(state):
                    self._follow(topic, controller, state)
                    self._topics.discard(topic)
                    break

    def _follow(self, topic: str, controller: str, state: str) -> None:
        collected, malformed = self._collector.collected, self._collector.malformed
        sent = collected.sent.setdefault(topic, [])
        references = collected.references.setdefault(controller, [])

        def on_trajectory(message: JointTrajectory) -> None:
            if found := sent_of(message, self._node.get_clock().now().nanoseconds):
                sent.append(found)

        def on_state(message: Any) -> None:
            if found := reference_of(message):
                references.append(found)

        for kind, name, put in (
            (JointTrajectory, topic, on_trajectory),
            (JointTrajectoryControllerState, state, on_state),
        ):
            subscribe(self._node, kind, name, put, _DEEP, partial(malformed, name))
