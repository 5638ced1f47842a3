"""The simulated arm: commands, cameras, inverse kinematics, and errors of a missing OpenGL."""

import os
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from support import ROOT
from support.waiting import PATIENCE

from pi0_ros.sim.reach import CLOSED, reach_pose
from pi0_ros.sim.stage import CAMERAS, HOME, TIP_SITE, Stage
from pi0_ros.sim.world import World


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    world = World(0)
    yield world
    world.close()


@pytest.fixture
def stage(world: World) -> Stage:
    world.reset(0)
    world.place_arm(np.array(HOME))
    return world.stage


def test_wrist_camera_moves_with_the_arm_and_front_camera_stays(stage: Stage) -> None:
    before = {camera: stage.render(camera) for camera in CAMERAS}
    stage.command(np.array([0.5, *HOME[1:]]))
    stage.advance(0.5)
    changed = {
        camera: (stage.render(camera) != before[camera]).any(axis=2).mean() for camera in CAMERAS
    }
    assert 0.01 < changed["front"] < 0.3 < changed["wrist"]


def test_commands_are_followed_within_limits(stage: Stage) -> None:
    target = np.array([0.4, -0.8, 0.6, 0.5, -1.0, 9.0])
    stage.command(target)
    stage.advance(1.5)
    reached = stage.joint_positions()
    np.testing.assert_allclose(reached[:5], target[:5], atol=0.02)
    assert reached[5] == pytest.approx(stage.model.joint("gripper").range[1], abs=0.02)
    assert stage.data.time == pytest.approx(1.5)


def test_velocities_are_those_of_the_positions(stage: Stage) -> None:
    stage.command(np.array(HOME) + 0.3)
    stage.advance(0.1)
    before = stage.joint_positions()
    stage.advance(0.001)
    slope = (stage.joint_positions() - before) / 0.001
    np.testing.assert_allclose(stage.joint_velocities(), slope, atol=0.02)
    assert np.abs(slope[:4]).min() > 0.1


def test_what_is_behind_the_camera_is_nowhere_in_its_image(stage: Stage) -> None:
    places = stage.project(np.array([[0.2, 0.0, 0.0], [5.0, -2.0, 2.0]]), "front")
    assert np.abs(places[0]).max() < 1 and np.isnan(places[1]).all()


def test_reach_pose_puts_the_tip_there(world: World, stage: Stage) -> None:
    tip = np.array([0.24, -0.08, 0.05])
    world.place_arm(reach_pose(stage, tip, CLOSED))
    np.testing.assert_allclose(stage.data.site(TIP_SITE).xpos, tip, atol=0.002)


def test_reach_pose_tells_what_is_out_of_reach(stage: Stage) -> None:
    with pytest.raises(ValueError, match=r"cannot reach \[0\.6, 0\.0, 0\.1\] m"):
        reach_pose(stage, np.array([0.6, 0.0, 0.1]), CLOSED)


# Where mujoco or OpenGL is missing ----------------------------------------------------------------


def run_apart(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


RENDER = "from pi0_ros.sim.world import World; World().images()"


def test_missing_mujoco_is_named() -> None:
    done = run_apart(f"import sys; sys.modules['mujoco'] = None\n{RENDER}")
    assert done.returncode == 1
    assert "UserError: needs mujoco, which is not installed" in done.stderr
    assert "pip install mujoco" in done.stderr


def test_missing_opengl_names_the_debian_packages() -> None:
    done = run_apart(RENDER, MUJOCO_GL="egl", MUJOCO_EGL_DEVICE_ID="77")
    assert done.returncode == 1
    assert "RenderError: no OpenGL for camera images with MUJOCO_GL='egl'" in done.stderr
    for package in ("libegl1", "libgl1", "libgl1-mesa-dri"):
        assert package in done.stderr


def test_mujoco_imported_before_without_display_is_told_what_to_set() -> None:
    env = {"MUJOCO_GL": "", "DISPLAY": "", "WAYLAND_DISPLAY": ""}
    done = run_apart(f"import mujoco\n{RENDER}", **env)
    assert done.returncode == 1
    assert "no OpenGL for camera images with MUJOCO_GL=''" in done.stderr
    assert "use MUJOCO_GL=egl" in done.stderr


def test_a_choice_of_opengl_is_left_alone() -> None:
    code = "from pi0_ros.sim.stage import load_mujoco; load_mujoco(); import os; "
    done = run_apart(f"{code}print(os.environ['MUJOCO_GL'])", MUJOCO_GL="disabled")
    assert done.stdout.strip() == "disabled", done.stderr
