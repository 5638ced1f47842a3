"""What `pi0 doctor --write` makes of a robot that it never saw: the node starts and commands it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS is not installed")

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String
from support import ROOT
from support.controller_node import ControllerNode
from support.domains import free_domain
from support.process import Process
from support.spinning import spin
from support.waiting import wait_until

from pi0_ros.cli import main
from pi0_ros.ros.environment import environment
from pi0_ros.sim.stage import HOME, JOINTS

CHECKPOINT = ROOT / "pi0_ros/sim/touch_checkpoint"
URDF = (ROOT / "pi0_ros/sim/so101.urdf").read_text()


@pytest.fixture
def controllers(tmp_path: Path) -> Iterator[list[ControllerNode]]:
    """An arm with a controller, a gripper with another, two cameras of other names, a URDF."""
    domain = free_domain()
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    node = rclpy.create_node("robot", context=context)
    cameras = [
        node.create_publisher(Image, topic, 10)
        for topic in ("/camera/front/image_raw", "/hand/wrist/image_raw")
    ]
    states = node.create_publisher(JointState, "/joint_states", 10)
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    node.create_publisher(String, "/robot_description", latched).publish(String(data=URDF))
    rng = np.random.default_rng(0)

    def publish() -> None:
        now = node.get_clock().now().to_msg()
        state = JointState(name=list(reversed(JOINTS)), position=[float(x) for x in HOME[::-1]])
        state.header.stamp = now
        states.publish(state)
        for camera in cameras:
            pixels = rng.integers(0, 256, 48 * 64 * 3, np.uint8).tobytes()
            image = Image(height=48, width=64, encoding="rgb8", step=192, data=pixels)
            image.header.stamp = now
            camera.publish(image)

    node.create_timer(0.05, publish)
    parts = [
        ControllerNode("arm_controller", JOINTS[:-1], "jazzy", context),
        ControllerNode("gripper_controller", JOINTS[-1:], "jazzy", context),
    ]
    executor = SingleThreadedExecutor(context=context)
    for one in (node, *parts):
        executor.add_node(one)
    thread = spin(executor)
    variables = {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", "ROS_DOMAIN_ID": str(domain)}
    with environment(variables):
        yield parts
    executor.shutdown()
    thread.join(10)
    for one in (node, *parts):
        one.destroy_node()
    rclpy.shutdown(context=context)


def test_the_written_file_starts_the_node_which_commands_the_arm(
    controllers: list[ControllerNode], tmp_path: Path
) -> None:
    file = tmp_path / "my_arm.yaml"
    words = ["--checkpoint", str(CHECKPOINT), "--write", str(file), "--overwrite"]

    def complete() -> bool:
        """A busy machine may not have heard everything in time."""
        assert main(["doctor", *words, "--seconds", "2"]) == 0
        text = file.read_text()
        return "outputs.gripper_controller.joints" in text and "urdf:" in text

    wait_until(complete, "the doctor to see the whole robot")
    text = file.read_text()
    assert 'camera.front.topic: "/camera/front/image_raw"' in text
    assert 'camera.wrist.topic: "/hand/wrist/image_raw"' in text
    assert f'urdf: "{file.with_suffix(".urdf")}"' in text
    assert file.with_suffix(".urdf").read_text() == URDF
    assert re.search(r'controller: "jtc"', text)

    node = [sys.executable, "-m", "pi0_ros.node", "--ros-args", "--params-file", str(file)]
    node += ["-p", "autostart:=true", "-p", "start_enabled:=true", "-p", "threads:=1"]
    node += ["-p", "instruction:='touch the red cube'", "-p", "max_jump:=7.0"]
    running = Process(node, tmp_path / "node")
    try:
        wait_until(
            lambda: all(one.received for one in controllers),
            lambda: f"a trajectory for each controller; {running.output[-3000:]}",
        )
    finally:
        running.kill()
    arm, gripper = (one.received[0] for one in controllers)
    assert list(arm.joint_names) == list(JOINTS[:-1])
    assert list(gripper.joint_names) == [JOINTS[-1]]
