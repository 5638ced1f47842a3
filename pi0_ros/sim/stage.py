"""The stage: a simulated SO-101 arm at a table and two cameras; the caller adds the objects.

The arm is `so101.xml` beside this file; table, objects, light and cameras are added with
`mujoco.MjSpec`. Physics need only `mujoco`; images also need OpenGL, which works without a
display through EGL. `mujoco` is imported when a stage is built, not when this module is.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from pi0_ros import console
from pi0_ros.errors import UserError

JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
CAMERAS = ("front", "wrist")
IMAGE_WIDTH, IMAGE_HEIGHT = 640, 480
# Radians, in the order of JOINTS. The roll puts the wrist camera above the fingers.
HOME = (0.0, -1.2, 1.0, 0.9, -math.pi / 2, 0.6)

TIP_SITE = "gripperframe"  # at the end of the fixed finger
HAND_BODIES = ("gripper", "moving_jaw_so101_v1")
ARM_XML = Path(__file__).with_name("so101.xml")
ARM_URDF = ARM_XML.with_suffix(".urdf")
"""The same arm for robot_state_publisher, RViz and readers of joint limits."""

# Contact bits: the hand meets objects and table, objects meet each other and the table, and the
# arm does not meet itself (the fitted boxes of neighbouring links overlap).
TABLE_BIT, OBJECT_BIT, HAND_BIT = 1, 2, 4
_MAX_STEP = 0.0034  # seconds of physics per step: three steps between joint states at 100 Hz
PAN_AXIS_X = 0.0388  # metres from the base to the pan axis
FRONT_EYE = (0.62, -0.22, 0.38)  # metres: where the front camera stands


class RenderError(UserError, RuntimeError):
    """OpenGL is not usable here."""


def load_mujoco() -> ModuleType:
    """Imports mujoco with EGL as the default for images.

    On Linux MUJOCO_GL is set to `egl` where the user has not set it: it needs no display and also
    works beside one. mujoco reads it once, so this does nothing where it was imported before.

    Raises:
        UserError: mujoco is not installed.
        RenderError: the OpenGL backend that MUJOCO_GL names cannot be loaded.
    """
    if sys.platform == "linux" and "mujoco" not in sys.modules:
        os.environ.setdefault("MUJOCO_GL", "egl")
    if sys.modules.get("mujoco") is None:
        console.require("mujoco")
    try:
        import mujoco
    except Exception as error:  # the OpenGL loader raises what it likes, AttributeError included
        raise _no_opengl(error) from error
    return mujoco


def _no_opengl(error: Exception) -> RenderError:
    backend = os.environ.get("MUJOCO_GL", "")
    reason = f"{type(error).__name__}: {str(error).rstrip('.')}"
    return RenderError(
        f"no OpenGL for camera images with MUJOCO_GL={backend!r}: {reason}. "
        "Without a display or GPU, use MUJOCO_GL=egl and on Debian or Ubuntu "
        "`sudo apt-get install libegl1 libgl1 libgl1-mesa-dri`"
    )


def build_model(add_objects: Callable[[Any], None]) -> Any:
    """Compiles the `mujoco.MjModel`: arm, table, objects, light, cameras `front` and `wrist`.

    The world is the arm's base frame: x forward, y left, z up, metres; the table top is z = 0.

    Args:
        add_objects: puts what lies on the table into the `mujoco.MjSpec` that it is given.
    """
    mujoco = load_mujoco()
    spec = mujoco.MjSpec.from_file(str(ARM_XML))
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    for name in (*HAND_BODIES, "wrist", "lower_arm", "upper_arm", "shoulder"):
        # Stands for the controller inside the servos, which holds the arm against its weight.
        spec.body(name).gravcomp = 1
    for name in HAND_BODIES:
        for geom in spec.body(name).geoms:
            geom.contype, geom.conaffinity = HAND_BIT, TABLE_BIT | OBJECT_BIT
    _add_table(spec, mujoco)
    add_objects(spec)
    _add_light(spec, mujoco)
    _add_cameras(spec)
    return spec.compile()


def _add_table(spec: Any, mujoco: ModuleType) -> None:
    kinds, patterns, geom = mujoco.mjtTexture, mujoco.mjtBuiltin, mujoco.mjtGeom
    sky = {"type": kinds.mjTEXTURE_SKYBOX, "builtin": patterns.mjBUILTIN_GRADIENT, "height": 768}
    sky |= {"rgb1": [0.80, 0.85, 0.90], "rgb2": [0.42, 0.47, 0.54]}
    checker = {"type": kinds.mjTEXTURE_2D, "builtin": patterns.mjBUILTIN_CHECKER, "height": 128}
    checker |= {"rgb1": [0.66, 0.62, 0.56], "rgb2": [0.58, 0.54, 0.49]}
    spec.add_texture(name="sky", width=128, **sky)
    spec.add_texture(name="checker", width=128, **checker)
    table = spec.add_material(name="table", texrepeat=[10, 10], texuniform=True, specular=0.1)
    table.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "checker"
    spec.worldbody.add_geom(
        name="table",
        type=geom.mjGEOM_BOX,
        pos=[0.20, 0, -0.02],
        size=[0.40, 0.50, 0.02],
        material="table",
        contype=TABLE_BIT,
        conaffinity=OBJECT_BIT | HAND_BIT,
    )
    spec.worldbody.add_geom(
        name="floor",
        type=geom.mjGEOM_PLANE,
        pos=[0, 0, -0.75],
        size=[4, 4, 4],  # the third is the grid it is drawn as: a fine one costs milliseconds
        rgba=[0.36, 0.38, 0.41, 1],
        contype=0,
        conaffinity=0,
    )


def _add_light(spec: Any, mujoco: ModuleType) -> None:
    spec.worldbody.add_light(
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
        pos=[0.5, -0.6, 1.4],
        dir=[-0.35, 0.5, -1.0],
        diffuse=[0.62, 0.61, 0.58],
        ambient=[0.16, 0.16, 0.17],
        specular=[0.1, 0.1, 0.1],
    )
    visual = spec.visual
    visual.headlight.ambient = [0.22, 0.22, 0.23]
    visual.headlight.diffuse = [0.30, 0.30, 0.30]
    visual.headlight.specular = [0, 0, 0]
    visual.map.znear = 0.02
    visual.global_.offwidth = IMAGE_WIDTH
    visual.global_.offheight = IMAGE_HEIGHT
    visual.quality.offsamples = 0


def _add_cameras(spec: Any) -> None:
    eye, target = FRONT_EYE, (0.15, 0.0, 0.08)
    spec.worldbody.add_camera(name="front", pos=eye, quat=_look_at(eye, target), fovy=42)
    # Beside the hand and tilted towards the fingertips (-z of the hand), as wrist mounts hold it.
    tilt = math.radians(-36) / 2
    spec.body("gripper").add_camera(
        name="wrist", pos=[0, 0.08, -0.01], quat=[math.cos(tilt), math.sin(tilt), 0, 0], fovy=75
    )


def _look_at(eye: tuple[float, ...], target: tuple[float, ...]) -> list[float]:
    """Quaternion (w, x, y, z) of a camera at `eye` that looks at `target` with z up."""
    back = np.subtract(eye, target)
    yaw = math.atan2(back[1], back[0]) + math.pi / 2
    tilt = math.atan2(math.hypot(back[0], back[1]), back[2])
    cy, sy, ct, st = math.cos(yaw / 2), math.sin(yaw / 2), math.cos(tilt / 2), math.sin(tilt / 2)
    return [cy * ct, cy * st, sy * st, sy * ct]


class Stage:
    """A model in motion: command the joints, let time pass, render.

    Args:
        model: from `build_model`.
        width, height: of the images, pixels; at most IMAGE_WIDTH x IMAGE_HEIGHT.

    Attributes:
        model, data: the `mujoco.MjModel` and `mujoco.MjData`.
    """

    def __init__(self, model: Any, width: int = IMAGE_WIDTH, height: int = IMAGE_HEIGHT) -> None:
        if not (0 < width <= IMAGE_WIDTH and 0 < height <= IMAGE_HEIGHT):
            raise ValueError(
                f"images must be at most {IMAGE_WIDTH}x{IMAGE_HEIGHT}, got {width}x{height}"
            )
        self._mujoco = load_mujoco()
        self.model = model
        self.data = self._mujoco.MjData(model)
        self._size = (height, width)
        # Software OpenGL clears and copies the whole buffer: it is as large as the images.
        model.vis.global_.offwidth, model.vis.global_.offheight = width, height
        self._renderer: Any = None
        self._hand = [model.body(name).id for name in HAND_BODIES]

    def command(self, positions: np.ndarray) -> None:
        """Sets the servos' targets: [6] radians in the order of JOINTS, limited to the ranges."""
        low, high = self.model.actuator_ctrlrange.T
        self.data.ctrl[:] = np.clip(positions, low, high)

    def advance(self, seconds: float, watch: Callable[[], None] | None = None) -> None:
        """Lets exactly this much time pass.

        Args:
            watch: called after every step of physics.
        """
        steps = math.ceil(seconds / _MAX_STEP)
        if steps <= 0:
            return
        self.model.opt.timestep = seconds / steps
        if watch is None:
            self._mujoco.mj_step(self.model, self.data, nstep=steps)
            return
        for _ in range(steps):
            self._mujoco.mj_step(self.model, self.data)
            watch()

    def joint_positions(self) -> np.ndarray:
        """[6] float64 radians in the order of JOINTS."""
        return self.data.qpos[: len(JOINTS)].copy()

    def joint_velocities(self) -> np.ndarray:
        """[6] float64 radians per second in the order of JOINTS."""
        return self.data.qvel[: len(JOINTS)].copy()

    def bodies_touched(self) -> list[int]:
        """Bodies other than the hand that the hand is in contact with, table included, as ids."""
        if not self.data.ncon:
            return []
        pairs = self.model.geom_bodyid[self.data.contact.geom].tolist()
        return [
            two
            for one, two in pairs + [pair[::-1] for pair in pairs]
            if one in self._hand and two not in self._hand
        ]

    def project(self, points: np.ndarray, camera: str) -> np.ndarray:
        """[n, 3] metres in the base frame -> [n, 2]: where they are in an image of a camera.

        x and y in (-1, 1), right and up, from edge to edge; outside of it for what is not in view,
        NaN for what is behind the camera. Occlusion does not count; images are 4 to 3.
        """
        seen_by = self.data.camera(camera)
        x, y, z = ((points - seen_by.xpos) @ seen_by.xmat.reshape(3, 3)).T
        edge = np.where(z < 0, -z, np.nan) * np.tan(
            np.radians(self.model.camera(camera).fovy[0]) / 2
        )
        return np.column_stack([x / edge * IMAGE_HEIGHT / IMAGE_WIDTH, y / edge])

    def render(self, camera: str) -> np.ndarray:
        """What a camera sees: [height, width, 3] uint8 RGB, a new array.

        OpenGL belongs to a thread: call this and `close` from one and the same.

        Raises:
            RenderError: no OpenGL; the message names the system packages.
        """
        if self._renderer is None:
            try:
                self._renderer = self._mujoco.Renderer(self.model, *self._size)
            except Exception as error:  # backends raise ImportError, RuntimeError, AttributeError
                raise _no_opengl(error) from error
        self._renderer.update_scene(self.data, camera)
        flags = self._renderer.scene.flags
        # Software OpenGL takes many times longer with shadows and reflections.
        flags[self._mujoco.mjtRndFlag.mjRND_SHADOW] = 0
        flags[self._mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
        return self._renderer.render()

    def close(self) -> None:
        """Frees the OpenGL context."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
