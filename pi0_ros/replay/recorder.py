"""Records what the node publishes, as it came over DDS, into a rosbag2 recording."""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message
from trajectory_msgs.msg import JointTrajectory

from pi0_ros.bags.chunks import ChunkRecord, chunk_record
from pi0_ros.bags.writer import BagWriter
from pi0_ros.msg import ActionChunk
from pi0_ros.ros.diagnostics import Counters, counters_from_values

# Deep enough for a burst while the recorder waits for the interpreter.
OUTPUT_QOS = QoSProfile(depth=1000)


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
        self.chunks.append(chunk_record(message))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        stamp = message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec
        for status in message.status:
            if status.name in self._status_names:
                values = {pair.key: pair.value for pair in status.values}
                self.counters.append(counters_from_values(stamp, values))
