"""AnyQosSubscription and LatchedSubscription: messages of publishers of every kind."""

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
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import Bool, String

from pi0_ros.ros.subscriptions import AnyQosSubscription, LatchedSubscription, Sender

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
    two_nodes.wait(lambda: publisher.get_subscription_count() == 3, "all subscriptions")
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
    two_nodes.wait(lambda: publisher.get_subscription_count() == 2, "discovery")
    publisher.publish(String(data="now"))
    two_nodes.wait(lambda: heard == ["now"], "the message")
    assert not incompatible


def test_publishers_of_both_kinds(two_nodes):
    heard: list[str] = []
    volatile = two_nodes.talker.create_publisher(String, "words", QOS)
    listen(two_nodes.listener, heard)
    two_nodes.wait(lambda: volatile.get_subscription_count() == 2, "discovery")
    latched = two_nodes.talker.create_publisher(String, "words", LATCHED)
    latched.publish(String(data="latched"))
    two_nodes.wait(lambda: heard == ["latched"], "the latched message of the later publisher")
    volatile.publish(String(data="volatile"))
    two_nodes.wait(lambda: heard == ["latched", "volatile"], "the volatile message")


BEST_EFFORT = ReliabilityPolicy.BEST_EFFORT
KINDS = {
    "reliable": QOS,
    "reliable, latched": LATCHED,
    "best effort": QoSProfile(depth=10, reliability=BEST_EFFORT),
    "best effort, latched": QoSProfile(
        depth=10, reliability=BEST_EFFORT, durability=DurabilityPolicy.TRANSIENT_LOCAL
    ),
}


def listen_to_any(node: Any, heard: list[tuple[bool, Sender]]) -> AnyQosSubscription:
    return AnyQosSubscription(
        node, Bool, "stop", lambda message, sender: heard.append((message.data, sender)), QOS, print
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("first", ["publisher", "subscription"])
def test_a_publisher_of_any_kind_is_heard(two_nodes, kind, first, capfd):
    heard: list[tuple[bool, Sender]] = []

    def begin_listening() -> None:
        subscriptions.append(listen_to_any(two_nodes.listener, heard))

    subscriptions: list[AnyQosSubscription] = []
    if first == "subscription":
        begin_listening()
    publisher = two_nodes.talker.create_publisher(Bool, "stop", KINDS[kind])
    if first == "publisher":
        publisher.publish(Bool(data=True))
        begin_listening()
        if kind == "reliable, latched":
            two_nodes.wait(lambda: heard, "what was sent before; best effort cannot tell that")
    wanted = {"reliable": 2, "reliable, latched": 3}.get(kind, 1)
    two_nodes.wait(lambda: publisher.get_subscription_count() == wanted, "the subscriptions")
    two_nodes.wait(lambda: subscriptions[0]._base.get_publisher_count() == 1, "the publisher")
    heard.clear()
    publisher.publish(Bool(data=False))
    two_nodes.wait(lambda: heard, "a message")
    assert not heard[0][0] and heard[0][1].sent
    assert subscriptions[0].unheard() == []
    text = capfd.readouterr().err
    assert "[listener]" not in text, "the listener warns of nothing"
    assert ("incompatible" in text) == ("best effort" in kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("other", KINDS)
def test_publishers_of_two_kinds_are_both_heard(two_nodes, kind, other):
    heard: list[tuple[bool, Sender]] = []
    publishers = [two_nodes.talker.create_publisher(Bool, "stop", KINDS[k]) for k in (kind, other)]
    subscription = listen_to_any(two_nodes.listener, heard)
    two_nodes.wait(lambda: subscription._base.get_publisher_count() == 2, "discovery")
    assert not subscription.unheard()
    for data, publisher in zip((True, False), publishers, strict=True):
        two_nodes.wait(publisher.get_subscription_count, "discovery")
        publisher.publish(Bool(data=data))
    two_nodes.wait(lambda: {data for data, _ in heard} == {True, False}, "both messages")


def test_a_publisher_of_another_type_is_named(two_nodes):
    subscription = listen_to_any(two_nodes.listener, [])
    two_nodes.talker.create_publisher(String, "stop", QOS)
    two_nodes.wait(lambda: subscription.unheard(patience=0.0), "the graph")
    assert subscription.unheard() == [
        "/talker publishes std_msgs/msg/String, not std_msgs/msg/Bool"
    ]


def test_the_publisher_is_told_where_rclpy_does():
    info = {"source_timestamp": 5, "received_timestamp": 6}
    assert Sender.of(info) == Sender(5, None)
    assert Sender.of(info | {"publisher_gid": [1, 2]}) == Sender(5, b"\x01\x02")
    assert Sender.of(info | {"publisher_gid": {"data": b"ab"}}) == Sender(5, b"ab")


def test_close_ends_all(two_nodes):
    publisher = two_nodes.talker.create_publisher(String, "words", LATCHED)
    subscription = listen(two_nodes.listener, [])
    two_nodes.wait(lambda: publisher.get_subscription_count() == 3, "all subscriptions")
    subscription.close()
    two_nodes.wait(lambda: publisher.get_subscription_count() == 0, "none")


def test_a_malformed_message_is_told_and_the_next_one_heard(two_nodes):
    heard: list[str] = []
    publisher = two_nodes.talker.create_publisher(String, "words", QOS)
    listen(two_nodes.listener, heard)
    two_nodes.wait(lambda: publisher.get_subscription_count() == 2, "discovery")
    publisher.publish(b"\0\1\0\0\xff\0\0\0a")  # shorter than it says
    publisher.publish(String(data="fine"))
    two_nodes.wait(lambda: "fine" in heard, "the next message")
    assert len(heard) == 2 and heard[0].startswith("malformed: ") and "String" in heard[0]
