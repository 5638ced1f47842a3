"""The simulated robot and its task, as the ROS node, the training and the evaluation use them."""

from __future__ import annotations

import numpy as np

from pi0_ros.sim.stage import (
    CAMERAS,
    HOME,
    IMAGE_HEIGHT,
    IMAGE_WIDTH,
    JOINTS,
    TIP_SITE,
    Stage,
    build_model,
    load_mujoco,
)
from pi0_ros.sim.task import (
    AMBIGUOUS,
    THINGS,
    VARIANTS,
    Placement,
    Thing,
    add_things,
    arrange,
    instruction_for,
    satisfies,
)

_START_NOISE = (0.20, 0.08, 0.08, 0.08, 0.06, 0.08)  # radians
_LET_GO = 0.3  # seconds without contact after which a touch is over
_AWAY = (0.0, 0.0, 5.0)  # metres: where the objects of other scenes float, invisible


class World:
    """An SO-101 arm, three objects to touch and two cameras in MuJoCo.

    Deterministic: the same seed and the same commands give the same positions and images on one
    machine. Pictures need OpenGL, which belongs to a thread: call `images` and `close` from one
    and the same; `images` raises `stage.RenderError` where there is none.

    Args:
        seed: of the first arrangement; see `reset`.
        width, height: of the images, pixels; at most 640 x 480.
        variant: `touch` or `wrist`; see `task`.

    Raises:
        UserError: mujoco is not installed.
        ValueError: the variant is unknown, or the images are too large.
    """

    JOINTS: tuple[str, ...] = JOINTS
    CAMERAS: tuple[str, ...] = CAMERAS

    def __init__(
        self,
        seed: int = 0,
        width: int = IMAGE_WIDTH,
        height: int = IMAGE_HEIGHT,
        variant: str = "touch",
    ) -> None:
        if variant not in VARIANTS:
            raise ValueError(f"variant must be one of {', '.join(VARIANTS)}, got {variant!r}")
        self.variant = variant
        self.stage = Stage(build_model(add_things), width, height)
        self.placements: tuple[Placement, ...] = ()
        self.touched: str | None = None
        model = self.stage.model
        self._names = {model.body(thing.body).id: thing.name for thing in THINGS}
        # Object -> when the hand last touched it, simulated seconds; objects touched since before.
        self._contact: dict[int, float] = {}
        self._held: set[int] = set()
        self._looks = (
            model.geom_rgba.copy(),
            model.geom_contype.copy(),
            model.geom_conaffinity.copy(),
        )
        self.reset(seed)

    # ---- the scene ----------------------------------------------------------------------------

    def reset(self, seed: int) -> None:
        """A new arrangement of objects; the arm rests near HOME and time is 0.

        Both follow from `seed` alone.
        """
        rng = np.random.default_rng(seed)
        self.arrange(arrange(rng, self.variant), np.asarray(HOME) + rng.normal(0, _START_NOISE))

    def arrange(self, placements: tuple[Placement, ...], joints: np.ndarray) -> None:
        """Puts objects at places and the arm, at rest, at joint positions [6] in radians."""
        self.placements = placements
        model, data = self.stage.model, self.stage.data
        mujoco = load_mujoco()
        mujoco.mj_resetData(model, data)
        places = {placement.thing: placement for placement in placements}
        model.geom_rgba[:], model.geom_contype[:], model.geom_conaffinity[:] = self._looks
        for thing in THINGS:
            body = model.body(thing.body)
            start = model.joint(thing.body).qposadr[0]
            place = places.get(thing)
            model.body_gravcomp[body.id] = float(place is None)
            if place is None:
                data.qpos[start : start + 3] = _AWAY
                geoms = slice(body.geomadr[0], body.geomadr[0] + body.geomnum[0])
                model.geom_rgba[geoms, 3] = 0
                model.geom_contype[geoms] = model.geom_conaffinity[geoms] = 0
            else:
                rest = thing.height / 2
                data.qpos[start : start + 3] = place.x, place.y, rest
                data.qpos[start + 3 : start + 7] = _about_z(place.yaw)
        self.place_arm(joints)
        self._contact.clear()
        self.clear_touch()

    def place_arm(self, joints: np.ndarray) -> None:
        """Puts the arm, at rest, at joint positions [6] in radians, limited to the ranges."""
        data = self.stage.data
        low, high = self.stage.model.jnt_range[: len(JOINTS)].T
        data.qpos[: len(JOINTS)] = np.clip(joints, low, high)
        data.qvel[: len(JOINTS)] = 0.0
        self.stage.command(data.qpos[: len(JOINTS)])
        load_mujoco().mj_forward(self.stage.model, data)

    def instructions(self) -> tuple[str, ...]:
        """The instructions that name an object of this scene, in the order of its objects."""
        return tuple(instruction_for(placement.thing) for placement in self.placements)

    def ambiguous_instructions(self) -> tuple[str, ...]:
        """The instructions that more than one object of this scene satisfies."""
        things = [placement.thing for placement in self.placements]
        return tuple(text for text in AMBIGUOUS if sum(satisfies(t, text) for t in things) > 1)

    def target(self, instruction: str) -> str:
        """The object that an instruction names, such as `red cube`.

        Raises:
            ValueError: it names none of this scene's.
        """
        return self.thing(instruction).name

    def targets(self, instruction: str) -> tuple[str, ...]:
        """The names of the objects that satisfy an instruction; at least one.

        Raises:
            ValueError: none of this scene's does.
        """
        things = [placement.thing for placement in self.placements]
        names = tuple(thing.name for thing in things if satisfies(thing, instruction))
        if not names:
            raise self._nothing(instruction)
        return names

    def thing(self, instruction: str) -> Thing:
        """As `target`, as the object's description."""
        for placement in self.placements:
            if instruction_for(placement.thing) == instruction:
                return placement.thing
        raise self._nothing(instruction)

    def _nothing(self, instruction: str) -> ValueError:
        possible = self.instructions() + self.ambiguous_instructions()
        return ValueError(
            f"no object here is meant by {instruction!r}; instructions of this scene: "
            + ", ".join(possible)
        )

    def top(self, thing: Thing) -> np.ndarray:
        """[3] metres in the base frame: the middle of the surface to touch, where it is now."""
        centre = self.stage.data.body(thing.body).xpos
        return centre + np.array([0.0, 0.0, thing.height / 2])

    def nearest(self, joints: np.ndarray) -> str:
        """The name of the object nearest to the fingertip if the arm was at joint positions [6]."""
        mujoco, model = load_mujoco(), self.stage.model
        data = mujoco.MjData(model)
        data.qpos[:] = self.stage.data.qpos
        data.qpos[: len(JOINTS)] = joints
        mujoco.mj_kinematics(model, data)
        tip = data.site(TIP_SITE).xpos
        things = [placement.thing for placement in self.placements]
        return min(things, key=lambda thing: float(np.linalg.norm(self.top(thing) - tip))).name

    def in_view(self, thing: Thing, camera: str) -> np.ndarray | None:
        """[2]: where `top` is in an image of a camera, as of `Stage.project`; None if it is not."""
        (place,) = self.stage.project(self.top(thing)[None], camera)
        return place if np.abs(place).max() < 1 else None

    # ---- the robot ----------------------------------------------------------------------------

    @property
    def time(self) -> float:
        """Seconds of simulated time since the last reset."""
        return float(self.stage.data.time)

    @property
    def positions(self) -> np.ndarray:
        """[6] float64 radians in the order of JOINTS, measured."""
        return self.stage.joint_positions()

    @property
    def velocities(self) -> np.ndarray:
        """[6] float64 radians per second in the order of JOINTS, measured."""
        return self.stage.joint_velocities()

    def step(self, command: np.ndarray, seconds: float) -> None:
        """Holds a joint position command for some time.

        Args:
            command: [6] radians in the order of JOINTS, limited to the joints' ranges.
            seconds: simulated time, at least 0.

        Raises:
            ValueError: the command has another shape or is not finite, or the time is negative.
        """
        command = np.asarray(command, dtype=float)
        if command.shape != (len(JOINTS),) or not np.isfinite(command).all():
            raise ValueError(f"a command must be {len(JOINTS)} finite radians, got {command}")
        if not (np.isfinite(seconds) and seconds >= 0):
            raise ValueError(f"seconds must be at least 0, got {seconds}")
        self.stage.command(command)
        self.stage.advance(seconds, self._watch)

    def _watch(self) -> None:
        """After every step of physics: which object is touched first, which one no longer."""
        now = self.stage.data.time
        for body in self.stage.bodies_touched():
            if body not in self._names:
                continue
            self._contact[body] = now
            if self.touched is None and body not in self._held:
                self.touched = self._names[body]
        self._held = {b for b in self._held if now - self._contact[b] < _LET_GO}

    def clear_touch(self) -> None:
        """Forgets the first contact: `touched` is None until the next one.

        An object that the hand touches, or touched a moment ago, counts again once the hand was off
        it for _LET_GO.
        """
        self.touched = None
        now = self.stage.data.time
        self._held = {b for b, last in self._contact.items() if now - last < _LET_GO}

    def images(self) -> dict[str, np.ndarray]:
        """What the cameras see now: name -> [height, width, 3] uint8 RGB, new arrays."""
        return {camera: self.stage.render(camera) for camera in CAMERAS}

    def close(self) -> None:
        """Frees the OpenGL context."""
        self.stage.close()


def _about_z(yaw: float) -> tuple[float, float, float, float]:
    """Quaternion (w, x, y, z)."""
    return float(np.cos(yaw / 2)), 0.0, 0.0, float(np.sin(yaw / 2))
