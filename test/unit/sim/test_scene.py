"""The simulated scene: what the cameras see, how the arm reaches, what missing OpenGL says."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import pi0_ros
from pi0_ros.sim.reach import CLOSED, TOUCH_SECONDS, JointPath, reach_pose, touch_path
from pi0_ros.sim.scene import CAMERAS, CUBES, HOME, IMAGE_HEIGHT, IMAGE_WIDTH, Scene


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene(seed=0)
    yield scene
    scene.close()


def looks_like(picture: np.ndarray, rgb: tuple[float, ...]) -> int:
    """How many pixels have the hue of a colour, in light or shade."""
    pixels = picture.reshape(-1, 3).astype(float)
    norms = np.linalg.norm(pixels, axis=1)
    cosine = pixels @ rgb / np.maximum(norms, 1) / np.linalg.norm(rgb)
    return int(((cosine > 0.98) & (norms > 40)).sum())


def test_both_cameras_see_arm_and_cubes(scene: Scene) -> None:
    yellow = (1.0, 0.82, 0.12)
    for camera in CAMERAS:
        picture = scene.render(camera)
        assert picture.shape == (IMAGE_HEIGHT, IMAGE_WIDTH, 3)
        assert picture.dtype == np.uint8
        for colour, rgb in CUBES.items():
            assert looks_like(picture, rgb) > 400, f"{camera} does not see the {colour} cube"
        assert looks_like(picture, yellow) > 4000, f"{camera} does not see the arm"
        assert 40 < picture.mean() < 215


def test_each_cube_has_its_colour_where_the_front_camera_must_see_it(scene: Scene) -> None:
    picture = scene.render("front")
    camera = scene.data.camera("front")
    focal = IMAGE_HEIGHT / 2 / np.tan(np.radians(scene.model.camera("front").fovy[0]) / 2)
    for colour, rgb in CUBES.items():
        x, y, z = camera.xmat.reshape(3, 3).T @ (scene.cube_position(colour) - camera.xpos)
        column = round(IMAGE_WIDTH / 2 + focal * x / -z)
        row = round(IMAGE_HEIGHT / 2 - focal * y / -z)
        patch = picture[row - 2 : row + 3, column - 2 : column + 3]
        assert looks_like(patch, rgb) == 25, f"{colour}: {patch[2, 2]} at {column}, {row}"


def test_wrist_camera_moves_with_the_arm_and_front_camera_stays(scene: Scene) -> None:
    before = {camera: scene.render(camera) for camera in CAMERAS}
    scene.command(np.array([0.5, *HOME[1:]]))
    scene.advance(0.5)
    changed = {
        camera: (scene.render(camera) != before[camera]).any(axis=2).mean() for camera in CAMERAS
    }
    assert 0.01 < changed["front"] < 0.3 < changed["wrist"]


def test_seed_decides_the_places_of_the_cubes() -> None:
    places = [[Scene(seed).cube_position(c).tolist() for c in CUBES] for seed in (3, 3, 4)]
    assert places[0] == places[1] != places[2]


def test_commands_are_followed_within_limits(scene: Scene) -> None:
    target = np.array([0.4, -0.8, 0.6, 0.5, -1.0, 9.0])
    scene.command(target)
    scene.advance(1.5)
    reached = scene.joint_positions()
    np.testing.assert_allclose(reached[:5], target[:5], atol=0.02)
    assert reached[5] == pytest.approx(scene.model.joint("gripper").range[1], abs=0.02)
    assert scene.data.time == pytest.approx(1.5)


def test_velocities_are_those_of_the_positions(scene: Scene) -> None:
    scene.command(np.array(HOME) + 0.3)
    scene.advance(0.1)
    before = scene.joint_positions()
    scene.advance(0.001)
    slope = (scene.joint_positions() - before) / 0.001
    np.testing.assert_allclose(scene.joint_velocities(), slope, atol=0.02)
    assert np.abs(slope[:4]).min() > 0.1


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("colour", list(CUBES))
def test_the_named_cube_alone_is_touched(seed: int, colour: str) -> None:
    scene = Scene(seed)
    path, touched = touch_path(scene, colour), set()
    for t in np.arange(0, TOUCH_SECONDS, 0.01):
        scene.command(path(t))
        scene.advance(0.01)
        touched |= scene.touched()
        assert np.abs(scene.joint_velocities()).max() < 4.5, "faster than an STS3215 servo"
    assert touched == {colour}
    np.testing.assert_allclose(scene.joint_positions(), HOME, atol=0.05)


def test_reach_pose_puts_the_tip_there(scene: Scene) -> None:
    tip = np.array([0.24, -0.08, 0.05])
    joints = reach_pose(scene, tip, CLOSED)
    scene.data.qpos[:6] = joints
    scene._mujoco.mj_forward(scene.model, scene.data)
    np.testing.assert_allclose(scene.data.site("gripperframe").xpos, tip, atol=0.002)


def test_reach_pose_says_what_is_out_of_reach(scene: Scene) -> None:
    with pytest.raises(ValueError, match=r"cannot reach \[0\.6, 0\.0, 0\.1\] m"):
        reach_pose(scene, np.array([0.6, 0.0, 0.1]), CLOSED)


def test_joint_path_rests_at_waypoints_and_is_smooth() -> None:
    points = np.array([[0.0] * 6, [1.0] * 6, [0.5] * 6])
    path = JointPath(np.array([0.0, 1.0, 3.0]), points)
    for t, point in ((-1, 0), (0, 0), (0.5, 0.5), (1, 1), (3, 0.5), (9, 0.5)):
        np.testing.assert_allclose(path(t), [point] * 6)
    times = np.arange(0, 3, 0.001)
    speed = np.gradient([path(t)[0] for t in times], times)
    assert abs(speed[1000]) < 1e-4  # at rest at the second waypoint
    assert np.abs(np.diff(speed)).max() < 0.01  # no step in velocity


def run_apart(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    home = str(Path(pi0_ros.__file__).parents[1])
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": home, **env},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_missing_mujoco_is_named() -> None:
    code = "import sys; sys.modules['mujoco'] = None\nfrom pi0_ros.sim import scene; scene.Scene()"
    done = run_apart(code)
    assert done.returncode == 1
    assert "ImportError: the simulated arm needs the Python package mujoco" in done.stderr
    assert "pip install mujoco" in done.stderr


def test_missing_opengl_names_the_debian_packages() -> None:
    code = "from pi0_ros.sim.scene import Scene; Scene().render('front')"
    done = run_apart(code, MUJOCO_GL="egl", MUJOCO_EGL_DEVICE_ID="77")
    assert done.returncode == 1
    assert "RenderError: no OpenGL for camera pictures with MUJOCO_GL='egl'" in done.stderr
    for package in ("libegl1", "libgl1", "libgl1-mesa-dri"):
        assert package in done.stderr


def test_mujoco_imported_before_without_display_is_told_what_to_set() -> None:
    env = {"MUJOCO_GL": "", "DISPLAY": "", "WAYLAND_DISPLAY": ""}
    code = "import mujoco\nfrom pi0_ros.sim.scene import Scene; Scene().render('front')"
    done = run_apart(code, **env)
    assert done.returncode == 1
    assert "no OpenGL for camera pictures with MUJOCO_GL=''" in done.stderr
    assert "use MUJOCO_GL=egl" in done.stderr


def test_a_choice_of_opengl_is_left_alone() -> None:
    code = (
        "import os; from pi0_ros.sim.scene import load_mujoco; load_mujoco(); "
        "print(os.environ['MUJOCO_GL'])"
    )
    done = run_apart(code, MUJOCO_GL="disabled")
    assert done.stdout.strip() == "disabled", done.stderr
