"""The results of a replay, read back: chunks and trajectories of a bag, whoever recorded it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from pi0_ros.bags.bag import Bag, BagError, describe_topics, open_bag
from pi0_ros.bags.chunks import ChunkRecord, RecordedTrajectory, chunk_record, read_trajectory
from pi0_ros.bags.messages import CHUNK_TYPE, TRAJECTORY_TYPE, decode_or_blame

FIGURES = "figures.json"
"""Beside the bag of a deterministic replay."""

UNKNOWN_UNIT = "rad or m"

SAME_STAMP = 2000
"""Nanoseconds: image stamps come from ages in float64 seconds."""


@dataclass(frozen=True)
class TimedChunk:
    """A chunk and when it was published, ns."""

    time: int
    chunk: ChunkRecord

    @property
    def camera_stamps(self) -> tuple[int, ...]:
        """Nanoseconds of the images, in the order of `chunk.camera_names`.

        Ages are float64 seconds, so these are right to a microsecond.
        """
        return tuple(self._published - round(age * 1e9) for age in self.chunk.camera_ages)

    @property
    def state_stamp(self) -> int:
        """Nanoseconds that the joint state holds for, as exact."""
        return self._published - round(self.chunk.joint_states_age * 1e9)

    @property
    def _published(self) -> int:
        """When the ages were taken: the chunk's stamp is its oldest part's."""
        oldest = max((self.chunk.joint_states_age, *self.chunk.camera_ages))
        return self.chunk.stamp + round(oldest * 1e9)


def same_images(one: Sequence[int], other: Sequence[int]) -> bool:
    """Whether two observations were made of the same images, by the stamps of the cameras."""
    close = (abs(a - b) <= SAME_STAMP for a, b in zip(one, other, strict=False))
    return len(one) == len(other) and all(close)


@dataclass(frozen=True)
class Results:
    """What a bag holds of a replay; all in order of publication.

    Attributes:
        chunks: those that the node did not reject.
        rejected: those that it did.
        units: joint -> "rad" or "m", where the replay left them beside the bag.
    """

    path: Path
    chunks: tuple[TimedChunk, ...]
    trajectories: tuple[RecordedTrajectory, ...]
    rejected: tuple[TimedChunk, ...] = ()
    units: Mapping[str, str] = field(default_factory=dict)

    @property
    def joint_names(self) -> tuple[str, ...]:
        return (*self.chunks, *self.rejected)[0].chunk.joint_names


def read_results(path: str | Path) -> Results:
    """Reads ~/action_chunk and ~/joint_trajectory of a recording, or what controllers got instead.

    Args:
        path: OUT of a replay, its bag, or any recording in which the node's chunks are.

    Raises:
        BagError: it cannot be read, holds no chunks, or chunks of several nodes or of changing
            joints.
    """
    path = Path(path)
    bag = open_bag(path / "bag" if (path / "bag").is_dir() else path)
    chunk_topic = _only(bag, CHUNK_TYPE)
    prefix = chunk_topic.rpartition("/")[0]
    types = {chunk_topic: CHUNK_TYPE}
    beside = {topic.name for topic in bag.topics if topic.type == TRAJECTORY_TYPE}
    own = f"{prefix}/joint_trajectory"
    # Under other names the topics are those of controllers, one or several.
    types |= dict.fromkeys([own] if own in beside else beside, TRAJECTORY_TYPE)
    found: list[TimedChunk] = []
    trajectories = []
    for message in bag.messages(types):
        kind = types[message.topic]
        content = decode_or_blame(bag, message, kind)
        try:
            if kind == CHUNK_TYPE:
                found.append(TimedChunk(message.time, chunk_record(content)))
            else:
                trajectories.append(read_trajectory(content, message.time))
        except ValueError as error:
            raise BagError(f"{bag.path}: a message on {message.topic}: {error}") from error
    names = {timed.chunk.joint_names for timed in found}
    if len(names) > 1:
        raise BagError(f"{bag.path}: its chunks have changing joints: {sorted(names)}")
    chunks = tuple(timed for timed in found if not timed.chunk.rejected)
    rejected = tuple(timed for timed in found if timed.chunk.rejected)
    joints = {name for timed in found for name in timed.chunk.joint_names}
    ours = [t for t in trajectories if joints.issuperset(t.joint_names)]  # not another robot's
    return Results(bag.path, chunks, tuple(_joined(ours)), rejected, _units(bag.path.parent))


def _units(folder: Path) -> dict[str, str]:
    """Joint -> unit of the figures of a replay; messages do not tell them."""
    try:
        figures = json.loads((folder / FIGURES).read_text())
        return {name: unit for name, unit in figures["units"].items() if unit in ("rad", "m")}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}  # a bag of a robot, or of a replay over DDS


def _joined(parts: Sequence[RecordedTrajectory]) -> list[RecordedTrajectory]:
    """Messages of several controllers that were sent as one trajectory, with all their joints."""
    found: list[RecordedTrajectory] = []
    places: dict[tuple[int, bytes], int] = {}
    for part in parts:
        key = part.start, part.times.tobytes()
        place = places.get(key)
        if place is None or not set(found[place].joint_names).isdisjoint(part.joint_names):
            places[key] = len(found)
            found.append(part)
        else:
            whole = found[place]
            found[place] = replace(
                whole,
                joint_names=(*whole.joint_names, *part.joint_names),
                positions=np.hstack([whole.positions, part.positions]),
            )
    return found


def _only(bag: Bag, kind: str) -> str:
    topics: Sequence[str] = [t.name for t in bag.topics if t.type == kind and t.count]
    if len(topics) == 1:
        return topics[0]
    what = f"holds {kind} on {' and '.join(topics)}" if topics else f"holds no {kind}"
    raise BagError(
        f"{bag.path} {what}; expected the chunks of one node, as `pi0 replay` leaves them in OUT."
        f" The recording holds:\n{describe_topics(bag.topics)}"
    )
