"""Bags as a LeRobot data set, through the node's own alignment of observations.

A frame is what the node would have observed at that time, in the checkpoint's units: what is
trained is what is served. Its action is where the joints are one period after the observation, as
step 0 of a chunk is due then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pi0_ros.bags.bag import BagError
from pi0_ros.eval.truth import read_truth
from pi0_ros.motion.refusal import Reason, Refusal
from pi0_ros.node.images import ImageError, decompress, to_rgb
from pi0_ros.node.observation import ObservationBuffer, Snapshot
from pi0_ros.node.preflight_checkpoint import joint_units
from pi0_ros.replay.case import Case
from pi0_ros.replay.feed import Feed

if TYPE_CHECKING:
    from pi0_ros.datasets.writer import DataSetWriter


@dataclass
class Converted:
    """What became of a recording.

    Attributes:
        episodes: (task, frames) of those that were written.
        short: episodes that were too short.
        refused: reason -> frames without a complete, fresh observation.
    """

    bag: str
    episodes: list[tuple[str, int]] = field(default_factory=list)
    short: int = 0
    refused: Counter[str] = field(default_factory=Counter)


def write_episodes(
    case: Case, writer: DataSetWriter, target: str = "", least: int = 1
) -> Converted:
    """Append a recording to a data set: an episode for each run of frames with one instruction.

    Args:
        target: topic of commands, which are the actions then; "": the joint states are.
        least: frames that an episode must have.

    Raises:
        BagError: the recording is damaged, or lacks the topic or joints.
    """
    found = Converted(str(case.bag.path))
    joints, units = case.parameters.joint_names, joint_units(case.parameters)
    truth = read_truth(case.bag, case.joint_states, target, joints)
    convert = to_rgb if case.parameters.image_transport == "raw" else decompress
    period = round(1e9 / writer.fps)
    task, length = None, 0

    def close() -> None:
        nonlocal task, length
        if task is not None and length >= least:
            writer.end()
            found.episodes.append((task, length))
        elif task is not None:
            writer.discard()
            found.short += 1
        task, length = None, 0

    for snapshot in _frames(case, period, found):
        if snapshot is None:
            close()
            continue
        action = truth.at(np.array([snapshot.stamp + period]))[0]
        if not np.isfinite(action).all():  # the recording does not tell what came after it
            found.refused["no action"] += 1
            close()
            continue
        try:
            images = {name: convert(message) for name, message in snapshot.images.items()}
        except ImageError:
            found.refused[str(Reason.MALFORMED)] += 1
            close()
            continue
        if snapshot.instruction != task:
            close()
            task = snapshot.instruction
            writer.begin(task)
        writer.add(images, units.from_radians(snapshot.state), units.from_radians(action))
        length += 1
    close()
    return found


def _frames(case: Case, period: int, found: Converted) -> Iterator[Snapshot | None]:
    """What the node would observe every `period` ns; None where it would refuse."""
    now = case.bag.start
    buffer = ObservationBuffer(case.parameters, lambda: now)
    feed = Feed(case.interface, case.topics, buffer)
    tick = None

    def observe() -> Snapshot | None:
        try:
            return buffer.snapshot(now)
        except Refusal as refusal:
            found.refused[str(refusal.reason)] += 1
            return None

    for message in case.bag.messages(case.types):
        tick = message.time if tick is None else tick
        while tick < message.time:
            now = tick
            yield observe()
            tick += period
        now = message.time
        feed.put(message)
    if tick is not None:
        yield observe()


def check_pace(action_dt: float, fps: int | None) -> int:
    """Frames per second of the data set: those given, or one over `action_dt`.

    Raises:
        BagError: LeRobot's data sets have a whole number of them.
    """
    if fps is not None:
        return fps
    pace = 1 / action_dt
    if abs(round(pace) - pace) > 0.02 * pace or round(pace) < 1:
        raise BagError(
            f"action_dt {action_dt:g} s is {pace:.2f} frames per second; LeRobot's data sets have"
            " a whole number: give --fps N"
        )
    return round(pace)


def are_bags(sources: Sequence[Path]) -> bool:
    """Whether the sources of `pi0 convert` are recordings, not a checkpoint."""
    return any(
        source.suffix in (".mcap", ".db3", ".bag") or (source / "metadata.yaml").is_file()
        for source in sources
    )
