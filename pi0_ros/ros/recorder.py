"""Records topics as they come over DDS."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message

DEPTH = 1000
"""Messages that a subscription holds: enough for a burst while the recorder waits for the GIL."""

Write = Callable[[str, int, bytes], object]
"""Takes topic, time in ns and CDR bytes, as `pi0_ros.bags.writer.BagWriter.write` does."""


@dataclass(frozen=True)
class Recorded:
    """How a topic is recorded.

    Attributes:
        kind: message class.
        on_message: gets every message, too; None: the recording alone has it.
        qos: of the subscription.
    """

    kind: type
    on_message: Callable[[Any], object] | None = None
    qos: QoSProfile = field(default_factory=lambda: QoSProfile(depth=DEPTH))

    @property
    def type(self) -> str:
        """The message type as a recording names it: "sensor_msgs/msg/JointState"."""
        return f"{self.kind.__module__.partition('.')[0]}/msg/{self.kind.__name__}"


class Recorder:
    """Subscribes. The executor's thread only notes what arrives; `poll` does the rest.

    Attributes:
        write: gets the messages; while it is None they are not kept.
    """

    def __init__(self, node: Node, topics: Mapping[str, Recorded], now: Callable[[], int]) -> None:
        """Subscribes.

        Args:
            node: another thread spins it.
            topics: name -> how it is recorded.
            now: time of the recording in ns, which never goes back; 0 while it is not known: then
                messages are kept until it is.
        """
        self.write: Write | None = None
        self._topics, self._now = topics, now
        # From the executor's thread to the one that polls: SQLite wants a single thread.
        self._arrived: deque[tuple[str, int, bytes]] = deque()
        self._to_write: list[tuple[str, int, bytes]] = []
        self._last = 0  # ns of the message written last

        def arrival(topic: str) -> Callable[[bytes], None]:
            return lambda data: self._arrived.append((topic, now(), data))

        self._subscriptions = [
            node.create_subscription(how.kind, topic, arrival(topic), how.qos, raw=True)
            for topic, how in topics.items()
        ]

    def poll(self) -> None:
        """Hands on and writes what has arrived; always call it from the writer's thread.

        Raises:
            ValueError: what `on_message` of a topic raises.
        """
        while self._arrived:
            topic, time, data = self._arrived.popleft()
            how = self._topics[topic]
            if self.write is not None:
                self._to_write.append((topic, time, data))
            if how.on_message is not None:
                how.on_message(deserialize_message(data, how.kind))
            if self.write is not None and (now := self._now()):
                for name, arrived, content in self._to_write:
                    self._last = max(self._last, arrived or now)
                    self.write(name, self._last, content)
                self._to_write.clear()
