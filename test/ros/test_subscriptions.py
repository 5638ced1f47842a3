"""LatchedSubscription: messages of volatile and of transient local publishers, each once."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from support.domains import free_domain
from support.waiting import wait_until

pytest.importorskip("rclpy")

import rclpy
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import String

from pi0_ros.ros.subscriptions import LatchedSubscription

QOS = QoSProfile(depth=10)
LATCHED = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@pytest.fixture
def two_nodes() -> Iterator[SimpleNamespace]:
    """`talker` and `listener`, in participants of their own; `wait` spins both."""
    domain = free_domain()
    contexts = [rclpy.Context(), rclpy.Context()]
    for context in contexts:
        rclpy.init(context=context, domain_id=domain)
    nodes = [
        rclpy.create_node(name, context=context)
        for name, context in zip(("talker", "listener"), contexts, strict=True)
    ]
    executors = [SingleThreadedExecutor(context=context) for context in contexts]
    for executor, node in zip(executors, nodes, strict=True):
        executor.add_node(node)

    def spin() -> None:
        for executor in executors:
            executor.spin_once(timeout_sec=0.01)

    def wait(condition: Any, what: str) -> None:
        wait_until(lambda: spin() or condition(), what)

    yield SimpleNamespace(talker=nodes[0], listener=nodes[1], wait=wait, spin=spin)
    for executor, node, context in zip(executors, nodes, contexts, strict=True):
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown(context=context)


def listen(node: Any, heard: list[str]) -> LatchedSubscription:
    def malformed(text: str) -> None:
        heard.append(f"malformed: {text}")

    return LatchedSubscription(
        node, String, "words", lambda message: heard.append(message.data), QOS, malformed
    )


def test_latched_messages_arrive_once_and_so_do_later_ones(two_nodes):
    heard: list[str] = []
    publisher = two_nodes.talker.create_publisher(String, "words", LATCHED)
    publisher.publish(String(data="before"))
    listen(two_nodes.listener, heard)
    two_nodes.wait(lambda: heard, "the latched message")
    two_nodes.wait(lambda: publisher.get_subscription_count() == 2, "both subscriptions")
    for word in ("again", "again", "last"):
        publisher.publish(String(data=word))
    two_nodes.wait(lambda: "last" in heard, "the last message")
    for _ in range(20):
        two_nodes.spin()
    assert heard == ["before", "again", "again", "last"]


def test_a_volatile_publisher_is_heard_and_warned_of_nothing(two_nodes):
    heard: list[str] = []
    incompatible: list[Any] = []
    listen(two_nodes.listener, heard)
    publisher = two_nodes.talker.create_publisher(
        String,
        "words",
        QOS,
        event_callbacks=PublisherEventCallbacks(incompatible_qos=incompatible.append),
    )
    two_nodes.wait(lambda: publisher.get_subscription_count() == 1, "discovery")
    publisher.publish(String(data="now"))
    two_nodes.wait(lambda: heard == ["now"], "the message")
    assert not incompatible


def test_publishers_of_both_kinds(two_nodes):
    heard: list[str] = []
    volatile = two_nodes.talker.create_publisher(String, "words", QOS)
    listen(two_nodes.listener, heard)
    two_nodes.wait(lambda: volatile.get_subscription_count() == 1, "discovery")
    latched = two_nodes.talker.create_publisher(String, "words", LATCHED)
    latched.publish(String(data="latched"))
    two_nodes.wait(lambda: heard == ["latched"], "the latched message of the later publisher")
    volatile.publish(String(data="volatile"))
    two_nodes.wait(lambda: heard == ["latched", "volatile"], "the volatile message")


def test_close_ends_both(two_nodes):
    publisher = two_nodes.talker.create_publisher(String, "words", LATCHED)
    subscription = listen(two_nodes.listener, [])
    two_nodes.wait(lambda: publisher.get_subscription_count() == 2, "both subscriptions")
    subscription.close()
    two_nodes.wait(lambda: publisher.get_subscription_count() == 0, "none")


def test_a_malformed_message_is_told_and_the_next_one_heard(two_nodes):
    heard: list[str] = []
    publisher = two_nodes.talker.create_publisher(String, "words", QOS)
    listen(two_nodes.listener, heard)
    two_nodes.wait(lambda: publisher.get_subscription_count() == 1, "discovery")
    publisher.publish(b"\0\1\0\0\xff\0\0\0a")  # shorter than it says
    publisher.publish(String(data="fine"))
    two_nodes.wait(lambda: "fine" in heard, "the next message")
    assert len(heard) == 2 and heard[0].startswith("malformed: ") and "String" in heard[0]
