"""A simulated SO-101 arm on a table with three coloured cubes, seen by two cameras.

The arm is `so101.xml` beside this file; table, cubes, light and cameras are added with
`mujoco.MjSpec`. Physics need only `mujoco`; pictures also need OpenGL, which works without a
display through EGL. `mujoco` is imported when a scene is built, not when this module is.
"""

import math
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
CAMERAS = ("front", "wrist")
CUBES = {
    "red": (0.80, 0.10, 0.09),
    "green": (0.10, 0.55, 0.16),
    "blue": (0.10, 0.24, 0.80),
}
CUBE_HALF_SIZE = 0.0175  # metres
IMAGE_WIDTH, IMAGE_HEIGHT = 640, 480
# Radians, in the order of JOINTS. The roll puts the wrist camera above the fingers.
HOME = (0.0, -1.2, 1.0, 0.9, -math.pi / 2, 0.6)

TIP_SITE = "gripperframe"  # at the end of the fixed finger
HAND_BODIES = ("gripper", "moving_jaw_so101_v1")
ARM_XML = Path(__file__).with_name("so101.xml")

# Contact bits: the hand meets cubes and table, cubes meet each other and the table, and the arm
# does not meet itself (the fitted boxes of neighbouring links overlap).
_TABLE_BIT, _CUBE_BIT, _HAND_BIT = 1, 2, 4
_MAX_STEP = 0.0034  # seconds of physics per step: three steps between joint states at 100 Hz
_PAN_AXIS_X = 0.0388  # metres from the base to the pan axis


class RenderError(RuntimeError):
    """OpenGL is not usable here."""


def load_mujoco() -> ModuleType:
    """Imports mujoco with EGL as the default for pictures.

    On Linux MUJOCO_GL is set to `egl` where the user has not set it: it needs no display and also
    works beside one. mujoco reads it once, so this does nothing where it was imported before.

    Raises:
        ImportError: mujoco is not installed.
        RenderError: the OpenGL backend that MUJOCO_GL names cannot be loaded.
    """
    if sys.platform == "linux" and "mujoco" not in sys.modules:
        os.environ.setdefault("MUJOCO_GL", "egl")
    try:
        import mujoco
    except ModuleNotFoundError as error:
        if error.name != "mujoco":
            raise
        raise ImportError(
            "the simulated arm needs the Python package mujoco, which is not installed: "
            "`pip install mujoco`"
        ) from error
    except Exception as error:  # the OpenGL loader raises what it likes, AttributeError included
        raise _no_opengl(error) from error
    return mujoco


def _no_opengl(error: Exception) -> RenderError:
    backend = os.environ.get("MUJOCO_GL", "")
    reason = f"{type(error).__name__}: {str(error).rstrip('.')}"
    return RenderError(
        f"no OpenGL for camera pictures with MUJOCO_GL={backend!r}: {reason}. "
        "Without a display or GPU, use MUJOCO_GL=egl and on Debian or Ubuntu "
        "`sudo apt-get install libegl1 libgl1 libgl1-mesa-dri`"
    )


def build_model() -> Any:
    """Compiles the `mujoco.MjModel`: arm, table, cubes, light, cameras `front` and `wrist`.

    The world is the arm's base frame: x forward, y left, z up, metres; the table top is z = 0.
    """
    mujoco = load_mujoco()
    spec = mujoco.MjSpec.from_file(str(ARM_XML))
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    for name in (*HAND_BODIES, "wrist", "lower_arm", "upper_arm", "shoulder"):
        # Stands for the controller inside the servos, which holds the arm against its weight.
        spec.body(name).gravcomp = 1
    for name in HAND_BODIES:
        for geom in spec.body(name).geoms:
            geom.contype, geom.conaffinity = _HAND_BIT, _TABLE_BIT | _CUBE_BIT
    _add_table(spec, mujoco)
    _add_cubes(spec, mujoco)
    _add_light(spec, mujoco)
    _add_cameras(spec)
    return spec.compile()


def _add_table(spec: Any, mujoco: ModuleType) -> None:
    texture, builtin, geom = mujoco.mjtTexture, mujoco.mjtBuiltin, mujoco.mjtGeom
    spec.add_texture(
        name="sky",
        type=texture.mjTEXTURE_SKYBOX,
        builtin=builtin.mjBUILTIN_GRADIENT,
        rgb1=[0.80, 0.85, 0.90],
        rgb2=[0.42, 0.47, 0.54],
        width=128,
        height=768,
    )
    spec.add_texture(
        name="checker",
        type=texture.mjTEXTURE_2D,
        builtin=builtin.mjBUILTIN_CHECKER,
        rgb1=[0.66, 0.62, 0.56],
        rgb2=[0.58, 0.54, 0.49],
        width=128,
        height=128,
    )
    table = spec.add_material(name="table", texrepeat=[10, 10], texuniform=True, specular=0.1)
    table.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "checker"
    spec.worldbody.add_geom(
        name="table",
        type=geom.mjGEOM_BOX,
        pos=[0.20, 0, -0.02],
        size=[0.40, 0.50, 0.02],
        material="table",
        contype=_TABLE_BIT,
        conaffinity=_CUBE_BIT | _HAND_BIT,
    )
    spec.worldbody.add_geom(
        name="floor",
        type=geom.mjGEOM_PLANE,
        pos=[0, 0, -0.75],
        size=[4, 4, 0.01],
        rgba=[0.36, 0.38, 0.41, 1],
        contype=0,
        conaffinity=0,
    )


