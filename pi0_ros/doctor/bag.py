"""Collecting the doctor's samples from a rosbag2 recording; needs no ROS."""

from __future__ import annotations

from pathlib import Path

from pi0_ros.bags.bag import open_bag
from pi0_ros.bags.messages import message_types
from pi0_ros.doctor.samples import Collected, Collector
from pi0_ros.node.interface import Interface, node_topics


def collect_bag(interface: Interface, path: Path, seconds: float | None = None) -> Collected:
    """Read what the node would be sent, in the bag's own time.

    The receive time of a message stands for the node's clock, as in `pi0 replay`.

    Args:
        seconds: how much of the recording to read; None: all.

    Raises:
        BagError: the recording cannot be read, or is damaged.
    """
    bag = open_bag(path)
    collector = Collector(interface, live=False)
    collected = collector.collected
    collected.start = bag.start
    collected.end = bag.end if seconds is None else min(bag.end, bag.start + round(seconds * 1e9))
    for topic in bag.topics:
        if topic.count:
            there = collected.types.get(topic.name, ())
            collected.types[topic.name] = (*there, topic.type)
    needed = {
        interface.absolute(topic.name): topic.type
        for topic in node_topics(interface.parameters)
        if not topic.sent
    }
    types = message_types()
    for message in bag.messages(needed):
        if message.time > collected.end:
            break
        kind = needed[message.topic]
        try:
            content = types.deserialize_cdr(message.data, kind)
        except Exception as error:  # of many kinds, depending on where the bytes end
            text = f"{len(message.data)} bytes that are no {kind}: {error}"
            collector.malformed(message.topic, text)
            continue
        collector.puts[message.topic](content, message.time, message.time)
    return collected
