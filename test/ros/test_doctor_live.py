"""pi0 doctor on a live graph, over DDS: a robot in a thread of its own."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS is not installed")

from support.doctor_cases import JOINTS, copy_checkpoint, state_at
from support.domains import free_domain
from support.waiting import first_good

from pi0_ros.cli import main
from pi0_ros.ros.environment import environment


class Robot:
    """Two cameras at 20 Hz, joint states at 50 Hz, a latched instruction, a controller."""

    def __init__(self, domain: int, clock: bool = False, reliable: bool = True) -> None:
        import rclpy
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
        from rosgraph_msgs.msg import Clock
        from sensor_msgs.msg import Image, JointState
        from std_msgs.msg import Bool, String
        from trajectory_msgs.msg import JointTrajectory

        self._context = rclpy.Context()
        rclpy.init(args=[], context=self._context, domain_id=domain)
        node = self._node = rclpy.create_node("robot", context=self._context)
        latched = QoSProfile(
            depth=1,
            reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.TRANSIENT_LOCAL,
        )
        cameras = [node.create_publisher(Image, f"{c}/image_raw", 10) for c in ("front", "wrist")]
        joints = node.create_publisher(JointState, "joint_states", 10)
        node.create_publisher(String, "instruction", latched).publish(String(data="touch the cube"))
        node.create_publisher(Bool, "emergency_stop", latched).publish(Bool(data=False))
        node.create_subscription(JointTrajectory, "/pi0/joint_trajectory", lambda message: None, 10)
        clocks = node.create_publisher(Clock, "/clock", 10) if clock else None
        rng = np.random.default_rng(0)
        self._ticks = 0

        def stamp() -> Any:
            # Years ago on /clock, as in a bag.
            time = node.get_clock().now().to_msg()
            time.sec -= 10**8 if clock else 0
            return time

        def tick() -> None:
            self._ticks += 1
            now = stamp()
            if clocks:
                clocks.publish(Clock(clock=now))
            state = JointState(name=list(JOINTS), position=list(state_at(self._ticks)))
            state.header.stamp = now
            joints.publish(state)
            if self._ticks % 2:
                return
            for camera in cameras:
                pixels = rng.integers(0, 256, 48 * 64 * 3, np.uint8).tobytes()
                image = Image(height=48, width=64, encoding="rgb8", step=192, data=pixels)
                image.header.stamp = now
                camera.publish(image)

        node.create_timer(0.025, tick)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()

    def close(self) -> None:
        import rclpy

        self._executor.shutdown()
        self._thread.join(10)
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)


@pytest.fixture
def domain() -> Iterator[int]:
    number = free_domain()
    variables = {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", "ROS_DOMAIN_ID": str(number)}
    with environment(variables):
        assert os.environ["ROS_DOMAIN_ID"] == str(number)
        yield number


@pytest.fixture(scope="module")
def checkpoint(demo_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_checkpoint(demo_checkpoint, tmp_path_factory.mktemp("doctor") / "checkpoint")


def examine(
    tmp_path: Path, checkpoint: Path, *more: str, seconds: float = 2.0
) -> tuple[int, list[tuple[str, str, str]]]:
    figures = tmp_path / "findings.json"
    arguments = ["-p", f"checkpoint:={checkpoint}", "-p", f"joints:=[{', '.join(JOINTS)}]", *more]
    status = main(
        ["doctor", "--seconds", str(seconds), "--json", str(figures), "--ros-args", *arguments],
    )
    document = json.loads(figures.read_text())
    assert document["source"] == "live graph"
    return status, [(f["level"], f["check"], f["text"]) for f in document["findings"]]


def examine_healthy(
    tmp_path: Path, checkpoint: Path, *more: str
) -> tuple[int, list[tuple[str, str, str]]]:
    """`examine`, again until it passes with the robot's own rates: the machine may be busy for two
    seconds, in which a late timer hurries afterwards."""
    attempts = [lambda: examine(tmp_path, checkpoint, *more)] * 10
    return first_good(attempts, lambda result: result[0] == 0 and in_time(result[1]))


def in_time(lines: list[tuple[str, str, str]]) -> bool:
    """Whether the rates are about those of the robot."""
    good = of(lines, "PASS")
    rates = {text.split(":")[0]: float(text.split()[2]) for check, text in good if check == "rate"}
    return 5 < rates.get("camera front", 0.0) < 30 and 10 < rates.get("joint states", 0.0) < 60


def of(lines: list[tuple[str, str, str]], level: str) -> list[tuple[str, str]]:
    return [(check, text) for found, check, text in lines if found == level]


def test_a_healthy_robot_passes(tmp_path: Path, checkpoint: Path, domain: int) -> None:
    robot = Robot(domain)
    try:
        status, lines = examine_healthy(tmp_path, checkpoint)
    finally:
        robot.close()
    assert status == 0, of(lines, "FAIL")
    good = of(lines, "PASS")
    assert ("topic", "/front/image_raw (camera front): sensor_msgs/msg/Image from /robot") in good
    assert ("controller", "/pi0/joint_trajectory: /robot subscribes") in good
    assert ("stop", "/emergency_stop is published") in good
    # It was published before the doctor came.
    assert ("instruction", "'touch the cube' on /instruction") in good
    assert ("clock", "wall time; no /clock") in good
    assert in_time(lines)


def test_a_robot_on_simulated_time(tmp_path: Path, checkpoint: Path, domain: int) -> None:
    robot = Robot(domain, clock=True)
    try:
        status, lines = examine_healthy(tmp_path, checkpoint, "-p", "use_sim_time:=true")
        wrong, wall = examine(tmp_path, checkpoint)
    finally:
        robot.close()
    assert status == 0, of(lines, "FAIL")
    clock = next(text for check, text in of(lines, "PASS") if check == "clock")
    assert float(clock.split()[3]) == pytest.approx(1.0, abs=0.4)
    assert wrong == 1
    failed = of(wall, "FAIL")
    clock = "/clock is published, but use_sim_time is false, and the stamps are of /clock"
    assert ("clock", clock) in failed
    assert any(check == "age" for check, _ in failed)


def test_nothing_there(tmp_path: Path, checkpoint: Path, domain: int) -> None:
    status, lines = examine(tmp_path, checkpoint, "-p", "use_sim_time:=true", seconds=0.5)
    assert status == 1
    failed = of(lines, "FAIL")
    assert [text.split(" ")[0] for check, text in failed if check == "topic"] == [
        "/front/image_raw",
        "/wrist/image_raw",
        "/joint_states",
    ]
    assert any(check == "clock" and "nobody publishes /clock" in text for check, text in failed)
    warned = [check for check, _ in of(lines, "WARN")]
    assert {"stop", "controller"} <= set(warned)


def test_what_cannot_be_heard_is_named(tmp_path: Path, checkpoint: Path, domain: int) -> None:
    robot = Robot(domain, reliable=False)
    try:
        more = [
            "-p",
            "image_transport:=compressed",
            "-r",
            "front/image_raw/compressed:=/front/image_raw",
        ]
        more += ["-p", "deadman_timeout:=0.5"]
        status, lines = examine(tmp_path, checkpoint, *more)
    finally:
        robot.close()
    assert status == 1
    failed = of(lines, "FAIL")
    assert any(
        check == "topic" and "has the type sensor_msgs/msg/Image, the node" in text
        for check, text in failed
    )
    assert any(check == "deadman" and "no heartbeat" in text for check, text in failed)
    assert any(check == "instruction" and "not received, though" in text for check, text in failed)
