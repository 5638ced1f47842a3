"""What the topics bring during the demo, as it came over DDS: into a bag, and to the record."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CompressedImage, JointState
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from pi0_ros.bags.writer import BagWriter
from pi0_ros.demo.record import NODE, Record
from pi0_ros.msg import ActionChunk

# Deep enough for a burst while the recorder waits for the interpreter.
_ALL = QoSProfile(depth=1000)
_KEPT = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
_PICTURES = QoSProfile(depth=10)


@dataclass(frozen=True)
class Recorded:
    """A topic of the bag: its type, how it is heard, and which of the record's methods it is for.

    Attributes:
        put: name of a method of Record; "" where the bag alone gets the messages.
    """

    kind: type
    qos: QoSProfile
    put: str = ""


TOPICS = {
    "/front/image_raw/compressed": Recorded(CompressedImage, _PICTURES, "on_picture"),
    "/wrist/image_raw/compressed": Recorded(CompressedImage, _PICTURES),
    "/joint_states": Recorded(JointState, _ALL, "on_state"),
    "/instruction": Recorded(String, _KEPT),
    f"/{NODE}/action_chunk": Recorded(ActionChunk, _ALL, "on_chunk"),
    f"/{NODE}/joint_trajectory": Recorded(JointTrajectory, _ALL, "on_trajectory"),
    "/diagnostics": Recorded(DiagnosticArray, _ALL, "on_diagnostics"),
    "/robot_description": Recorded(String, _KEPT),
    "/sim/touched": Recorded(String, _ALL),
    "/sim/score": Recorded(String, _KEPT, "on_score"),
}


def type_name(kind: type) -> str:
    """A message class as a bag names it: `sensor_msgs/msg/JointState`."""
    return f"{kind.__module__.partition('.')[0]}/msg/{kind.__name__}"


class Tape:
    """Subscribes to TOPICS. The executor's thread only notes what arrives; `poll` does the rest.

    Args:
        node: somebody spins it.
        writer: made for these topics; `poll` belongs to one thread, because SQLite does.
        record: gets the messages, in order of their arrival.
    """

    def __init__(self, node: Node, writer: BagWriter, record: Record) -> None:
        self._writer, self._record = writer, record
        self._arrived: deque[tuple[str, bytes]] = deque()
        self._to_write: list[tuple[str, bytes]] = []

        def arrival(topic: str) -> Callable[[bytes], None]:
            return lambda data: self._arrived.append((topic, data))

        self._subscriptions: list[Any] = [
            node.create_subscription(what.kind, topic, arrival(topic), what.qos, raw=True)
            for topic, what in TOPICS.items()
        ]

    def poll(self) -> None:
        """Hand on and write what has arrived; a bag's times are the robot's, and never go back.

        Raises:
            ValueError: a message does not hold what it should.
        """
        while self._arrived:
            topic, data = self._arrived.popleft()
            what = TOPICS[topic]
            if what.put:
                getattr(self._record, what.put)(deserialize_message(data, what.kind))
            self._to_write.append((topic, data))
            if self._record.now:  # what came before the first joint state has no time until then
                for entry in self._to_write:
                    self._writer.write(entry[0], self._record.now, entry[1])
                self._to_write.clear()
