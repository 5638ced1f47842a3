"""An episode of a LeRobot data set as a recording: features as topics, frames as messages.

Everything of a frame has one stamp. The state is in radians (`joint.<name>.scale`, `.offset`) under
the joints' ROS names. An action is stamped one period after its frame, as step i of a chunk is due
(i + 1) periods after its observation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from types import SimpleNamespace
from typing import Any

import numpy as np

from pi0_ros import console
from pi0_ros.bags.bag import IMAGE_TYPES, STATES_TYPE, BagError, BagTopic, Message, Recording
from pi0_ros.bags.messages import encode, make, make_header, make_image
from pi0_ros.datasets.layout import DataSet, Episode, Feature, read_table
from pi0_ros.datasets.video import read_frames
from pi0_ros.node.images import ImageError, decompress
from pi0_ros.node.interface import Interface, Topic
from pi0_ros.node.parameters import NodeParameters

STATES, ACTIONS = ("observation.state", "state"), ("action", "actions")
TASK = "task"
BEGIN = 1_000_000_000 * 10**9
"""Nanoseconds of the first frame; the data set counts from 0, which ROS reads as no stamp."""

_LAST = (2**31 - 2) * 10**9  # nanoseconds that a stamp of ROS can tell

PARAMETERS = {"image_transport": "raw", "frozen_frames": 0}
"""What the node is told for data sets: their images are decoded, and a video repeats an image of a
scene that stands still to the byte."""

_TEXT_TYPE = "std_msgs/msg/String"


@dataclass(frozen=True)
class EpisodeRecording(Recording):
    """See `open_episode`.

    Attributes:
        state, action: features; `action` is "" where there is none.
    """

    data: DataSet = field(repr=False)
    episode: Episode = field(repr=False)
    parameters: NodeParameters = field(repr=False)
    state: str
    action: str

    def messages(self, types: Mapping[str, str]) -> Iterator[Message]:
        wanted = {t.name for t in self.topics if types.get(t.name) == t.type}
        images = [name for name, feature in self.data.features.items() if feature.is_image]
        streams = {name: self._images(name) for name in images if name in wanted}
        shifts = {self.state: 0, self.action: round(1e9 / self.data.fps)}
        positions = {n: (self.radians(n), shift) for n, shift in shifts.items() if n in wanted}
        task = ""
        for k, stamp in enumerate(self.stamps.tolist()):
            if TASK in wanted and self.tasks[k] != task:
                task = self.tasks[k]
                yield Message(TASK, stamp, encode(make(_TEXT_TYPE, data=task)))
            for name, images in streams.items():
                yield Message(name, stamp, encode(make_image(stamp, next(images))))
            for name, (values, shift) in positions.items():
                yield Message(name, stamp, encode(self._joints(stamp + shift, values[k])))

    @cached_property
    def stamps(self) -> np.ndarray:
        """[frames] int64 ns."""
        return _stamps(self.data, self.episode)

    @cached_property
    def tasks(self) -> list[str]:
        if "task_index" not in self._table.column_names:
            raise BagError(f"{self.episode.data}: no column task_index")
        numbers = self._table["task_index"].to_pylist()
        unknown = [n for n in numbers if not isinstance(n, int) or n not in self.data.tasks]
        if unknown:
            raise BagError(f"{self.episode.data}: task_index {min(unknown, key=str)} has no words")
        return [self.data.tasks[number] for number in numbers]

    def radians(self, name: str) -> np.ndarray:
        """[frames, joints] float64 rad of the state or the action, in the parameters' order."""
        joints = self.parameters.joints
        columns = joint_columns(self.data.features[name], self.parameters.joint_names, name)
        scale = np.array([joint.scale for joint in joints])
        offset = np.array([joint.offset for joint in joints])
        numbers = _numbers(self.episode, self._table, name)
        if numbers.shape[1] <= max(columns):
            raise BagError(
                f"{self.episode.data}: {name} has {numbers.shape[1]} numbers a frame; info.json"
                f" declares {list(self.data.features[name].shape)}"
            )
        return np.ascontiguousarray(numbers[:, columns] * scale + offset)

    @cached_property
    def _table(self) -> Any:
        """The frames without their images."""
        features = self.data.features
        table = _read(self.episode, lambda n: n not in features or not features[n].is_image)
        times = _numbers(self.episode, table, "timestamp")[:, 0]
        pace = np.arange(len(times)) / self.data.fps
        if not np.abs(times - times[0] - pace).max() <= 0.5 / self.data.fps:
            raise BagError(
                f"{self.episode.data}: the timestamps of episode {self.episode.number} do not"
                f" follow the pace of {self.data.fps:g} frames per second that info.json declares"
            )
        return table

    def _joints(self, stamp: int, positions: np.ndarray) -> Any:
        none = np.zeros(0)
        names = list(self.parameters.joint_names)
        return make(STATES_TYPE, make_header(stamp), names, positions, none, none)

    def _images(self, name: str) -> Iterator[np.ndarray]:
        video = self.episode.videos.get(name)
        if video is None:
            return self._still_images(name)
        times = video.start + np.arange(self.episode.length) / self.data.fps
        return read_frames(video.file, times.tolist(), self.data.fps)

    def _still_images(self, name: str) -> Iterator[np.ndarray]:
        """Images that are files inside the table, PNG as a rule."""
        table = _read(self.episode, {name, "frame_index", "episode_index"}.__contains__)
        if name not in table.column_names:
            raise BagError(f"{self.episode.data}: no column {name}")
        for number, cell in enumerate(table[name]):
            content = cell.as_py()
            data = content.get("bytes") if isinstance(content, dict) else None
            try:
                file = data if isinstance(data, bytes) else b""
                yield decompress(SimpleNamespace(format="png", data=file))
            except ImageError as error:
                raise BagError(
                    f"{self.episode.data}: {name} of frame {number}: {error}; expected PNG or JPEG"
                    " files in the table, or a video"
                ) from error


