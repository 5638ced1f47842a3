"""pi0_node drives pi0_sim through two controllers, one of which forwards positions, over DDS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")

import yaml
from std_msgs.msg import Float64MultiArray, String
from support import ROOT
from trajectory_msgs.msg import JointTrajectory

from pi0_ros.sim.closed_loop import ClosedLoop, closed_loop, config_file
from pi0_ros.sim.stage import JOINTS


def outputs() -> dict[str, object]:
    """config/two_controllers.yaml."""
    text = config_file("two_controllers.yaml").read_text()
    tree = yaml.safe_load(text)["/**"]["ros__parameters"]["outputs"]
    return {
        f"outputs.{name}.{key}": value
        for name, entries in tree.items()
        for key, value in entries.items()
    }


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[ClosedLoop]:
    checkpoint = ROOT / "pi0_ros/sim/touch_checkpoint"
    options = ["--seed", "3", "--wiring", "forward-gripper", "--clock"]
    parameters = {"checkpoint": str(checkpoint), "use_sim_time": True, **outputs()}
    with closed_loop("operator", options, parameters, tmp_path) as running:
        yield running


def test_the_arm_touches_through_two_controllers(loop: ClosedLoop) -> None:
    arm: list[JointTrajectory] = []
    gripper: list[float] = []
    touched: list[str] = []
    node = loop.node
    node.create_subscription(JointTrajectory, "/arm_controller/joint_trajectory", arm.append, 100)

    def on_sample(message: Float64MultiArray) -> None:
        gripper.append(float(message.data[0]))

    node.create_subscription(Float64MultiArray, "/gripper_controller/commands", on_sample, 1000)
    node.create_subscription(String, "/sim/touched", lambda m: touched.append(m.data), 10)
    loop.start()
    loop.instruct("touch the red cube")
    loop.enable()
    loop.wait(lambda: touched, 120, "a touch")
    loop.enable(False)
    assert "red cube" in touched[0]
    assert {tuple(m.joint_names) for m in arm} == {JOINTS[:-1]}
    # test/ros/test_outputs.py judges the samples by their times, which are the machine's here.
    assert len(gripper) > 20 and np.isfinite(gripper).all()
