"""The touch task: which objects lie on the table, where, and which sentence names which.

Variant `touch`: three of six objects, cubes and plates in three colours. Two of them often share a
colour and two always share a shape, so both words of an instruction matter. An ambiguous
instruction leaves the choice between objects.

Variant `wrist`: three plates, each behind a grey screen that hides it from the front camera. The
front camera shows where something stands, the wrist camera alone shows which colour it has.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pi0_ros.sim.stage import FRONT_EYE, HAND_BIT, OBJECT_BIT, PAN_AXIS_X, TABLE_BIT, load_mujoco

VARIANTS = ("touch", "wrist")
TOUCH_CHECKPOINT = Path(__file__).with_name("touch_checkpoint")
TOUCH_PI05_CHECKPOINT = Path(__file__).with_name("touch_pi05_checkpoint")
"""The policy that was trained for this task; see its README.md."""
COLOURS = {
    "red": (0.80, 0.10, 0.09),
    "green": (0.10, 0.55, 0.16),
    "blue": (0.10, 0.24, 0.80),
}
CUBE_HALF_SIZE = 0.0175  # metres, as are all lengths here
PLATE_RADIUS = 0.028
HIDDEN_PLATE_RADIUS = 0.02
PLATE_HEIGHT = 0.01
SCREEN_HEIGHT = 0.055
_SCREEN_HALF_WIDTH = 0.029
_SCREEN_HALF_THICKNESS = 0.002
_GREY = (0.45, 0.45, 0.47)

_BEARINGS = (-0.50, 0.0, 0.50)  # radians about the pan axis: one object in each third of the reach
_BEARING_NOISE = 0.13
_RADII = (0.205, 0.285)  # from the pan axis


@dataclass(frozen=True)
class Thing:
    """An object that can lie on the table.

    Attributes:
        colour: a key of COLOURS.
        shape: `cube` or `plate`.
        hidden: behind a screen of its own.
    """

    colour: str
    shape: str
    hidden: bool = False

    @property
    def name(self) -> str:
        """Its name in instructions: `red cube`."""
        return f"{self.colour} {self.shape}"

    @property
    def body(self) -> str:
        """Its name in the MuJoCo model."""
        return f"hidden {self.name}" if self.hidden else self.name

    @property
    def height(self) -> float:
        """Of the surface to touch, above the table."""
        return 2 * CUBE_HALF_SIZE if self.shape == "cube" else PLATE_HEIGHT


@dataclass(frozen=True)
class Placement:
    """Where an object lies: x and y in the base frame, and its rotation about z in radians."""

    thing: Thing
    x: float
    y: float
    yaw: float


OPEN_THINGS = tuple(Thing(colour, shape) for shape in ("cube", "plate") for colour in COLOURS)
HIDDEN_THINGS = tuple(Thing(colour, "plate", hidden=True) for colour in COLOURS)
THINGS = OPEN_THINGS + HIDDEN_THINGS
INSTRUCTIONS = tuple(f"touch the {thing.name}" for thing in OPEN_THINGS)
"""Every sentence that names an object."""

ANY_CUBE, ANYTHING = "touch a cube", "touch anything"
AMBIGUOUS = (ANY_CUBE, ANYTHING)
"""Sentences that more than one object of a scene may satisfy."""

SENTENCES = INSTRUCTIONS + AMBIGUOUS
"""Every sentence of the task."""


def instruction_for(thing: Thing) -> str:
    """The sentence that names an object."""
    return f"touch the {thing.name}"


def satisfies(thing: Thing, instruction: str) -> bool:
    """Whether touching an object is what a sentence asks for.

    Nothing ambiguous is asked in the variant `wrist`: its objects do not count.
    """
    if instruction == instruction_for(thing):
        return True
    is_cube = thing.shape == "cube"
    return not thing.hidden and (instruction == ANYTHING or (instruction == ANY_CUBE and is_cube))


def arrange(rng: np.random.Generator, variant: str) -> tuple[Placement, ...]:
    """Three objects at random places within reach that do not overlap.

    Raises:
        ValueError: the variant is unknown.
    """
    if variant not in VARIANTS:
        raise ValueError(f"variant must be one of {', '.join(VARIANTS)}, got {variant!r}")
    if variant == "wrist":
        things = [HIDDEN_THINGS[i] for i in rng.permutation(len(HIDDEN_THINGS))]
    else:
        things = [OPEN_THINGS[i] for i in rng.choice(len(OPEN_THINGS), 3, replace=False)]
    bearings = np.array(_BEARINGS) + rng.uniform(-_BEARING_NOISE, _BEARING_NOISE, 3)
    radii = rng.uniform(*_RADII, 3)
    yaws = rng.uniform(-0.7, 0.7, 3)
    placements = []
    for thing, bearing, radius, yaw in zip(things, bearings, radii, yaws, strict=True):
        x, y = PAN_AXIS_X + radius * math.cos(bearing), radius * math.sin(bearing)
        if thing.hidden:  # its screen stands between it and the camera
            yaw = math.atan2(FRONT_EYE[1] - y, FRONT_EYE[0] - x)
        placements.append(Placement(thing, float(x), float(y), float(yaw)))
    return tuple(placements)


def add_things(spec: Any) -> None:
    """Adds every object to a `mujoco.MjSpec`; `World` shows those of a scene."""
    mujoco = load_mujoco()
    contact = {"contype": OBJECT_BIT, "conaffinity": TABLE_BIT | OBJECT_BIT | HAND_BIT}
    for thing in THINGS:
        body = spec.worldbody.add_body(name=thing.body)
        body.add_freejoint(name=thing.body)
        common = {"mass": 0.06, "friction": [1, 0.01, 0.001], **contact}
        colour = [*COLOURS[thing.colour], 1]
        if thing.shape == "cube":
            size = [CUBE_HALF_SIZE] * 3
            body.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=size, rgba=colour, **common)
            continue
        radius = HIDDEN_PLATE_RADIUS if thing.hidden else PLATE_RADIUS
        size = [radius, PLATE_HEIGHT / 2, 0]
        body.add_geom(type=mujoco.mjtGeom.mjGEOM_CYLINDER, size=size, rgba=colour, **common)
        if thing.hidden:
            body.add_geom(
                type=mujoco.mjtGeom.mjGEOM_BOX,
                pos=[radius + 2 * _SCREEN_HALF_THICKNESS, 0, (SCREEN_HEIGHT - PLATE_HEIGHT) / 2],
                size=[_SCREEN_HALF_THICKNESS, _SCREEN_HALF_WIDTH, SCREEN_HEIGHT / 2],
                rgba=[*_GREY, 1],
                mass=0.01,
                **contact,
            )
