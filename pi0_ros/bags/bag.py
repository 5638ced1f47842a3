"""rosbag2 recordings: what one holds, whether it fits the node, its messages in time order."""

import struct
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_typestore

from pi0_ros.errors import UserError
from pi0_ros.node.interface import Topic

# Encapsulation header, stamp and length of the frame id: no std_msgs/Header takes less, in bytes.
_LEAST_HEADER = 4 + 8 + 4
# Message types that begin with std_msgs/Header, whose stamp `header_stamp` can read.
STAMPED_TYPES = frozenset(
    {
        "sensor_msgs/msg/Image",
        "sensor_msgs/msg/CompressedImage",
        "sensor_msgs/msg/JointState",
    }
)


class BagError(UserError, ValueError):
    """A recording that cannot be read, or that does not hold what the node needs."""


@dataclass(frozen=True)
class BagTopic:
    """One topic of a recording: its name, message type and number of messages."""

    name: str
    type: str
    count: int


@dataclass(frozen=True)
class Bag:
    """What a recording says about itself.

    Attributes:
        path: rosbag2 directory, or one of its files (.mcap, .db3).
        storage: "mcap" or "sqlite3".
        start, end: receive times of the first and last message, ns.
        topics: every topic, sorted by name.
    """

    path: Path
    storage: str
    start: int
    end: int
    topics: tuple[BagTopic, ...]


@dataclass(frozen=True)
class Message:
    """One recorded message: topic in the recording, receive time in ns, serialised (CDR) bytes."""

    topic: str
    time: int
    data: bytes


@contextmanager
def _opened(path: Path) -> Iterator[Reader]:
    if not path.exists():
        raise BagError(f"{path}: no such recording")
    try:
        reader = Reader(path)
        reader.open()
    except FileNotFoundError:
        raise BagError(
            f"{path}: not a rosbag2 recording (no metadata.yaml in it). Give the directory that "
            "`ros2 bag record` made; `ros2 bag reindex` writes a missing metadata.yaml."
        ) from None
    except Exception as error:  # the storage formats raise errors of many kinds on broken files
        remedy = "if it was cut off, `mcap recover` or `ros2 bag reindex` saves what is left"
        if path.suffix == ".bag":
            remedy = "ROS 1 bags are converted by `rosbags-convert --src FILE --dst DIR`"
        raise BagError(
            f"{path}: cannot be opened as a rosbag2 recording: {error} ({remedy})"
        ) from error
    try:
        yield reader
    finally:
        reader.close()


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
    rows = [(topic.name, topic.type, topic.count) for topic in topics]
    width = max((len(name) for name, _, _ in rows), default=0)
    return "\n".join(f"  {name:<{width}}  {kind}, {count} messages" for name, kind, count in rows)


def parse_remaps(texts: Sequence[str]) -> dict[str, str]:
    """Reads "FROM:=TO" rules: topic in the recording -> topic to play it on.

    Raises:
        ValueError: a rule without ":=", or with a name that is not absolute.
    """
    rules = {}
    for text in texts:
        source, separator, target = text.partition(":=")
        if not separator or not source.startswith("/") or not target.startswith("/"):
            raise ValueError(
                f"--remap {text}: expected FROM:=TO with two absolute topic names, such as "
                "/camera/color/image_raw:=/front/image_raw"
            )
        rules[source] = target
    return rules


