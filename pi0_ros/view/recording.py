"""A timeline of what a replay left, with the recording that was replayed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from pi0_ros.bags.bag import Bag, BagError, describe_topics, open_bag, read_messages
from pi0_ros.bags.messages import decode
from pi0_ros.bags.results import Results, TimedChunk
from pi0_ros.node.images import ImageError, decompress, to_rgb
from pi0_ros.view.timeline import Timeline
from pi0_ros.viz.kinematics import Arm

STATES = "sensor_msgs/msg/JointState"
PICTURES = {"sensor_msgs/msg/Image": to_rgb, "sensor_msgs/msg/CompressedImage": decompress}
_TOGETHER = 50_000_000  # nanoseconds between a chunk and the trajectory that came of it


@dataclass(frozen=True)
class Seen:
    """Attributes:
    timeline: everything.
    start, end: nanoseconds of its first and last thing.
    cameras: topics whose pictures are in it.
    """

    timeline: Timeline
    start: int
    end: int
    cameras: tuple[str, ...]


def recording_of(results: Results, recording: Path | None) -> Bag | None:
    """The recording that goes with results.

    Args:
        recording: where it is; None: the chunks' own bag, where somebody recorded all in one.

    Returns:
        None where there is none: then there are no pictures, and no measured joints.

    Raises:
        BagError: it cannot be read, or is of another time or another robot.
    """
    bag = open_bag(results.path if recording is None else recording)
    kinds = {topic.type for topic in bag.topics}
    if not kinds & {STATES, *PICTURES}:
        if recording is None:
            return None
        raise BagError(
            f"{bag.path} holds neither pictures nor joint states; expected the recording that was"
            f" replayed. It holds:\n{describe_topics(bag.topics)}"
        )
    first, last = results.chunks[0].time, results.chunks[-1].time
    if last < bag.start or first > bag.end:
        raise BagError(
            f"{bag.path} was recorded {abs(first - bag.start) / 1e9:.0f} s"
            f" {'before' if first > bag.start else 'after'} the chunks of {results.path}: it is not"
            " the recording that was replayed"
        )
    return bag


def build_timeline(
    results: Results, arm: Arm, bag: Bag | None, cameras: Sequence[str] = (), progress: bool = True
) -> Seen:
    """Read everything.

    Args:
        bag: of `recording_of`.
        cameras: topics of the pictures to show; empty: all that there are.
        progress: show it on stderr.

    Raises:
        BagError: the recording breaks off or is damaged, has no such cameras, or is of another
            robot.
    """
    timeline = Timeline(arm)
    # A trajectory is published just before its chunk, and dry runs publish none.
    out = np.array([trajectory.time for trajectory in results.trajectories], np.int64)
    for timed in tqdm(results.chunks, "Tool paths", disable=not progress, leave=False):
        timeline.add_chunk(timed.time, timed.chunk, _was_sent(timed, out))
    start, end = results.chunks[0].time, results.chunks[-1].time + _duration(results.chunks[-1])
    if bag is None:
        return Seen(timeline, start, end, ())
    topics = {topic.name: topic.type for topic in bag.topics if topic.count}
    shown = _cameras(bag, cameras)
    types = {name: kind for name, kind in topics.items() if kind == STATES or name in shown}
    count = sum(topic.count for topic in bag.topics if topic.name in types)
    joints = set(results.joint_names)
    named: set[str] = set()
    messages = read_messages(bag, types)
    for message in tqdm(messages, "Recording", total=count, disable=not progress, leave=False):
        kind = types[message.topic]
        if kind != STATES:
            if timeline.wants_picture(message.topic, message.time):
                rgb = _decoded(bag, message, kind, PICTURES[kind])
                timeline.add_picture(message.topic, message.time, rgb)
            continue
        state = _decoded(bag, message, kind, lambda state: state)
        named |= set(state.name)
        pairs = zip(state.name, np.asarray(state.position).tolist(), strict=False)
        timeline.add_joints(message.time, dict(pairs))
    if named and not joints <= named:
        raise BagError(
            f"{bag.path} is of another robot, or not the recording that was replayed: its joint"
            f" states name {', '.join(sorted(named))}; the chunks of {results.path} move"
            f" {', '.join(results.joint_names)}"
        )
    return Seen(timeline, min(start, bag.start), max(end, bag.end), tuple(shown))


def _was_sent(timed: TimedChunk, out: np.ndarray) -> bool:
    return bool(len(out)) and int(np.abs(out - timed.time).min()) <= _TOGETHER


def _duration(timed: TimedChunk) -> int:
    return round(len(timed.chunk.positions) * timed.chunk.dt * 1e9)


def _cameras(bag: Bag, wanted: Sequence[str]) -> list[str]:
    there = [topic.name for topic in bag.topics if topic.type in PICTURES and topic.count]
    missing = [name for name in wanted if name not in there]
    if missing:
        raise BagError(
            f"{bag.path} has no pictures on {', '.join(missing)}; there are some on"
            f" {', '.join(there) or 'no topic'}"
        )
    return list(wanted) or there


def _decoded(bag: Bag, message: Any, kind: str, convert: Callable[[Any], Any]) -> Any:
    try:
        return convert(decode(message.data, kind))
    except (ImageError, ValueError) as error:
        raise BagError(f"{bag.path}: a message on {message.topic}: {error}") from error
