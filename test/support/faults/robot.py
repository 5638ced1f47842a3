"""A robot as a process of its own: two cameras, an arm, and whatever goes wrong.

Commands come as lines of JSON on standard input, each answered by a line `ok`:

    {"front": "frozen"}            a fault of a stream, by its name in corruptions.py; "" ends it
    {"restart": true}              all publishers go and come back
    {"rival": true}                another node says that every joint is at 0; "" ends it
    {"clock": 0.0}                 publish /clock, so many seconds off; null: the system's clock
    {"clock_stops": true}          publish /clock no more

What the arm's controller commands is on the topic `arm`, which no fault touches; the joint states
lag behind it.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import sys
import threading
import time
from typing import Any

import rclpy
from builtin_interfaces.msg import Time
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Header, String
from trajectory_msgs.msg import JointTrajectory

from support.faults.arm import Arm
from support.faults.corruptions import CAMERA, DEADMAN, INSTRUCTION, JOINT_STATES, image

JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
HOME = (0.7, -0.8, 0.9, 0.75, -0.65, 0.8)
"""Radians; far from 0, so that zeros out of nowhere are seen as what they are."""
ARM_HZ = 100
WIDTH, HEIGHT = 160, 120
TASK = "touch the red cube"

_KEPT = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
_NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
_FRONT_HZ, _WRIST_HZ = 19.6, 20.4
"""So that within 2.5 s images of both come at every moment between two ticks (10 Hz), and the
latency of some seconds does not depend on how they happened to fall together."""
STREAMS: dict[str, tuple[str, type, QoSProfile | int, float, dict[str, Any]]] = {
    "front": ("front/image_raw", Image, _NEWEST, _FRONT_HZ, CAMERA),
    "wrist": ("wrist/image_raw", Image, _NEWEST, _WRIST_HZ, CAMERA),
    "joint_states": ("joint_states", JointState, 10, 100.0, JOINT_STATES),
    "instruction": ("instruction", String, _KEPT, 2.0, INSTRUCTION),
    "deadman": ("deadman", Header, _NEWEST, 20.0, DEADMAN),
}
"""Stream -> topic, type, quality of service, messages per second, its faults."""
_HURRY = {"changing": 50.0, "4K": 5.0}
"""Messages per second where a fault asks for another rate."""


def advertise(node: Node) -> dict[str, Any]:
    """Stream -> a publisher."""
    return {
        name: node.create_publisher(kind, topic, qos)
        for name, (topic, kind, qos, _, _) in STREAMS.items()
    }


def stamp_of(nanoseconds: int) -> Time:
    """The message for a time."""
    sec, nanosec = divmod(nanoseconds, 10**9)
    return Time(sec=sec, nanosec=nanosec)


def message_of(stream: str, now: int, count: int, state: JointState) -> Any:
    """A good message of a stream; `state` is what is said of the joints."""
    if stream == "instruction":
        return String(data=TASK)
    if stream == "deadman":
        return Header(stamp=stamp_of(now))
    if stream == "joint_states":
        return state
    message = image(Image(), WIDTH, HEIGHT, "rgb8", 3, count)
    message.header.stamp = stamp_of(now)
    return message


class Robot:
    """All of it, in one thread."""

    def __init__(self, positions: tuple[float, ...]) -> None:
        self._node = rclpy.create_node("robot")
        self._arm = Arm(JOINTS, positions)
        self._faults = dict.fromkeys(STREAMS, "")
        self._counts = dict.fromkeys(STREAMS, 0)
        self._due = dict.fromkeys(STREAMS, 0.0)
        self._offset: float | None = None
        self._clock_stands_at: int | None = None
        self._publishers = advertise(self._node)
        self._rival_node = rclpy.create_node("joint_state_publisher")
        self._rival: Any = None
        self._truth = self._node.create_publisher(JointState, "arm", 50)
        self._clock = self._node.create_publisher(Clock, "/clock", 10)
        self._node.create_subscription(
            JointTrajectory, "pi0/joint_trajectory", self._execute, QoSProfile(depth=10)
        )
        self.commands: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)

    def spin(self) -> None:
        """Until ROS is shut down."""
        begun, done = time.monotonic(), 0
        while rclpy.ok():
            self._executor.spin_once(timeout_sec=0.001)
            now = time.monotonic()
            if int((now - begun) * ARM_HZ) > done:
                done = int((now - begun) * ARM_HZ)
                self._step(now)

    def _now(self) -> int:
        if self._clock_stands_at is not None:
            return self._clock_stands_at
        return time.time_ns() + round((self._offset or 0.0) * 1e9)

    def _execute(self, message: JointTrajectory) -> None:
        self._arm.execute(message, self._now())

    def _step(self, now: float) -> None:
        while not self.commands.empty():
            self._obey(self.commands.get())
        if self._offset is not None and self._clock_stands_at is None:
            self._clock.publish(Clock(clock=stamp_of(self._now())))
        state = self._state()
        state.position, state.velocity = self._arm.command.tolist(), []
        self._truth.publish(state)
        if self._rival is not None:
            zeros = JointState(name=list(JOINTS), position=[0.0] * len(JOINTS))
            zeros.header.stamp = stamp_of(self._now())
            self._rival.publish(zeros)
        for name, (*_, rate, _) in STREAMS.items():
            if now >= self._due[name]:
                rate = _HURRY.get(self._faults[name], rate)
                self._due[name] = max(self._due[name] + 1 / rate, now)
                self._publish(name)

    def _publish(self, name: str) -> None:
        self._counts[name] += 1
        message = message_of(name, self._now(), self._counts[name], self._state())
        fault = self._faults[name]
        if fault:
            message = STREAMS[name][4][fault](message, self._counts[name])
        if message is not None:
            self._publishers[name].publish(message)

    def _state(self) -> JointState:
        now = self._now()
        position, velocity = self._arm.state(now)
        message = JointState(name=list(JOINTS))
        message.position, message.velocity = position.tolist(), velocity.tolist()
        message.header.stamp = stamp_of(now)
        return message

    def _obey(self, command: dict[str, Any]) -> None:
        for key, value in command.items():
            if key in self._faults:
                self._faults[key] = value
                self._due[key] = 0.0
            elif key == "restart":
                for publisher in self._publishers.values():
                    self._node.destroy_publisher(publisher)
                self._publishers = advertise(self._node)
            elif key == "rival" and value:
                self._rival = self._rival_node.create_publisher(JointState, "joint_states", 10)
            elif key == "rival":
                self._rival_node.destroy_publisher(self._rival)
                self._rival = None
            elif key == "clock":
                self._arm.freeze(self._now())
                self._offset, self._clock_stands_at = value, None
            elif key == "clock_stops":
                self._clock_stands_at = self._now()
            else:
                raise ValueError(f"no such command: {key}")
        print("ok", flush=True)


def main() -> None:
    rclpy.init()
    positions = tuple(json.loads(sys.argv[1])) if len(sys.argv) > 1 else HOME
    robot = Robot(positions)

    def listen() -> None:
        for line in sys.stdin:
            robot.commands.put(json.loads(line))
        os._exit(0)  # whoever gave the commands is gone

    threading.Thread(target=listen, daemon=True).start()
    print("ready", flush=True)
    with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
        robot.spin()


if __name__ == "__main__":
    main()
