"""pi0_node as a process: signals, errors, --help, and the command line that launch makes."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.domains import free_domain
from support.process import Process
from support.waiting import SOON, wait_until

pytest.importorskip("rclpy")

ROOT = Path(__file__).parents[2]
DEMO = ["--ros-args", "--params-file", str(ROOT / "config/demo.yaml"), "-p", "checkpoint:=/fake"]
DEMO += ["-p", "autostart:=true"]
ENABLED = ["-p", "start_enabled:=true", "-p", f"joint_limits:={ROOT / 'config/so101_limits.yaml'}"]
SLOW = [sys.executable, str(Path(__file__).with_name("slow_node.py"))]
NODE = [sys.executable, "-m", "pi0_ros.node"]


@pytest.fixture
def robot() -> Iterator[Robot]:
    robot = Robot(free_domain())
    yield robot
    robot.close()


class Robot:
    """Publishes what config/demo.yaml asks for, stamped with the system's clock."""

    def __init__(self, domain: int) -> None:
        import rclpy
        from rclpy.executors import SingleThreadedExecutor
        from sensor_msgs.msg import Image, JointState
        from std_msgs.msg import String

        self.domain = domain
        self.heard: list[Any] = []
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=domain)
        self._node = rclpy.create_node("robot", context=self._context)
        self._publishers = {
            topic: self._node.create_publisher(kind, topic, 1)
            for topic, kind in (
                ("front/image_raw", Image),
                ("wrist/image_raw", Image),
                ("joint_states", JointState),
                ("instruction", String),
            )
        }
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)

    def listen(self, topic: str, kind: type | None = None) -> None:
        from trajectory_msgs.msg import JointTrajectory

        self._node.create_subscription(kind or JointTrajectory, topic, self.heard.append, 10)

    def step(self) -> None:
        """Publish everything once, listen for 50 ms."""
        from sensor_msgs.msg import Image, JointState
        from std_msgs.msg import String

        names = ["shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll"]
        names.append("gripper")
        pixels = np.zeros(640 * 480 * 3, np.uint8).tobytes()
        image = Image(height=480, width=640, step=1920, encoding="rgb8", data=pixels)
        state = JointState(name=names, position=[0.1] * 6)
        stamp = self._node.get_clock().now().to_msg()
        image.header.stamp = state.header.stamp = stamp
        for topic, publisher in self._publishers.items():
            kind = {"joint_states": state, "instruction": String(data="go")}
            publisher.publish(kind.get(topic, image))
        self._executor.spin_once(timeout_sec=0.05)

    def until(self, condition: Callable[[], bool], what: str) -> None:
        wait_until(lambda: self.step() or condition(), what)

    def close(self) -> None:
        import rclpy

        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)


LONG = "600"
"""Seconds of work that no test waits for: a signal has to end it."""


def assert_clean_end(process: Process, number: signal.Signals) -> None:
    assert process.end(number, SOON) == 0, process.tail
    assert "Traceback" not in process.output and "terminate called" not in process.output


