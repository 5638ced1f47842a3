"""pi0_sim as a process, and a listener beside it that talks to it over DDS."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from pi0_ros.ros.services import ServiceCall
from pi0_ros.sim.stage import CAMERAS, JOINTS
from support.process import Process
from support.waiting import PATIENCE, SOON, NotWithin, wait_until

# As the node pi0 subscribes.
_BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
_LATCHED = QoSProfile(depth=5, durability=DurabilityPolicy.TRANSIENT_LOCAL)
TOPICS = {
    "front/image_raw": (Image, _BEST_EFFORT),
    "wrist/image_raw": (Image, _BEST_EFFORT),
    "front/image_raw/compressed": (CompressedImage, _BEST_EFFORT),
    "wrist/image_raw/compressed": (CompressedImage, _BEST_EFFORT),
    "joint_states": (JointState, 100),
    "/clock": (Clock, 100),
    "robot_description": (String, _LATCHED),
    "sim/touched": (String, 10),
    "sim/score": (String, _LATCHED),
}


def nanoseconds(stamp: Any) -> int:
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def trajectory(
    times: Sequence[float], positions: Any, names: Sequence[str] = JOINTS
) -> JointTrajectory:
    """Positions at seconds from now."""
    message = JointTrajectory(joint_names=list(names))
    for at, row in zip(times, np.asarray(positions, dtype=float).tolist(), strict=True):
        point = JointTrajectoryPoint(positions=row)
        point.time_from_start.sec, rest = divmod(round(at * 1e9), 1_000_000_000)
        point.time_from_start.nanosec = rest
        message.points.append(point)
    return message


class Sim:
    """A running pi0_sim and all it publishes; its log is `log`."""

    def __init__(self, domain: int, log: Path, arguments: Sequence[str]) -> None:
        command = [sys.executable, "-m", "pi0_ros.sim.node", *arguments]
        self.began = time.monotonic()
        self.process = Process(command, log, domain=domain)
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=domain)
        self.node = rclpy.create_node("listener", context=self._context)
        self.heard: dict[str, list[tuple[int, Any]]] = {topic: [] for topic in TOPICS}
        for topic, (kind, qos) in TOPICS.items():
            self.node.create_subscription(kind, topic, self._hear(topic), qos)
        self.trajectories = self.node.create_publisher(JointTrajectory, "joint_trajectory", 10)
        self.instructions = self.node.create_publisher(String, "instruction", 10)
        self._next_scene = self.node.create_client(Trigger, "sim/next_scene")
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self.until(lambda: self.heard["sim/score"] and self.heard["joint_states"], "it runs")
        self.until(
            lambda: (
                self.trajectories.get_subscription_count()
                and self.instructions.get_subscription_count()
                and self._next_scene.service_is_ready()
            ),
            "it listens",
        )

    def _hear(self, topic: str) -> Callable[[Any], None]:
        return lambda message: self.heard[topic].append((time.time_ns(), message))

    def forget_streams(self) -> None:
        """Forget what was heard of topics that go on by themselves."""
        for topic in TOPICS:
            if TOPICS[topic][1] is not _LATCHED:
                self.heard[topic].clear()

    def until(self, condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> None:
        def spun() -> Any:
            if not self.process.lives():
                raise NotWithin(f"{what}: pi0_sim has ended; {self.log}")
            self._executor.spin_once(timeout_sec=0.05)
            for _ in range(10):  # hundreds of messages come in a second
                self._executor.spin_once(timeout_sec=0)
            return condition()

        wait_until(spun, lambda: f"{what}; {self.log}", patience)

    @property
    def log(self) -> str:
        return self.process.output

    @property
    def joints(self) -> np.ndarray:
        """[6] radians, the newest heard."""
        return np.array(self.heard["joint_states"][-1][1].position)

    @property
    def score(self) -> dict[str, Any]:
        return json.loads(self.heard["sim/score"][-1][1].data)

    def next_scene(self) -> str:
        before = self.score["scene"]
        asking = ServiceCall(
            self._next_scene, Trigger.Request(), again=lambda: self.score["scene"] == before
        )
        answers: list[Any] = []

        def answered() -> bool:
            answers.extend(filter(None, [asking.poll()]))
            return bool(answers)

        self.until(answered, "an answer of next_scene")
        return answers[0].message

    def end(self) -> int:
        """Exit status after SIGINT."""
        return self.process.end(signal.SIGINT, SOON)

    def close(self) -> None:
        self.process.kill()
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self._context)


def images(sim: Sim, suffix: str = "") -> list[list[Any]]:
    """What came of each camera."""
    return [
        [message for _, message in sim.heard[f"{camera}/image_raw{suffix}"]] for camera in CAMERAS
    ]
