"""The node pi0_viz in a thread, and a node that publishes chunks and receives what is drawn."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from support.arm_urdf import arm_urdf
from support.harness import DT, HORIZON, JOINTS
from support.spinning import spin
from support.waiting import PATIENCE, wait_until

# Away from zero, and different in every joint and step.
CHUNK = np.array([0.1, 0.2, 0.3]) + 0.01 * np.outer(np.arange(1, HORIZON + 1), [1, 2, 3])


def publish_description(node: Any, text: str | None = None, latched: bool = True) -> None:
    """As robot_state_publisher does: once, for those who come later too."""
    from rclpy.qos import DurabilityPolicy, QoSProfile
    from std_msgs.msg import String

    durability = DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE
    qos = QoSProfile(depth=1, durability=durability)
    data = arm_urdf() if text is None else text
    node.create_publisher(String, "robot_description", qos).publish(String(data=data))


class Viewer:
    """Owns the clock, which stands still but for `advance`.

    Attributes:
        node: the node pi0_viz.
        user: the node beside it.
        now: nanoseconds of the clock.
        markers, paths, ghosts: every message received, in order.
    """

    def __init__(
        self, domain: int, *topics: str, description: str = "topic", **parameters: Any
    ) -> None:
        """Start both, and subscribe to `topics`; all of pi0_viz's by default.

        Args:
            description: "topic": published, "": not.
            parameters: of pi0_viz.
        """
        import rclpy
        from nav_msgs.msg import Path
        from pi0_ros.msg import ActionChunk
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.parameter import Parameter
        from rosgraph_msgs.msg import Clock
        from sensor_msgs.msg import JointState
        from visualization_msgs.msg import MarkerArray

        from pi0_ros.viz.node import VizNode

        self.now = 1_000_000_000_000
        self._sequence = 0
        self._contexts = [rclpy.Context(), rclpy.Context()]
        for context in self._contexts:
            rclpy.init(context=context, domain_id=domain)
        self.user = rclpy.create_node("user", context=self._contexts[1])
        if description:
            publish_description(self.user)
        values = {"use_sim_time": True, **parameters}
        self.node = VizNode(
            context=self._contexts[0],
            parameter_overrides=[Parameter(name, value=value) for name, value in values.items()],
        )
        self.markers: list[Any] = []
        self.paths: list[Any] = []
        self.ghosts: list[Any] = []
        kinds = {
            "markers": (MarkerArray, self.markers),
            "path": (Path, self.paths),
            "preview/joint_states": (JointState, self.ghosts),
        }
        for topic in kinds if topics == () else filter(None, topics):
            kind, received = kinds[topic]
            self.user.create_subscription(kind, f"/pi0_viz/{topic}", received.append, 100)
        self._clock = self.user.create_publisher(Clock, "/clock", 10)
        self.chunks = self.user.create_publisher(ActionChunk, "pi0/action_chunk", 10)
        executors = [SingleThreadedExecutor(context=context) for context in self._contexts]
        for executor, node in zip(executors, (self.node, self.user), strict=True):
            executor.add_node(node)
        threads = [spin(e) for e in executors]
        self._running = list(zip(executors, threads, strict=True))
        wait_until(lambda: self.chunks.get_subscription_count() == 1, "discovery of the chunks")
        wanted = {f"/pi0_viz/{topic}" for topic in (topics or kinds) if topic}
        publishers = [p for p in self.node.publishers if p.topic_name in wanted]
        assert len(publishers) == len(wanted)
        wait_until(lambda: all(p.get_subscription_count() for p in publishers), "discovery")
        if description:
            wait_until(lambda: self.node._urdf_text, "the robot description at pi0_viz")
        self.advance(0.0)

    def close(self) -> None:
        import rclpy

        for executor, thread in self._running:
            executor.shutdown()
            thread.join(PATIENCE)
            assert not thread.is_alive()
        self.node.destroy_node()
        self.user.destroy_node()
        for context in self._contexts:
            rclpy.shutdown(context=context)

    def advance(self, seconds: float) -> None:
        """Move the clock, and wait until pi0_viz has it."""
        from rosgraph_msgs.msg import Clock

        self.now += round(seconds * 1e9)
        message = Clock()
        message.clock.sec, message.clock.nanosec = divmod(self.now, 10**9)

        def arrived() -> bool:
            self._clock.publish(message)
            time.sleep(0.01)
            return self.node.get_clock().now().nanoseconds == self.now

        wait_until(arrived, "the clock of pi0_viz")

    def message(self, positions: np.ndarray = CHUNK, age: float = 0.1, **fields: Any) -> Any:
        """A pi0_ros/ActionChunk, executed unless `verdict` says otherwise."""
        from pi0_ros.msg import ActionChunk

        message = ActionChunk(
            sequence=self._sequence,
            instruction="touch the red cube",
            dt=DT,
            horizon=len(positions),
            joint_names=list(JOINTS),
            positions=np.ravel(positions).tolist(),
            verdict=ActionChunk.EXECUTED,
        )
        for name, value in fields.items():
            setattr(message, name, value)
        stamp = self.now - round(age * 1e9)
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 10**9)
        self._sequence += 1
        return message

    def send(self, positions: np.ndarray = CHUNK, age: float = 0.1, **fields: Any) -> None:
        """Publish a chunk `age` seconds old."""
        self.chunks.publish(self.message(positions, age, **fields))

    def chunk(self, **fields: Any) -> None:
        """Publish a chunk, and wait until pi0_viz has drawn it."""
        sequence = self._sequence
        self.send(**fields)
        wait_until(
            lambda: self.node.chunk is not None and self.node.chunk.sequence == sequence,
            "the chunk at pi0_viz",
        )

    def namespaces(self) -> dict[str, Any]:
        """Namespace -> marker of the newest markers."""
        return {marker.ns: marker for marker in self.markers[-1].markers} if self.markers else {}

    def wait_for(self, *namespaces: str) -> dict[str, Any]:
        """The newest markers, once they hold these namespaces."""
        wait_until(lambda: set(namespaces) <= set(self.namespaces()), f"markers {namespaces}")
        return self.namespaces()