def open_episode(data: DataSet, number: int, parameters: NodeParameters) -> EpisodeRecording:
    """An episode as a recording.

    Args:
        parameters: whose joints the state's numbers are: by name where the data set has those
            names (with or without LeRobot's ".pos"), otherwise in the data set's order.

    Raises:
        BagError: no such episode, no state, or a state of other joints.
    """
    episode = data.episodes[number]
    if BEGIN + (episode.first + episode.length) * 1e9 / data.fps > _LAST:
        raise BagError(f"{data.path}: episode {number} ends later than stamps can tell")
    state, action = (
        next((name for name in names if name in data.features), "") for names in (STATES, ACTIONS)
    )
    if not state:
        raise BagError(
            f"{data.path}: no {' or '.join(STATES)} among its features: {', '.join(data.features)}"
        )
    joint_columns(data.features[state], parameters.joint_names, state)
    types = {state: STATES_TYPE} | ({action: STATES_TYPE} if action else {})
    types |= {name: IMAGE_TYPES[0] for name, feature in data.features.items() if feature.is_image}
    topics = [BagTopic(name, kind, episode.length) for name, kind in types.items()]
    topics.append(BagTopic(TASK, _TEXT_TYPE, 1))
    topics.sort(key=lambda topic: topic.name)
    first, last = _stamps(data, episode)[[0, -1]].tolist()
    return EpisodeRecording(
        data.path, "mcap", first, last, tuple(topics), data, episode, parameters, state, action
    )


def _stamps(data: DataSet, episode: Episode) -> np.ndarray:
    frames = episode.first + np.arange(episode.length)
    return BEGIN + np.round(frames * (1e9 / data.fps)).astype(np.int64)


def joint_columns(feature: Feature, joints: Sequence[str], name: str) -> list[int]:
    """Where each joint's number stands in a state or an action.

    Raises:
        BagError: there are other joints, or another number of them.
    """
    there = [part.removesuffix(".pos") for part in feature.names]
    if set(joints) <= set(there):
        return [there.index(joint) for joint in joints]
    size = int(np.prod(feature.shape)) if feature.shape else 0
    if size == len(joints) and len(set(joints) & set(there)) in (0, len(joints)):
        if there:
            _warn_of_names(tuple(there), tuple(joints))
        return list(range(size))
    named = f": {', '.join(there)}" if there else ""
    raise BagError(
        f"{name} has {size} numbers{named}; the parameters have {len(joints)} joints:"
        f" {', '.join(joints)}. Expected the same names, or as many joints in the same order"
    )


@cache
def _warn_of_names(there: tuple[str, ...], joints: tuple[str, ...]) -> None:
    """Once for all episodes."""
    console.warn(
        f"the data set names its joints {', '.join(there)}; taken in this order for"
        f" {', '.join(joints)}"
    )


def playing(
    recording: EpisodeRecording, interface: Interface
) -> tuple[tuple[Topic, ...], dict[str, str]]:
    """What the node needs of an episode, and by which feature it gets it.

    Returns:
        The node's topics; feature -> topic: cameras by name, the state, the task.
    """
    observed, parameters = interface.observed, interface.parameters
    cameras = observed[: len(parameters.cameras)]
    states, instruction = observed[len(cameras)], observed[-1]
    played = {recording.state: states.name, TASK: instruction.name}
    images = [name for name, f in recording.data.features.items() if f.is_image]
    for camera, topic in zip(parameters.camera_names, cameras, strict=True):
        exact = [name for name in images if name in (camera, f"observation.images.{camera}")]
        found = exact or [name for name in images if re.split(r"[./]", name)[-1] == camera]
        if len(found) == 1:
            played[found[0]] = topic.name
    return (*cameras, states, instruction), played


def _numbers(episode: Episode, table: Any, name: str) -> np.ndarray:
    """[frames, n] float64."""
    if name not in table.column_names:
        raise BagError(f"{episode.data}: no column {name}")
    try:
        return np.array(table[name].to_pylist(), np.float64).reshape(episode.length, -1)
    except (ValueError, TypeError) as error:
        raise BagError(f"{episode.data}: {name} holds no numbers: {error}") from error


def _read(episode: Episode, wanted: Callable[[str], bool]) -> Any:
    """The frames of an episode in their order: a table of the columns of `wanted` names."""
    import pyarrow

    table = read_table(episode.data, wanted, [("episode_index", "=", episode.number)])
    if table.num_rows != episode.length or not episode.length:
        raise BagError(
            f"{episode.data}: {table.num_rows} frames of episode {episode.number}; the list of"
            f" episodes says {episode.length}"
        )
    if "frame_index" not in table.column_names:
        raise BagError(f"{episode.data}: no column frame_index")
    try:
        return table.sort_by("frame_index")
    except pyarrow.ArrowException as error:
        raise BagError(f"{episode.data}: frame_index holds no numbers: {error}") from error
