"""URDFs: what is read, what is refused and how that is said, and the kinematics of them."""

import subprocess
import sys

import numpy as np
import pytest
from support.arm_urdf import LENGTHS, arm_urdf, tool_places
from support.harness import JOINTS, configure

from pi0_ros.motion.urdf import MOST_LINKS, UrdfError, joint_problems, parse_urdf, tool_link
from pi0_ros.node.preflight import contract_problems

CHAIN = "".join(
    f'<link name="l{i}"/><joint name="j{i}" type="fixed"><parent link="l{i}"/>'
    f'<child link="l{i + 1}"/></joint>'
    for i in range(MOST_LINKS)
)


def test_names():
    urdf = parse_urdf(arm_urdf(extra='<ros2_control><joint name="pan"/></ros2_control>'))
    assert urdf.root == "base"
    assert [joint.name for joint in urdf.way_to("tool")] == ["tool_joint", "lift", "pan"]
    assert joint_problems(urdf, JOINTS) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no XML"),
        ("<robot>", "no XML"),
        ("solid cube", "no XML"),
        ("<mujoco/>", "expected a URDF (<robot>), the root is <mujoco>"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><robot/>', "document type"),
        ("<robot/>", "no links"),
        ('<robot><link name="a"/><link name="a"/></robot>', "link 'a' is there more than once"),
        ('<robot><link name="a"/><link name="b"/></robot>', "nobody's child, found a, b"),
        (
            '<robot><link name="a"/><joint name="j"><parent link="a"/><child link="b"/></joint>'
            "</robot>",
            "joint j: its child 'b' is no link",
        ),
        (
            '<robot><link name="a"/><link name="b"/><link name="c"/>'
            '<joint name="j"><parent link="b"/><child link="c"/></joint>'
            '<joint name="k"><parent link="c"/><child link="b"/></joint></robot>',
            "form a circle",
        ),
        (f'<robot>{CHAIN}<link name="l{MOST_LINKS}"/></robot>', f"{MOST_LINKS + 1} links"),
    ],
)
def test_what_is_no_robot(text, says):
    with pytest.raises(UrdfError) as caught:
        parse_urdf(text)
    assert says in str(caught.value)


def test_joints_of_another_robot():
    (problem,) = joint_problems(parse_urdf(arm_urdf()), ["shoulder", "lift"])
    assert problem == "no joint is called shoulder; those that move: pan, lift, gripper, wheel"
    (problem,) = joint_problems(parse_urdf(arm_urdf()), ["tool_joint"])
    assert problem == "joint tool_joint is of type 'fixed'; expected one that moves by itself"


def test_the_tool_is_at_the_end_of_the_chain():
    urdf = parse_urdf(arm_urdf())
    assert tool_link(urdf, JOINTS) == "tool", "not the finger beside it, nor the wheel"
    assert tool_link(urdf, JOINTS, "finger") == "finger"
    for wanted, says in (("tol", "no link is called 'tol'"), ("wheel_link", "moves wheel_link")):
        with pytest.raises(UrdfError, match=says):
            tool_link(urdf, JOINTS, wanted)


@pytest.mark.parametrize("kind", ["revolute", "continuous"])
def test_kinematics(kind):
    pytest.importorskip("pinocchio")
    from pi0_ros.viz.kinematics import Arm

    arm = Arm(arm_urdf(kind=kind), JOINTS)
    positions = np.random.default_rng(0).uniform(-3, 3, (20, 3))
    places, turns = arm.tool_poses(positions)
    np.testing.assert_allclose(places, tool_places(positions), atol=1e-12)
    half = (positions[:, 0] + positions[:, 1]) / 2
    about_z = np.column_stack([np.sin(half), np.cos(half)])
    same = np.abs((turns[:, 2:] * about_z).sum(axis=1))  # q and -q are one rotation
    np.testing.assert_allclose(same, 1, atol=1e-12)
    assert arm.moving == (*JOINTS, "wheel")
    place, _ = arm.link_poses({"gripper": 0.05, "unknown": 1.0})["finger"]
    np.testing.assert_allclose(place, [LENGTHS[0] + 0.15, 0, 0], atol=1e-12)


def test_joints_that_follow_another():
    pytest.importorskip("pinocchio")
    from pi0_ros.viz.kinematics import Arm

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
    from pathlib import Path

    from pi0_ros import sim
    from pi0_ros.viz.kinematics import read_arm

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
    ("text", "changes", "says"),
    [
        (None, {}, "No such file"),
        ("cube", {}, "no XML"),
        (arm_urdf(), {"joints": ["a", "b"]}, "no joint is called a, b"),
        (arm_urdf(), {"tool_frame": "flange"}, "tool_frame: no link is called 'flange'"),
    ],
)
def test_the_contract_lists_a_wrong_description(tmp_path, text, changes, says):
    pytest.importorskip("pinocchio")
    path = tmp_path / "arm.urdf"
    if text is not None:
        path.write_text(text)
    parameters = configure(robot_description_file=str(path), **changes)
    found = [p for p in contract_problems(parameters, None) if "robot description" in p]
    assert len(found) == 1 and says in found[0] and str(path) in found[0]


def test_without_pinocchio_the_contract_says_how_to_get_it(tmp_path):
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
