"""Poses of a robot's links, and what is wrong with a URDF file."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.arm_urdf import LENGTHS, arm_urdf, tool_places

from pi0_ros import sim
from pi0_ros.motion.urdf import UrdfError, joint_problems, parse_urdf
from pi0_ros.viz.kinematics import Arm, read_arm

JOINTS = ("pan", "lift", "gripper")


@pytest.mark.parametrize("kind", ["revolute", "continuous"])
def test_kinematics(kind):
    pytest.importorskip("pinocchio")
    arm = Arm(arm_urdf(kind=kind), JOINTS)
    positions = np.random.default_rng(0).uniform(-3, 3, (20, 3))
    places, orientations = arm.tool_poses(positions)
    np.testing.assert_allclose(places, tool_places(positions), atol=1e-12)
    half = (positions[:, 0] + positions[:, 1]) / 2
    about_z = np.column_stack([np.sin(half), np.cos(half)])
    same = np.abs((orientations[:, 2:] * about_z).sum(axis=1))  # q and -q are one rotation
    np.testing.assert_allclose(same, 1, atol=1e-12)
    assert arm.moving == (*JOINTS, "wheel")
    place, _ = arm.link_poses({"gripper": 0.05, "unknown": 1.0})["finger"]
    np.testing.assert_allclose(place, [LENGTHS[0] + 0.15, 0, 0], atol=1e-12)


def test_joints_that_follow_another():
    pytest.importorskip("pinocchio")
    extra = (
        '<link name="other"/><joint name="second" type="prismatic"><parent link="lower"/>'
        '<child link="other"/><axis xyz="1 0 0"/><limit lower="-1" upper="1" effort="1"'
        ' velocity="1"/><mimic joint="gripper" multiplier="-2" offset="0.5"/></joint>'
    )
    arm = Arm(arm_urdf(extra=extra), JOINTS)
    assert "second" not in arm.moving
    place, _ = arm.link_poses({"gripper": 0.1})["other"]
    np.testing.assert_allclose(place, [LENGTHS[0] + 0.3, 0, 0], atol=1e-12)
    (problem,) = joint_problems(arm.urdf, ["second"])
    assert "follows gripper" in problem


def test_the_simulated_arm():
    """Pinocchio and MuJoCo agree on where the SO-101's tool is."""
    pytest.importorskip("pinocchio")
    mujoco = pytest.importorskip("mujoco")
    path = Path(sim.__file__).with_name("so101.urdf")
    names = [joint.name for joint in parse_urdf(path.read_text()).joints.values() if joint.moves]
    arm = read_arm(path, names)
    assert arm.tool == "gripper_frame_link"
    model = mujoco.MjModel.from_xml_path(str(path.with_suffix(".xml")))
    data = mujoco.MjData(model)
    for row in np.random.default_rng(0).uniform(-1, 1, (5, len(names))):
        for name, value in zip(names, row, strict=True):
            data.joint(name).qpos[0] = value
        mujoco.mj_kinematics(model, data)
        place, _ = arm.link_poses(dict(zip(names, row, strict=True)))["gripper"]
        np.testing.assert_allclose(place, data.body("gripper").xpos, atol=2e-4)


@pytest.mark.parametrize(
    ("text", "joints", "tool", "says"),
    [
        (None, JOINTS, "", "No such file"),
        ("cube", JOINTS, "", "no XML"),
        (arm_urdf(), ["a", "b"], "", "no joint is called a, b"),
        (arm_urdf(), JOINTS, "flange", "tool_frame: no link is called 'flange'"),
    ],
)
def test_errors_of_a_file_name_it(tmp_path, text, joints, tool, says):
    pytest.importorskip("pinocchio")
    path = tmp_path / "arm.urdf"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UrdfError) as caught:
        read_arm(path, joints, tool)
    (problem,) = caught.value.problems
    assert says in problem and str(path) in problem


def test_without_pinocchio_the_error_says_how_to_get_it(tmp_path):
    """In a process of its own, where it cannot be imported."""
    path = tmp_path / "arm.urdf"
    path.write_text(arm_urdf())
    program = (
        "import sys; sys.modules['pinocchio'] = None\n"
        "from pathlib import Path\n"
        "from pi0_ros.viz.kinematics import read_arm\n"
        f"try: read_arm(Path({str(path)!r}), ['pan'])\n"
        "except ValueError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "pip install pin" in done.stdout
