"""Collecting the doctor's samples from a rosbag2 recording; needs no ROS."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pi0_ros.bags.bag import Bag, Message, open_bag
from pi0_ros.bags.messages import decode
from pi0_ros.doctor.samples import Collected, Collector
from pi0_ros.node.interface import Interface, node_topics


def collect_bag(interface: Interface, path: Path, seconds: float | None = None) -> Collected:
    """Read what the node would be sent, for some seconds of the bag or all of it.

    The receive time of a message stands for the node's clock, as in `pi0 replay`.

    Raises:
        BagError: the recording cannot be read, or is damaged.
    """
    bag = open_bag(path)
    collector = Collector(interface, live=False)
    collected = collector.collected
    collected.start, collected.end = bag.start, end_of(bag, seconds)
    collected.types = types_in(bag)
    needed = {
        interface.absolute(topic.name): topic.type
        for topic in node_topics(interface.parameters)
        if not topic.sent
    }
    for message, content in decoded(bag, needed, collected.end, collector.malformed):
        collector.puts[message.topic](content, message.time, message.time)
    return collected


def end_of(bag: Bag, seconds: float | None) -> int:
    """Nanoseconds until which a recording is read; None: to its end."""
    return bag.end if seconds is None else min(bag.end, bag.start + round(seconds * 1e9))


def types_in(bag: Bag) -> dict[str, tuple[str, ...]]:
    """Topic -> message types, of those that hold messages."""
    types: dict[str, tuple[str, ...]] = {}
    for topic in bag.topics:
        if topic.count:
            types[topic.name] = (*types.get(topic.name, ()), topic.type)
    return types


def decoded(
    bag: Bag, types: Mapping[str, str], end: int, malformed: Callable[[str, str], None]
) -> Iterator[tuple[Message, Any]]:
    """The messages of some topics until `end` (ns), and what they hold; `malformed` gets the topic
    and a sentence where a message cannot be decoded.
    """
    for message in bag.messages(types):
        if message.time > end:
            return
        try:
            content = decode(message.data, types[message.topic])
        except ValueError as error:
            malformed(message.topic, str(error))
            continue
        yield message, content
