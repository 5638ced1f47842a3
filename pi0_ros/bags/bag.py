"""rosbag2 recordings: what one holds, and its messages in time order."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rosbags.interfaces import Connection
from rosbags.rosbag2 import Reader

from pi0_ros.console import table
from pi0_ros.errors import UserError
from pi0_ros.plain_yaml import read_yaml_file

_LEAST_HEADER = 4 + 8 + 4
"""Bytes of encapsulation header, stamp and length of the frame id: the shortest std_msgs/Header."""

IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
STATES_TYPE = "sensor_msgs/msg/JointState"
STAMPED_TYPES = (*IMAGE_TYPES, STATES_TYPE)
"""Message types that begin with std_msgs/Header, whose stamp `header_stamp` can read."""


class BagError(UserError, ValueError):
    """A recording that cannot be read, or that does not hold what the node needs."""


@dataclass(frozen=True)
class BagTopic:
    """One topic of a recording: its name, message type and number of messages."""

    name: str
    type: str
    count: int


@dataclass(frozen=True)
class Message:
    """One recorded message: topic in the recording, receive time in ns, serialised (CDR) bytes."""

    topic: str
    time: int
    data: bytes


@dataclass(frozen=True)
class Recording:
    """What a robot recorded, whoever wrote it: a rosbag2 directory, or an episode of a data set.

    Attributes:
        path: where it lies.
        storage: "mcap" or "sqlite3": how a replay of it is stored.
        start, end: receive times of the first and last message, ns.
        topics: every topic, sorted by name.
    """

    path: Path
    storage: str
    start: int
    end: int
    topics: tuple[BagTopic, ...]

    def messages(self, types: Mapping[str, str]) -> Iterator[Message]:
        """The messages in the order of their receive times.

        Args:
            types: topic in the recording -> message type; other topics are not read.

        Raises:
            BagError: the recording breaks off or is damaged.
        """
        raise NotImplementedError


class Bag(Recording):
    """A rosbag2 recording: a directory, or one of its files (.mcap, .db3)."""

    def messages(self, types: Mapping[str, str]) -> Iterator[Message]:
        with _opened(self.path) as reader:
            wanted = [c for c in reader.connections if types.get(c.topic) == c.msgtype]
            if not wanted:  # of no connections rosbags reads all
                return
            _check_metadata(self.path, reader, wanted)
            time = None
            try:
                for connection, time, data in reader.messages(wanted):
                    yield Message(connection.topic, time, bytes(data))
            except Exception as error:  # the storage formats raise errors of many kinds
                at = "at its first message" if time is None else f"after {time} ns"
                raise BagError(f"{self.path}: the recording is damaged {at}: {error}") from error


@contextmanager
def _opened(path: Path) -> Iterator[Reader]:
    if not path.exists():
        raise BagError(f"{path}: no such recording")
    try:
        if (path / "metadata.yaml").is_file():
            read_yaml_file(path / "metadata.yaml")  # rosbags' own reader has no bounds
        reader = Reader(path)
        reader.open()
        _forget_offers(reader)
    except FileNotFoundError:
        if (path / "meta" / "info.json").is_file():
            raise BagError(
                f"{path} is a LeRobot data set, which `pi0 eval`, `pi0 replay --deterministic` and"
                " `pi0 diff` read; here a rosbag2 recording is needed"
            ) from None
        raise BagError(
            f"{path}: not a rosbag2 recording (no metadata.yaml in it). Give the directory that "
            "`ros2 bag record` made; `ros2 bag reindex` writes a missing metadata.yaml."
        ) from None
    except Exception as error:  # the storage formats raise errors of many kinds on broken files
        remedy = "if it was cut off, `mcap recover` or `ros2 bag reindex` saves what is left"
        if path.suffix == ".bag":
            remedy = "ROS 1 bags are converted by `rosbags-convert --src FILE --dst DIR`"
        elif "qos" in str(error).lower() or "metadata" in str(error).lower():
            remedy = "if metadata.yaml was edited, `ros2 bag reindex` writes it anew"
        raise BagError(
            f"{path}: cannot be opened as a rosbag2 recording: {error} ({remedy})"
        ) from error
    try:
        yield reader
    finally:
        reader.close()


def _forget_offers(reader: Reader) -> None:
    """Lets topics be found by name and type alone.

    rosbags reads a topic whose quality of service or type hash in metadata.yaml is not that of the
    data files, as people edit it for `ros2 bag play`, as a topic without messages.
    """
    for storage in (reader.storage, *getattr(reader.storage, "storages", ())):
        storage.connections[:] = [
            c._replace(ext=c.ext._replace(offered_qos_profiles=[]), digest="")
            for c in storage.connections
        ]


def _check_metadata(path: Path, reader: Reader, wanted: Iterable[Connection]) -> None:
    """Raises a BagError where metadata.yaml promises messages of a topic that no file has."""
    storages = getattr(reader.storage, "storages", None)
    if storages is None:  # a file without metadata.yaml
        return
    there = {(c.topic, c.msgtype) for storage in storages for c in storage.connections}
    for c in wanted:
        if c.msgcount and (c.topic, c.msgtype) not in there:
            names = ", ".join(sorted({topic for topic, _ in there}))
            raise BagError(
                f"{path}: metadata.yaml says that {c.topic} ({c.msgtype}) has {c.msgcount}"
                f" messages, but the data files hold no such topic; they hold {names or 'none'}."
                " It was edited: `ros2 bag reindex` writes it anew; to play a topic under another"
                " name use --remap FROM:=TO"
            )


def open_bag(path: str | Path) -> Bag:
    """Reads what a recording holds, without its messages.

    Raises:
        BagError: there is no recording at `path`, it cannot be read, or it is empty.
    """
    path = Path(path)
    with _opened(path) as reader:
        counts: dict[tuple[str, str], int] = {}
        for connection in reader.connections:
            key = (connection.topic, connection.msgtype)
            counts[key] = counts.get(key, 0) + connection.msgcount
        start, end = reader.start_time, reader.end_time - 1
    topics = tuple(BagTopic(name, kind, count) for (name, kind), count in sorted(counts.items()))
    if not sum(topic.count for topic in topics):
        raise BagError(f"{path}: the recording holds no messages")
    names = [path.name] if path.is_file() else [file.name for file in path.iterdir()]
    storage = "mcap" if any(".mcap" in name for name in names) else "sqlite3"
    return Bag(path, storage, start, end, topics)


def describe_topics(topics: Iterable[BagTopic]) -> str:
    """One line per topic: name, type and number of messages."""
    return table((f"  {topic.name}", f"{topic.type}, {topic.count} messages") for topic in topics)


def header_stamp(message: Message) -> int:
    """The header stamp in ns of a message that begins with std_msgs/Header.

    XCDR1 puts a 4-byte encapsulation header first, whose second byte is 1 for little endian; then
    builtin_interfaces/Time: int32 sec, uint32 nanosec.

    Raises:
        BagError: the message is too short for a header.
    """
    data = message.data
    if len(data) < _LEAST_HEADER:
        raise BagError(
            f"a message of {len(data)} bytes on {message.topic} cannot hold a header: "
            "the recording is damaged"
        )
    seconds, nanoseconds = struct.unpack_from("<iI" if data[1] & 1 else ">iI", data, 4)
    return seconds * 1_000_000_000 + nanoseconds
