"""What a recorder does with messages, and at which times it writes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="ROS is not installed")

from rclpy.serialization import serialize_message
from std_msgs.msg import String

from pi0_ros.ros.recorder import Recorded, Recorder


class Node:
    """Keeps the callbacks of subscriptions."""

    def __init__(self) -> None:
        self.callbacks: dict[str, Callable[[bytes], None]] = {}

    def create_subscription(self, kind: type, topic: str, callback: Any, *_: Any, **__: Any) -> Any:
        self.callbacks[topic] = callback

    def say(self, topic: str, text: str) -> None:
        self.callbacks[topic](serialize_message(String(data=text)))


def test_messages_are_handed_on_and_written_in_order_and_never_back_in_time() -> None:
    node, now, read, written = Node(), [0], [], []

    def on_clock(message: String) -> None:
        now[0] = int(message.data)

    topics = {
        "/clock": Recorded(String, on_clock),
        "/a": Recorded(String, lambda message: read.append(message.data)),
        "/b": Recorded(String),
    }
    recorder = Recorder(node, topics, lambda: now[0])
    recorder.write = lambda topic, time, data: written.append((topic, time))
    node.say("/a", "early")
    recorder.poll()
    assert (read, written) == (["early"], []), "kept: there is no time yet"
    node.say("/clock", "5")
    node.say("/clock", "7")
    node.say("/b", "x")
    recorder.poll()
    assert written == [("/a", 5), ("/clock", 5), ("/clock", 7), ("/b", 7)]
    now[0] = 6  # as if it had arrived before the clock was read
    node.say("/b", "y")
    now[0] = 9
    node.say("/b", "z")
    recorder.poll()
    assert written[4:] == [("/b", 7), ("/b", 9)]


def test_nothing_is_kept_before_there_is_a_writer() -> None:
    node, written = Node(), []
    recorder = Recorder(node, {"/a": Recorded(String)}, lambda: 3)
    node.say("/a", "before")
    recorder.poll()
    recorder.write = lambda topic, time, data: written.append((topic, time, data))
    node.say("/a", "after")
    recorder.poll()
    assert written == [("/a", 3, serialize_message(String(data="after")))]


def test_types_are_named_as_recordings_name_them() -> None:
    assert Recorded(String).type == "std_msgs/msg/String"
