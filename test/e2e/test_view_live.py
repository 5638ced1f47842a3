"""pi0 view --live: a stand-in for a running node, which publishes and subscribes like pi0."""

import threading
from pathlib import Path

import numpy as np
import pytest
from e2e.test_view import View, pixels, wait_for_path
from support.browser import Browser, needs_browser
from support.domains import free_domain
from support.view_cases import DT, JOINTS, STEPS, urdf
from support.waiting import wait_until

pytest.importorskip("rclpy")
pytest.importorskip("pinocchio")
pytest.importorskip("viser")

from pi0_ros import cli
from pi0_ros.viz.scene import FAR, REJECTED

ROOT = Path(__file__).parents[2]


class Stand:
    """A node `pi0` and a robot in one process, ten times a second."""

    def __init__(self, domain: int) -> None:
        import rclpy
        from pi0_ros.msg import ActionChunk
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.qos import DurabilityPolicy, QoSProfile
        from sensor_msgs.msg import Image, JointState
        from std_msgs.msg import String

        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=domain)
        self._node = node = rclpy.create_node("pi0", context=self._context)
        for kind, topic in ((JointState, "joint_states"), (Image, "front/image_raw")):
            node.create_subscription(kind, topic, lambda _: None, 1)
        self._chunks = node.create_publisher(ActionChunk, "~/action_chunk", 1)
        self._states = node.create_publisher(JointState, "joint_states", 1)
        self._images = node.create_publisher(Image, "front/image_raw", 1)
        kept = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._description = node.create_publisher(String, "robot_description", kept)
        self._description.publish(String(data=urdf()))
        self._sequence = 0
        node.create_timer(0.1, self._tick)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        import rclpy

        self._executor.shutdown()
        self._thread.join(10)
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)

    def _tick(self) -> None:
        from pi0_ros.msg import ActionChunk
        from sensor_msgs.msg import Image, JointState

        self._sequence += 1
        self._states.publish(JointState(name=list(JOINTS), position=[0.0, 0.0, 0.0]))
        pixels = bytes([90, 90, 90] * 12)
        image = Image(height=3, width=4, encoding="rgb8", step=12, data=pixels)
        self._images.publish(image)
        positions = np.zeros((STEPS, len(JOINTS)))
        positions[:, 0] = np.linspace(0.5, 2.0, STEPS)
        rejected = self._sequence % 2
        chunk = ActionChunk(
            sequence=self._sequence,
            instruction="turn to the left",
            dt=DT,
            horizon=STEPS,
            joint_names=list(JOINTS),
            positions=(-positions if rejected else positions).ravel().tolist(),
            joint_states_age=0.05,
            verdict=ActionChunk.REJECTED if rejected else ActionChunk.EXECUTED,
            rejected_reason="limits: elbow is too fast" if rejected else "",
        )
        self._chunks.publish(chunk)


@pytest.fixture
def domain(monkeypatch) -> int:
    number = free_domain()
    monkeypatch.setenv("ROS_DOMAIN_ID", str(number))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    return number


@needs_browser
def test_a_running_node_is_shown(domain):
    with (
        Stand(domain),
        View("--live") as view,
        Browser(f"http://127.0.0.1:{view.port}") as browser,
    ):
        wait_for_path(browser, FAR)  # the near end may be past, where the machine is slow
        wanted = ("turn to the left", "rejected: limits: elbow is too fast", "/front/image_raw")
        wait_until(lambda: all(words in browser.text() for words in wanted), browser.text)
        assert pixels(browser.screenshot(), REJECTED) > 20
        assert "seconds ago" in browser.text()
        assert browser.problems == []


def failure(capsys, *arguments: str) -> str:
    """What the command says when it fails."""
    assert cli.main(["view", *arguments]) == 1
    return capsys.readouterr().err


def test_no_such_node(domain, monkeypatch, capsys):
    monkeypatch.setattr("pi0_ros.view.live.LOOK_FOR", 0.5)
    assert "there is no node /left/pi0" in failure(capsys, "--live", "--node", "/left/pi0")


def test_a_description_of_another_robot(domain, tmp_path, capsys):
    path = tmp_path / "other.urdf"
    path.write_text(urdf(("waist", "neck")))
    with Stand(domain):
        said = failure(capsys, "--live", "--urdf", str(path))
    assert "no joint is called shoulder, elbow, gripper" in said and str(path) in said