def match_topics(
    bag: Bag, needed: Sequence[Topic], remaps: Mapping[str, str] | None = None
) -> dict[str, Topic]:
    """Finds the recorded topic for each topic the node needs.

    Args:
        remaps: topic in the recording -> topic to play it on.

    Returns:
        Topic in the recording -> what the node needs it for.

    Raises:
        BagError: a required topic is not there, holds no messages or has another type; or a remap
            names a topic that the recording lacks. The message lists what is there.
    """
    remaps = dict(remaps or {})
    present = {topic.name for topic in bag.topics}
    problems = [
        f"--remap {source}:={target}: {source} is not in the recording"
        for source, target in remaps.items()
        if source not in present
    ]
    played_as: dict[str, list[BagTopic]] = {}
    for topic in bag.topics:
        played_as.setdefault(remaps.get(topic.name, topic.name), []).append(topic)

    matches: dict[str, Topic] = {}
    for need in needed:
        candidates = played_as.get(need.name, [])
        right = [topic for topic in candidates if topic.type == need.type]
        filled = [topic for topic in right if topic.count]
        if len(filled) > 1:
            names = " and ".join(topic.name for topic in filled)
            problems.append(f"{need.name}: {names} would both be played on it")
        elif filled:
            matches[filled[0].name] = need
        elif right:
            if need.required:
                problems.append(f"{need.name} ({need.purpose}) is there but holds no messages")
        elif candidates:
            types = " and ".join(topic.type for topic in candidates)
            problems.append(
                f"{need.name} ({need.purpose}) holds {types}; the node subscribes to {need.type}"
            )
        elif need.required:
            problems.append(f"{need.name} ({need.purpose}, {need.type}) is missing")
    if problems:
        raise BagError(
            f"{bag.path} does not fit the node:\n"
            + "\n".join(f"  {problem}" for problem in problems)
            + f"\nThe recording holds:\n{describe_topics(bag.topics)}\n"
            "Choose the node's topics with --params (`cameras`, `camera.<name>.topic`, "
            "`joint_states_topic`, `image_transport`, `instruction`),\n"
            "or play a topic under another name with --remap FROM:=TO."
        )
    return matches


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


def read_messages(bag: Bag, types: Mapping[str, str]) -> Iterator[Message]:
    """Yields the recording's messages in the order of their receive times.

    Args:
        types: topic in the recording -> message type; other topics are not read.

    Raises:
        BagError: the recording breaks off or is damaged.
    """
    with _opened(bag.path) as reader:
        wanted = [c for c in reader.connections if types.get(c.topic) == c.msgtype]
        messages = reader.messages(wanted)
        previous = None
        while True:
            try:
                connection, time, data = next(messages)
            except StopIteration:
                return
            except Exception as error:  # as above: of many kinds
                at = "at its first message" if previous is None else f"after {previous} ns"
                raise BagError(f"{bag.path}: the recording is damaged {at}: {error}") from error
            previous = time
            yield Message(connection.topic, time, bytes(data))


class ReadAhead:
    """Iterates over messages that a thread reads in advance, so that slow storage delays nobody.

    At most `max_bytes` of message data wait. Leaving the `with` block ends the thread.
    """

    def __init__(self, messages: Iterable[Message], max_bytes: int = 64 << 20) -> None:
        self._messages = messages
        self._max_bytes = max_bytes
        self._waiting: deque[Message] = deque()
        self._bytes = 0
        self._done = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, name="bag reader", daemon=True)

    def __enter__(self) -> "ReadAhead":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        with self._changed:
            self._done = True
            self._changed.notify_all()
        self._thread.join()

    def __iter__(self) -> Iterator[Message]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._done)
                if not self._waiting:
                    if self._error is not None:
                        raise self._error
                    return
                message = self._waiting.popleft()
                self._bytes -= len(message.data)
                self._changed.notify_all()
            yield message

    def _read(self) -> None:
        error: BaseException | None = None
        try:
            for message in self._messages:
                with self._changed:
                    self._changed.wait_for(lambda: self._bytes < self._max_bytes or self._done)
                    if self._done:
                        break
                    self._waiting.append(message)
                    self._bytes += len(message.data)
                    self._changed.notify_all()
        except BaseException as caught:  # raised again in the thread that iterates
            error = caught
        with self._changed:
            self._error = error
            self._done = True
            self._changed.notify_all()


def joint_positions(bag: Bag, topic: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Joint name -> (header stamps in ns [k], positions in rad [k]) of a joint-states topic.

    Raises:
        BagError: the recording or a message in it is damaged.
    """
    types = get_typestore(Stores.ROS2_HUMBLE)
    kind = "sensor_msgs/msg/JointState"
    series: dict[str, tuple[list[int], list[float]]] = {}
    for message in read_messages(bag, {topic: kind}):
        stamp = header_stamp(message)
        try:
            state: Any = types.deserialize_cdr(message.data, kind)
        except Exception as error:  # of many kinds, depending on where the bytes end
            raise BagError(
                f"a message of {len(message.data)} bytes on {topic} is no {kind}: the recording "
                f"is damaged ({error})"
            ) from error
        for name, position in zip(state.name, state.position, strict=False):
            times, positions = series.setdefault(name, ([], []))
            times.append(stamp)
            positions.append(float(position))
    return {
        name: (np.array(times, np.int64), np.array(positions))
        for name, (times, positions) in series.items()
    }
