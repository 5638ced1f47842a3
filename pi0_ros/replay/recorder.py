"""Records what the node publishes, as it came over DDS, into a rosbag2 recording."""

from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message
from rosbags.interfaces import Connection
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from trajectory_msgs.msg import JointTrajectory

from pi0_ros.msg import ActionChunk
from pi0_ros.replay.environment import find_shared_file
from pi0_ros.replay.report import ChunkRecord, Counters, counters_from_values

# Version 8 of the metadata is the newest one that every supported distribution reads: Humble
# expects QoS profiles as text, which version 9 replaced.
METADATA_VERSION = 8
STORAGE = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}
# Deep enough for a burst while the recorder waits for the interpreter.
OUTPUT_QOS = QoSProfile(depth=1000)


class BagWriter:
    """Writes serialised messages, with their definitions, into a new rosbag2 directory."""

    def __init__(self, path: Path, storage: str, topics: Mapping[str, str]) -> None:
        """Creates the recording.

        Args:
            path: directory to make; must not exist.
            storage: "mcap" or "sqlite3".
            topics: topic -> message type.
        """
        definition = find_shared_file("msg/ActionChunk.msg")
        if definition is None:
            raise FileNotFoundError("msg/ActionChunk.msg is not in the pi0_ros share directory")
        types = get_typestore(Stores.ROS2_HUMBLE)
        types.register(get_types_from_msg(definition.read_text(), "pi0_ros/msg/ActionChunk"))
        self._writer = Writer(path, version=METADATA_VERSION, storage_plugin=STORAGE[storage])
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


class Recorder:
    """Subscribes to the node's output; `poll` writes it and keeps the figures of a report.

    Attributes:
        writer: where messages go, under their topics; until it is set they are only counted.
        chunks: every ~/action_chunk, in order.
        trajectories: number of ~/joint_trajectory.
        counters: the node's counters in every /diagnostics message, in order.
    """

    def __init__(
        self,
        node: Node,
        node_name: str,
        topics: Mapping[str, str],
        now: Callable[[], int],
    ) -> None:
        """Subscribes.

        Args:
            node: the player's node.
            node_name: fully qualified name of the node that is recorded.
            topics: key of `interface.OUTPUTS` -> topic.
            now: the recording's time in ns.
        """
        self.writer: BagWriter | None = None
        self.chunks: list[ChunkRecord] = []
        self.trajectories = 0
        self.counters: list[Counters] = []
        self._topics = topics
        plain = node_name.rpartition("/")[2]
        names = (plain, node_name, node_name.lstrip("/"))
        self._status_names = {f"{name}: observations" for name in names}
        self._kinds: dict[str, tuple[type, Callable[[Any], None]]] = {
            "joint_trajectory": (JointTrajectory, self._on_trajectory),
            "action_chunk": (ActionChunk, self._on_chunk),
            "diagnostics": (DiagnosticArray, self._on_diagnostics),
        }
        # From the executor's thread to the one that polls: SQLite wants a single thread.
        self._arrived: deque[tuple[str, int, bytes]] = deque()

        def arrival(key: str) -> Callable[[bytes], None]:
            return lambda data: self._arrived.append((key, now(), data))

        self._subscriptions = [
            node.create_subscription(kind, topics[key], arrival(key), OUTPUT_QOS, raw=True)
            for key, (kind, _) in self._kinds.items()
        ]

    def poll(self) -> None:
        """Writes and reads what has arrived; always call it from the writer's thread.

        Raises:
            ValueError: the node's counters cannot be read.
        """
        while self._arrived:
            key, time, data = self._arrived.popleft()
            kind, read = self._kinds[key]
            if self.writer is not None:
                self.writer.write(self._topics[key], time, data)
            read(deserialize_message(data, kind))

    def _on_trajectory(self, _: JointTrajectory) -> None:
        self.trajectories += 1

    def _on_chunk(self, message: ActionChunk) -> None:
        positions = np.array(message.positions, np.float32)
        self.chunks.append(
            ChunkRecord(
                stamp=message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec,
                sequence=message.sequence,
                instruction=message.instruction,
                joint_names=tuple(message.joint_names),
                positions=positions.reshape(message.horizon, len(message.joint_names)),
                dt=message.dt,
                camera_ages=tuple(message.camera_ages),
                inference_time=sum(message.stage_times),
            )
        )

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        stamp = message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec
        for status in message.status:
            if status.name in self._status_names:
                values = {pair.key: pair.value for pair in status.values}
                self.counters.append(counters_from_values(stamp, values))
