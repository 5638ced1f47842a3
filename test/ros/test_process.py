"""pi0_node as a process: signals, errors, --help, and the command line that launch makes."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.harness import wait_until

pytest.importorskip("rclpy")

ROOT = Path(__file__).parents[2]
DEMO = ["--ros-args", "--params-file", str(ROOT / "config/demo.yaml"), "-p", "checkpoint:=/fake"]
DEMO += ["-p", "autostart:=true"]
ENABLED = ["-p", "start_enabled:=true", "-p", f"joint_limits:={ROOT / 'config/so101_limits.yaml'}"]
SLOW = [sys.executable, str(Path(__file__).with_name("slow_node.py"))]
NODE = [sys.executable, "-m", "pi0_ros.node"]


class Process:
    """A child whose lines of output are read as they come."""

    def __init__(self, command: list[str], domain: int, **environment: str) -> None:
        paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        self.popen = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, paths)),
                "PYTHONUNBUFFERED": "1",
                "ROS_DOMAIN_ID": str(domain),
                **environment,
            },
        )
        self.output = ""
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.popen.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def wait_for(self, text: str, timeout: float = 30.0) -> None:
        end = time.monotonic() + timeout
        while text not in self.output:
            left = max(0.0, end - time.monotonic())
            try:
                line = self._lines.get(timeout=left)
            except queue.Empty:
                line = None
            assert line is not None, f"{text!r} not in the output:\n{self.output}"
            self.output += line

    def end(self, timeout: float) -> int:
        """Wait for the end; the exit status."""
        status = self.popen.wait(timeout)
        while (line := self._lines.get(timeout=5)) is not None:
            self.output += line
        return status


@pytest.fixture
def run(domains: Iterator[int]) -> Iterator[Callable[..., Process]]:
    """run(command, **environment) -> Process on a domain of its own, ended with the test."""
    running = []

    def begin(command: list[str], domain: int | None = None, **environment: str) -> Process:
        running.append(Process(command, domain or next(domains), **environment))
        return running[-1]

    yield begin
    for process in running:
        process.popen.kill()
        process.popen.wait()
        process.popen.stdout.close()


@pytest.fixture
def robot(domains: Iterator[int]) -> Iterator[Robot]:
    robot = Robot(next(domains))
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
        wait_until(lambda: self.step() or condition(), what, 30)

    def close(self) -> None:
        import rclpy

        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)


def assert_clean_end(process: Process, number: signal.Signals) -> None:
    begun = time.monotonic()
    process.popen.send_signal(number)
    status = process.end(10)
    taken = time.monotonic() - begun
    assert status == 0, process.output
    assert "Traceback" not in process.output and "terminate called" not in process.output
    assert taken < 2.0


@pytest.mark.parametrize("work", ["sleep", "torch"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_node_during_an_inference(run, robot, number, work):
    process = run([*SLOW, *DEMO], robot.domain, INFER_SECONDS="60", WORK=work)
    process.wait_for("ready:")
    seen = threading.Event()
    threading.Thread(
        target=lambda: (process.wait_for("inferring"), seen.set()), daemon=True
    ).start()
    robot.until(seen.is_set, "the inference")
    assert_clean_end(process, number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_node_while_it_loads(run, number):
    process = run([*SLOW, *DEMO], LOAD_SECONDS="60")
    process.wait_for("loading\n")
    assert_clean_end(process, number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_node_between_inferences(run, robot, number):
    process = run([*SLOW, *DEMO, *ENABLED], robot.domain)
    process.wait_for("ready:")
    robot.listen("/pi0/joint_trajectory")
    robot.until(lambda: len(robot.heard) >= 3, "trajectories")
    assert_clean_end(process, number)


def test_the_command_line_that_launch_makes(run, robot, tmp_path):
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
    process = run([*SLOW, *arguments], robot.domain, **environment)
    process.wait_for("[left.pi0]: ready:")
    robot.listen("/arm_controller/joint_trajectory")
    robot.until(lambda: len(robot.heard) >= 3, "trajectories")
    assert len(robot.heard[-1].points) >= 50  # and where what runs turns
    assert_clean_end(process, signal.SIGINT)
    assert "XMLPARSER" not in process.output, "the Fast DDS profile was not accepted"


def test_a_real_checkpoint(run, robot, demo_checkpoint):
    process = run([*NODE, *DEMO, "-p", f"checkpoint:={demo_checkpoint}"], robot.domain)
    process.wait_for("ready:", timeout=90)
    from pi0_ros.msg import ActionChunk

    robot.listen("/pi0/action_chunk", ActionChunk)
    robot.until(lambda: len(robot.heard) >= 3, "chunks")
    message = robot.heard[-1]
    assert message.joint_names[0] == "shoulder_pan" and message.horizon == 50
    assert len(message.positions) == 300 and np.isfinite(message.positions).all()
    assert_clean_end(process, signal.SIGTERM)


@pytest.mark.parametrize("command", [[*NODE, "--help"], [*NODE, "-h", *DEMO]])
def test_help(run, command):
    process = run(command)
    assert process.end(20) == 0
    for word in ("usage: pi0_node", "checkpoint", "joint.<joint>.scale", "~/joint_trajectory"):
        assert word in process.output


def test_unknown_argument(run):
    process = run([*NODE, "--cheese"])
    assert process.end(20) == 2
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
def test_bad_parameters_end_it_with_one_message(run, arguments, says):
    process = run([*NODE, *DEMO, *arguments])
    assert process.end(20) == 1
    assert process.output.count("pi0_node: ") == 1 and "Traceback" not in process.output
    assert all(word in process.output for word in says), process.output


def test_a_checkpoint_that_does_not_fit_is_told_in_one_list(run, demo_checkpoint):
    arguments = [f"checkpoint:={demo_checkpoint}", "cameras:=[front, top]", "joints:=[pan, lift]"]
    arguments.append("autostart:=true")
    process = run([*NODE, "--ros-args", *(word for a in arguments for word in ("-p", a))])
    process.wait_for("trying again", 90)
    assert "configure failed" in process.output and "Traceback" not in process.output
    for word in ("top", "2 joints", "6"):
        assert word in process.output, process.output
    assert_clean_end(process, signal.SIGINT)


def test_a_checkpoint_that_comes_later(run, demo_checkpoint, tmp_path):
    late = tmp_path / "checkpoint"
    process = run([*NODE, *DEMO, "-p", f"checkpoint:={late}"])
    process.wait_for("trying again", 90)
    assert str(late) in process.output and "Traceback" not in process.output
    late.symlink_to(demo_checkpoint)
    process.wait_for("ready:", 90)
    assert_clean_end(process, signal.SIGTERM)
