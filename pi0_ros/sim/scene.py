"""A scene with three coloured cubes: what the demo bag shows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pi0_ros.sim.stage import (
    ARM_XML,
    CAMERAS,
    HAND_BIT,
    HOME,
    IMAGE_HEIGHT,
    IMAGE_WIDTH,
    JOINTS,
    OBJECT_BIT,
    PAN_AXIS_X,
    TABLE_BIT,
    TIP_SITE,
    RenderError,
    Stage,
    build_model,
    load_mujoco,
)

__all__ = [
    "ARM_XML",
    "CAMERAS",
    "CUBES",
    "CUBE_HALF_SIZE",
    "HOME",
    "IMAGE_HEIGHT",
    "IMAGE_WIDTH",
    "JOINTS",
    "TIP_SITE",
    "RenderError",
    "Scene",
    "load_mujoco",
]

CUBES = {
    "red": (0.80, 0.10, 0.09),
    "green": (0.10, 0.55, 0.16),
    "blue": (0.10, 0.24, 0.80),
}
CUBE_HALF_SIZE = 0.0175  # metres


def _add_cubes(spec: Any) -> None:
    mujoco = load_mujoco()
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
            contype=OBJECT_BIT,
            conaffinity=TABLE_BIT | OBJECT_BIT | HAND_BIT,
        )


class Scene(Stage):
    """Three cubes within reach of the arm, which starts at HOME.

    Args:
        seed: places the cubes; the same seed gives the same scene.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__(build_model(_add_cubes))
        self._cubes = {self.model.body(name).id: name for name in CUBES}
        self.reset(seed)

    def reset(self, seed: int) -> None:
        """Puts the arm at HOME and the cubes at places that `seed` chooses, within reach."""
        rng = np.random.default_rng(seed)
        load_mujoco().mj_resetData(self.model, self.data)
        self.data.qpos[: len(JOINTS)] = HOME
        # One cube in each third of the reach, so that none overlaps another.
        bearings = rng.permutation([-0.50, 0.0, 0.50]) + rng.uniform(-0.12, 0.12, 3)
        radii = rng.uniform(0.21, 0.28, 3)
        yaws = rng.uniform(-0.7, 0.7, 3)
        for name, bearing, radius, yaw in zip(CUBES, bearings, radii, yaws, strict=True):
            start = self.model.joint(name).qposadr[0]
            x, y = PAN_AXIS_X + radius * math.cos(bearing), radius * math.sin(bearing)
            self.data.qpos[start : start + 3] = x, y, CUBE_HALF_SIZE
            self.data.qpos[start + 3 : start + 7] = math.cos(yaw / 2), 0, 0, math.sin(yaw / 2)
        self.command(np.asarray(HOME))
        load_mujoco().mj_forward(self.model, self.data)

    def cube_position(self, colour: str) -> np.ndarray:
        """[3] float64 metres: the cube's centre in the base frame."""
        return self.data.body(colour).xpos.copy()

    def touched(self) -> set[str]:
        """Colours of the cubes that the hand is in contact with."""
        return {self._cubes[body] for body in self.bodies_touched() if body in self._cubes}