@pytest.mark.parametrize("work", ["sleep", "torch"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_node_during_an_inference(start_process, robot, number, work):
    process = start_process([*SLOW, *DEMO], domain=robot.domain, INFER_SECONDS=LONG, WORK=work)
    process.wait_for("ready:")
    robot.until(lambda: "inferring" in process.output, "the inference")
    assert_clean_end(process, number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_node_while_it_loads(start_process, number):
    process = start_process([*SLOW, *DEMO], LOAD_SECONDS=LONG)
    process.wait_for("loading\n")
    assert_clean_end(process, number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_node_between_inferences(start_process, robot, number):
    process = start_process([*SLOW, *DEMO, *ENABLED], domain=robot.domain)
    process.wait_for("ready:")
    robot.listen("/pi0/joint_trajectory")
    robot.until(lambda: len(robot.heard) >= 3, "trajectories")
    assert_clean_end(process, number)


def test_the_command_line_that_launch_makes(start_process, robot, tmp_path):
    """launch_ros gives name, namespace, parameter files and remaps so; see launch/pi0.launch.py."""
    overrides = tmp_path / "launch_params"
    overrides.write_text("/**: {ros__parameters: {checkpoint: /fake, use_sim_time: false}}")
    arguments = ["--ros-args", "-r", "__node:=pi0", "-r", "__ns:=/left"]
    arguments += ["--params-file", str(ROOT / "config/demo.yaml"), "--params-file", str(overrides)]
    for name in ("front/image_raw", "wrist/image_raw", "joint_states", "instruction"):
        arguments += ["-r", f"{name}:=/{name}"]
    arguments += ["-r", "~/joint_trajectory:=/arm_controller/joint_trajectory"]
    profile = str(ROOT / "config/fastdds.xml")
    environment = {
        "FASTRTPS_DEFAULT_PROFILES_FILE": profile,
        "FASTDDS_DEFAULT_PROFILES_FILE": profile,
        "MALLOC_MMAP_THRESHOLD_": "16777216",
        "MALLOC_TRIM_THRESHOLD_": "268435456",
    }
    arguments += ["-p", "autostart:=true", *ENABLED]
    process = start_process([*SLOW, *arguments], domain=robot.domain, **environment)
    process.wait_for("[left.pi0]: ready:")
    robot.listen("/arm_controller/joint_trajectory")
    robot.until(lambda: len(robot.heard) >= 3, "trajectories")
    assert {len(message.points) for message in robot.heard} == {50}, "stops too"
    assert_clean_end(process, signal.SIGINT)
    assert "XMLPARSER" not in process.output, "the Fast DDS profile was not accepted"


def test_a_real_checkpoint(start_process, robot, demo_checkpoint):
    process = start_process(
        [*NODE, *DEMO, "-p", f"checkpoint:={demo_checkpoint}"], domain=robot.domain
    )
    process.wait_for("ready:")
    from pi0_ros.msg import ActionChunk

    robot.listen("/pi0/action_chunk", ActionChunk)
    robot.until(lambda: len(robot.heard) >= 3, "chunks")
    message = robot.heard[-1]
    assert message.joint_names[0] == "shoulder_pan" and message.horizon == 50
    assert len(message.positions) == 300 and np.isfinite(message.positions).all()
    assert_clean_end(process, signal.SIGTERM)


@pytest.mark.parametrize("command", [[*NODE, "--help"], [*NODE, "-h", *DEMO]])
def test_help(start_process, command):
    process = start_process(command)
    assert process.wait() == 0
    for word in ("usage: pi0_node", "checkpoint", "joint.<joint>.scale", "~/joint_trajectory"):
        assert word in process.output


def test_unknown_argument(start_process):
    process = start_process([*NODE, "--cheese"])
    assert process.wait() == 2
    assert "unrecognized arguments: --cheese" in process.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-p", "rate_hz:=1000.0"], ["rate_hz: must be in", "1 problem(s)"]),
        (["-p", "joints:=[a, a]", "-p", "joint.b.scale:=1.0"], ["more than once", "joint.b.scale"]),
        (["--params-file", "/no/such.yaml"], ["ROS does not take the arguments", "/no/such.yaml"]),
        (["-p", "checkpoint:=''"], ["checkpoint: empty"]),
    ],
)
def test_bad_parameters_end_it_with_one_message(start_process, arguments, says):
    process = start_process([*NODE, *DEMO, *arguments])
    assert process.wait() == 1
    assert process.output.count("pi0_node: ") == 1 and "Traceback" not in process.output
    assert all(word in process.output for word in says), process.output


def test_a_checkpoint_that_does_not_fit_is_told_in_one_list(start_process, demo_checkpoint):
    arguments = [f"checkpoint:={demo_checkpoint}", "cameras:=[front, top]", "joints:=[pan, lift]"]
    arguments.append("autostart:=true")
    process = start_process([*NODE, "--ros-args", *(word for a in arguments for word in ("-p", a))])
    process.wait_for("trying again")
    assert "configure failed" in process.output and "Traceback" not in process.output
    for word in ("top", "2 joints", "6"):
        assert word in process.output, process.output
    assert_clean_end(process, signal.SIGINT)


def test_a_checkpoint_that_comes_later(start_process, demo_checkpoint, tmp_path):
    late = tmp_path / "checkpoint"
    process = start_process([*NODE, *DEMO, "-p", f"checkpoint:={late}"])
    process.wait_for("trying again")
    assert str(late) in process.output and "Traceback" not in process.output
    late.symlink_to(demo_checkpoint)
    process.wait_for("ready:")
    assert_clean_end(process, signal.SIGTERM)
