"""A timeline of what a replay left, with the recording that was replayed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pi0_ros.bags.bag import Bag, BagError, describe_topics, open_bag
from pi0_ros.bags.images import TO_RGB
from pi0_ros.bags.messages import STATES_TYPE, decode_or_blame
from pi0_ros.bags.results import Results, TimedChunk
from pi0_ros.collision.kinematics import Arm
from pi0_ros.console import progress
from pi0_ros.node.images import ImageError
from pi0_ros.view.timeline import Timeline


@dataclass(frozen=True)
class Seen:
    """Everything, and the nanoseconds of its first and last thing."""

    timeline: Timeline
    start: int
    end: int


def recording_of(results: Results, recording: Path | None) -> Bag | None:
    """The recording that goes with results.

    Args:
        recording: where it is; None: the chunks' own bag, which may hold everything.

    Returns:
        None where there is none: then there are no images, and no measured joints.

    Raises:
        BagError: it cannot be read, or is of another time or another robot.
    """
    bag = open_bag(results.path if recording is None else recording)
    kinds = {topic.type for topic in bag.topics}
    if not kinds & {STATES_TYPE, *TO_RGB}:
        if recording is None:
            return None
        raise BagError(
            f"{bag.path} holds neither images nor joint states; expected the recording that was"
            f" replayed. It holds:\n{describe_topics(bag.topics)}"
        )
    chunks = _all(results)
    first, last = chunks[0].time, chunks[-1].time
    if last < bag.start or first > bag.end:
        raise BagError(
            f"{bag.path} was recorded {abs(first - bag.start) / 1e9:.0f} s"
            f" {'before' if first > bag.start else 'after'} the chunks of {results.path}: it is not"
            " the recording that was replayed"
        )
    return bag


def build_timeline(
    results: Results, arm: Arm, bag: Bag | None, cameras: Sequence[str] = ()
) -> Seen:
    """Read everything.

    Args:
        bag: of `recording_of`.
        cameras: topics of the images to show; empty: all that there are.

    Raises:
        BagError: the recording breaks off or is damaged, has no such cameras, or is of another
            robot.
    """
    timeline = Timeline(arm)
    chunks = _all(results)
    for timed in progress(chunks, desc="Tool paths", leave=False):
        timeline.add_chunk(timed.time, timed.chunk)
    last = chunks[-1].chunk
    start, end = chunks[0].time, chunks[-1].time + round(len(last.positions) * last.dt * 1e9)
    if bag is None:
        return Seen(timeline, start, end)
    shown = _cameras(bag, cameras)
    topics = [t for t in bag.topics if t.count and (t.type == STATES_TYPE or t.name in shown)]
    types = {topic.name: topic.type for topic in topics}
    count = sum(topic.count for topic in topics)
    named: set[str] = set()
    messages = bag.messages(types)
    for message in progress(messages, desc="Recording", total=count, leave=False):
        kind = types[message.topic]
        if kind == STATES_TYPE:
            content = decode_or_blame(bag, message, kind)
            named |= set(content.name)
            pairs = zip(content.name, np.asarray(content.position).tolist(), strict=False)
            timeline.add_joints(message.time, dict(pairs))
        elif timeline.wants_image(message.topic, message.time):
            content = decode_or_blame(bag, message, kind)
            try:
                timeline.add_image(message.topic, message.time, TO_RGB[kind](content))
            except ImageError as error:
                raise BagError(f"{bag.path}: a message on {message.topic}: {error}") from error
    if named and not named.issuperset(results.joint_names):
        raise BagError(
            f"{bag.path} is of another robot, or not the recording that was replayed: its joint"
            f" states name {', '.join(sorted(named))}; the chunks of {results.path} move"
            f" {', '.join(results.joint_names)}"
        )
    return Seen(timeline, min(start, bag.start), max(end, bag.end))


def _all(results: Results) -> list[TimedChunk]:
    """Rejected chunks among the others."""
    return sorted((*results.chunks, *results.rejected), key=lambda timed: timed.time)


def _cameras(bag: Bag, wanted: Sequence[str]) -> list[str]:
    there = [topic.name for topic in bag.topics if topic.type in TO_RGB and topic.count]
    missing = [name for name in wanted if name not in there]
    if missing:
        raise BagError(
            f"{bag.path} has no images on {', '.join(missing)}; there are some on"
            f" {', '.join(there) or 'no topic'}"
        )
    return list(wanted) or there
