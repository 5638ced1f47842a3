"""Writes messages into a rosbag2 recording; needs no ROS."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import TracebackType

from rosbags.interfaces import Connection
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from pi0_ros.share import find_shared_file

# Version 8 of the metadata is the newest one that every supported distribution reads: Humble
# expects QoS profiles as text, which version 9 replaced.
METADATA_VERSION = 8
STORAGE = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}
COMPRESSION = {"mcap": CompressionMode.STORAGE, "sqlite3": CompressionMode.MESSAGE}
CHUNK_TYPE = "pi0_ros/msg/ActionChunk"


@cache
def message_types() -> Typestore:
    """The message types of a recording, pi0_ros/msg/ActionChunk among them.

    Raises:
        FileNotFoundError: the package's share directory lacks the message's definition.
    """
    definition = find_shared_file("msg/ActionChunk.msg")
    if definition is None:
        raise FileNotFoundError("msg/ActionChunk.msg is not in the pi0_ros share directory")
    types = get_typestore(Stores.ROS2_HUMBLE)
    types.register(get_types_from_msg(definition.read_text(), CHUNK_TYPE))
    return types


class BagWriter:
    """Writes serialised messages, with their definitions, into a new rosbag2 directory."""

    def __init__(
        self, path: Path, storage: str, topics: Mapping[str, str], compressed: bool = False
    ) -> None:
        """Creates the recording.

        Args:
            path: directory to make; must not exist.
            storage: "mcap" or "sqlite3".
            topics: topic -> message type.
            compressed: by zstd; in the chunks of MCAP, which every reader undoes by itself, or
                message by message, declared in metadata.yaml.
        """
        types = message_types()
        self._writer = Writer(path, version=METADATA_VERSION, storage_plugin=STORAGE[storage])
        if compressed:
            self._writer.set_compression(COMPRESSION[storage], CompressionFormat.ZSTD)
        self._writer.open()
        self._connections: dict[str, Connection] = {
            topic: self._writer.add_connection(topic, kind, typestore=types)
            for topic, kind in topics.items()
        }

    def __enter__(self) -> "BagWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.close()

    def write(self, topic: str, time: int, data: bytes) -> None:
        """Appends one message; `time` in ns, never before the previous one's."""
        self._writer.write(self._connections[topic], time, data)
