"""Poses of a robot's links, and what is wrong with a URDF file."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support import ROOT
from support.arm_urdf import LENGTHS, arm_urdf, tool_places

from pi0_ros import sim
from pi0_ros.collision.kinematics import Arm, read_arm
from pi0_ros.motion.urdf import UrdfError, joint_problems, parse_urdf

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
        "from pi0_ros.collision.kinematics import read_arm\n"
        f"try: read_arm(Path({str(path)!r}), ['pan'])\n"
        "except ValueError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "pip install pin" in done.stdout


HOSTILE = """
import sys, time
from pi0_ros.collision.kinematics import Arm
from support import ROOT
from support.arm_urdf import arm_urdf

def peak():
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])

kind, count = sys.argv[1], int(sys.argv[2])
LIMIT = '<limit lower="-1" upper="1" effort="1" velocity="1"/>'
attributes = " ".join(f'a{i}="1"' for i in range(count))
text = arm_urdf()
if kind == "attributes":
    text = arm_urdf(extra=f"<x {attributes}/>")
elif kind == "attributes of a limit":
    text = text.replace("<limit ", f"<limit {attributes} ", 1)
elif kind == "joints":
    text = arm_urdf(extra="".join(
        f'<link name="z{i}"/><joint name="k{i}" type="revolute"><parent link="'
        f'{f"z{i - 1}" if i else "tool"}"/><child link="z{i}"/>{LIMIT}<axis xyz="0 0 1"/></joint>'
        for i in range(count)))
elif kind == "shapes":
    box = '<visual><geometry><box size="1 1 1"/></geometry></visual>'
    text = arm_urdf(extra=f'<link name="z">{box * count}</link><joint name="k" type="fixed">'
                    '<parent link="tool"/><child link="z"/></joint>')
elif kind == "elements":
    text = arm_urdf(extra="<a/>" * count)
elif kind == "levels":
    text = arm_urdf(extra="<a>" * count + "</a>" * count)
elif kind == "numbers":
    text = text.replace('xyz="0 0 1"', 'xyz="' + "0 " * count + '1"', 1)
import pinocchio
memory, begun = peak(), time.process_time()
try:
    print("read", Arm(text, ("pan", "lift", "gripper")).model.njoints)
except ValueError as error:
    print("refused:", error)
print(time.process_time() - begun, peak() - memory)
"""


@pytest.mark.parametrize(
    ("kind", "count", "verdict"),
    [
        ("attributes", 100_000, "refused: an element or comment of more than 65536 bytes"),
        ("attributes", 5_000, "read 5"),
        ("attributes of a limit", 5_000, "read 5"),
        ("joints", 90, "read 95"),
        ("joints", 200, "read 4"),
        ("joints", 1_900, "read 4"),
        ("joints", 5_000, "refused: 5006 links; at most 2000 are read"),
        ("shapes", 20_000, "read 5"),
        ("elements", 900_000, "refused: more than 100000 elements"),
        ("levels", 100_000, "refused: elements deeper than 50 levels"),
        ("numbers", 20_000, "refused: pinocchio does not take it"),
    ],
)
def test_a_hostile_description_costs_little(kind, count, verdict):
    """Processor time, which a busy machine does not change much, and memory, of a fresh process."""
    pytest.importorskip("pinocchio")
    path = os.pathsep.join([str(ROOT), str(ROOT / "test")])
    done = subprocess.run(
        [sys.executable, "-c", HOSTILE, kind, str(count)],
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    said, figures = done.stdout.splitlines()
    seconds, kibibytes = map(float, figures.split())
    assert said.startswith(verdict)
    assert seconds < 2.0 and kibibytes < 100 * 1024, figures
