"""Writes messages into a rosbag2 recording; needs no ROS."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rosbags.interfaces import Connection
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from pi0_ros.bags.messages import encode, message_types

# Version 8 of the metadata is the newest one that every supported distribution reads: Humble
# expects QoS profiles as text, which version 9 replaced.
METADATA_VERSION = 8
STORAGE = {
    "mcap": (StoragePlugin.MCAP, CompressionMode.STORAGE),
    "sqlite3": (StoragePlugin.SQLITE3, CompressionMode.MESSAGE),
}
"""Storage -> its plugin, and how it compresses: MCAP in its chunks, which every reader undoes by
itself; sqlite3 per message, which metadata.yaml declares."""


class BagWriter:
    """Writes messages, with their definitions, into a new rosbag2 directory.

    Attributes:
        counts: topic -> messages written.
    """

    def __init__(
        self,
        path: Path,
        storage: str = "mcap",
        topics: Mapping[str, str] | None = None,
        compressed: bool = False,
    ) -> None:
        """Creates the recording.

        Args:
            path: directory to make; must not exist.
            storage: "mcap" or "sqlite3".
            topics: topic -> message type, of those that are there without a message too.
            compressed: by zstd.
        """
        plugin, mode = STORAGE[storage]
        self._writer = Writer(path, version=METADATA_VERSION, storage_plugin=plugin)
        if compressed:
            self._writer.set_compression(mode, CompressionFormat.ZSTD)
        self._writer.open()
        self.counts: Counter[str] = Counter()
        self._connections: dict[str, Connection] = {}
        for topic, kind in (topics or {}).items():
            self._add(topic, kind)

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self._writer.close()

    def write(self, topic: str, time: int, data: bytes) -> None:
        """Appends the bytes of a message; `time` in ns, never before the previous one's."""
        self._writer.write(self._connections[topic], time, data)
        self.counts[topic] += 1

    def write_message(self, topic: str, time: int, message: Any) -> None:
        """Appends a message made by `messages.make`; its topic need not be known before."""
        if topic not in self._connections:
            self._add(topic, message.__msgtype__)
        self.write(topic, time, encode(message))

    def _add(self, topic: str, kind: str) -> None:
        self._connections[topic] = self._writer.add_connection(
            topic, kind, typestore=message_types()
        )