def _add_cubes(spec: Any, mujoco: ModuleType) -> None:
    for name, rgb in CUBES.items():
        body = spec.worldbody.add_body(name=name, pos=[0.25, 0, CUBE_HALF_SIZE])
        body.add_freejoint(name=name)
        body.add_geom(
            name=name,
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=[CUBE_HALF_SIZE] * 3,
            rgba=[*rgb, 1],
            mass=0.05,
            friction=[1, 0.01, 0.001],
            contype=_CUBE_BIT,
            conaffinity=_TABLE_BIT | _CUBE_BIT | _HAND_BIT,
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
    eye, target = (0.62, -0.22, 0.38), (0.15, 0.0, 0.08)
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


class Scene:
    """The scene in motion: command the joints, let time pass, look.

    Args:
        seed: places the cubes; the same seed gives the same scene.

    Attributes:
        model, data: the `mujoco.MjModel` and `mujoco.MjData`.
    """

    def __init__(self, seed: int = 0) -> None:
        self._mujoco = load_mujoco()
        self.model = build_model()
        self.data = self._mujoco.MjData(self.model)
        self._renderer: Any = None
        self._hand = {self.model.body(name).id for name in HAND_BODIES}
        self._cubes = {self.model.body(name).id: name for name in CUBES}
        self.reset(seed)

    def reset(self, seed: int) -> None:
        """Puts the arm at HOME and the cubes at places that `seed` chooses, within reach."""
        rng = np.random.default_rng(seed)
        self._mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[: len(JOINTS)] = HOME
        # One cube in each third of the reach, so that none overlaps another.
        bearings = rng.permutation([-0.50, 0.0, 0.50]) + rng.uniform(-0.12, 0.12, 3)
        radii = rng.uniform(0.21, 0.28, 3)
        yaws = rng.uniform(-0.7, 0.7, 3)
        for name, bearing, radius, yaw in zip(CUBES, bearings, radii, yaws, strict=True):
            start = self.model.joint(name).qposadr[0]
            x, y = _PAN_AXIS_X + radius * math.cos(bearing), radius * math.sin(bearing)
            self.data.qpos[start : start + 3] = x, y, CUBE_HALF_SIZE
            self.data.qpos[start + 3 : start + 7] = math.cos(yaw / 2), 0, 0, math.sin(yaw / 2)
        self.command(np.asarray(HOME))
        self._mujoco.mj_forward(self.model, self.data)

    def command(self, positions: np.ndarray) -> None:
        """Sets the servos' targets: [6] radians in the order of JOINTS, limited to the ranges."""
        low, high = self.model.actuator_ctrlrange.T
        self.data.ctrl[:] = np.clip(positions, low, high)

    def advance(self, seconds: float) -> None:
        """Lets exactly this much time pass."""
        steps = math.ceil(seconds / _MAX_STEP)
        if steps > 0:
            self.model.opt.timestep = seconds / steps
            self._mujoco.mj_step(self.model, self.data, nstep=steps)

    def joint_positions(self) -> np.ndarray:
        """[6] float64 radians in the order of JOINTS."""
        return self.data.qpos[: len(JOINTS)].copy()

    def joint_velocities(self) -> np.ndarray:
        """[6] float64 radians per second in the order of JOINTS."""
        return self.data.qvel[: len(JOINTS)].copy()

    def cube_position(self, colour: str) -> np.ndarray:
        """[3] float64 metres: the cube's centre in the base frame."""
        return self.data.body(colour).xpos.copy()

    def touched(self) -> set[str]:
        """Colours of the cubes that the hand is in contact with."""
        pairs = self.model.geom_bodyid[self.data.contact.geom].tolist()
        return {
            self._cubes[two]
            for one, two in pairs + [pair[::-1] for pair in pairs]
            if one in self._hand and two in self._cubes
        }

    def render(self, camera: str) -> np.ndarray:
        """What a camera sees: [480, 640, 3] uint8 RGB, a new array.

        OpenGL belongs to a thread: call this and `close` from one and the same.

        Raises:
            RenderError: no OpenGL; the message names the system packages.
        """
        if self._renderer is None:
            try:
                self._renderer = self._mujoco.Renderer(self.model, IMAGE_HEIGHT, IMAGE_WIDTH)
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
