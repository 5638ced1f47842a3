"""Demonstrations of the touch task: what the cameras saw, and what the expert would do then.

A demonstration lets the expert follow instructions that change meanwhile, from a start anywhere
and with pushes, so that the data covers what a policy in use gets into. Every observation is
labelled with the chunk of every instruction of its scene, not only with that of the one followed:
without that a policy of this size does not learn to listen.

An ambiguous instruction is demonstrated by an expert that chooses an object at random and keeps to
its choice: the label is the object followed. Where that is a wrong one the expert chooses a right
one at random and leaves for it, so that a policy learns to get away from where it should not be.
Between two right ones, on the way from one to the other, there is no label.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

# Before anything is rendered: the optimiser imports it, and with it triton where that is installed,
# whose LLVM ends the process if that of Mesa was loaded first.
import torch._dynamo
from torch import Tensor

from pi0_ros import console
from pi0_ros.sim.expert import CONTROL_SECONDS, TRAVEL, Expert
from pi0_ros.sim.stage import CAMERAS, IMAGE_HEIGHT, IMAGE_WIDTH
from pi0_ros.sim.task import AMBIGUOUS, INSTRUCTIONS, satisfies
from pi0_ros.sim.world import World

OBSERVATIONS_PER_SCENE = 8
_EVERY = 8  # control steps between two observations of a demonstration
_REPLAN = 16  # control steps that are executed of a chunk
_PUSH = 0.04  # chance per control step that something pushes the arm
_PUSH_SIZE = np.array([0.10, 0.06, 0.06, 0.06, 0.04, 0.08])  # radians
_HOME_STARTS = 0.5  # share of demonstrations that begin where the robot rests
_BLOCK = 100  # scenes that one process makes at a time


Row = tuple[np.ndarray, ...]
"""One observation's share of each column of `Demonstrations`."""


@dataclass(frozen=True)
class Demonstrations:
    """Observations with their labels; `n` is their number.

    Attributes:
        images: [n, cameras, height, width, 3] uint8 RGB, the size they have in the model's square.
        state: [n, 6] float32 radians, measured.
        instructions: [n, 3] int64, places in `task.INSTRUCTIONS` of what the scene allows.
        chunks: [n, 3, horizon, 6] float32 radians: the expert's answer to each instruction.
        goals: [n, 3, 6] float32 radians: where the expert goes.
        places: [n, 3, cameras, 2] float32: where in each image the named object is, x and y in
            (-1, 1), right and up; NaN where it is out of view.
        choices: [n, ambiguous] int64: for each of `task.AMBIGUOUS`, which of the three objects the
            expert has chosen; -1 where none is right, or the arm is on its way between two.
        executing: [n, horizon, 6] float32 radians: where a policy leads the arm meanwhile, as in
            `policy.types.ActionPrefix`; NaN in the expert's own demonstrations.
    """

    images: Tensor
    state: Tensor
    instructions: Tensor
    chunks: Tensor
    goals: Tensor
    places: Tensor
    choices: Tensor
    executing: Tensor

    def __len__(self) -> int:
        return len(self.state)

    @staticmethod
    def of(rows: list[Row]) -> Demonstrations:
        """Of what `labelled_observation` gives."""
        columns = zip(*rows, strict=True)
        return Demonstrations(*(torch.from_numpy(np.stack(column)) for column in columns))

    @staticmethod
    def join(parts: list[Demonstrations]) -> Demonstrations:
        """All observations of several sets, in order."""
        columns = zip(*(vars(part).values() for part in parts), strict=True)
        return Demonstrations(*map(torch.cat, columns))


def fitted_size(image_size: int) -> tuple[int, int]:
    """(height, width) in pixels that the cameras' images have within the model's square."""
    ratio = max(IMAGE_WIDTH, IMAGE_HEIGHT) / image_size
    return int(IMAGE_HEIGHT / ratio), int(IMAGE_WIDTH / ratio)


def demonstrate(
    scenes: int,
    *,
    seed: int,
    wrist_share: float,
    horizon: int,
    image_size: int,
    workers: int = 1,
) -> Demonstrations:
    """Let the expert work in many scenes. The result does not depend on `workers`.

    Args:
        scenes: how many; each gives OBSERVATIONS_PER_SCENE observations.
        seed: of scenes, starts and pushes.
        wrist_share: share of scenes of the variant `wrist`.
        horizon: steps of a chunk.
        image_size: side of the model's square. Pictures are rendered at the size that they have
            within it; a test shows how closely they agree with 640x480 ones made to fit.
        workers: processes.
    """
    return in_blocks(_make_block, scenes, workers, (seed, wrist_share, horizon, image_size))


def in_blocks(
    make: Callable[..., Demonstrations], scenes: int, workers: int, more: tuple[object, ...]
) -> Demonstrations:
    """`make(range of scenes, *more)` until all are done, in several processes where asked for."""
    blocks = [
        (make, range(start, min(start + _BLOCK, scenes)), *more)
        for start in range(0, scenes, _BLOCK)
    ]
    parts: list[Demonstrations] = []
    with console.progress(total=scenes, desc="demonstrations", unit="scene") as bar:
        for block, part in zip(blocks, _results(blocks, workers), strict=True):
            parts.append(part)
            bar.update(len(block[1]))
    return Demonstrations.join(parts)


def _results(blocks: list[tuple], workers: int) -> Iterator[Demonstrations]:
    if workers == 1:
        for make, *arguments in blocks:
            yield make(*arguments)
        return
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for arrays in pool.imap(_make_arrays, blocks):
            yield Demonstrations(*map(torch.from_numpy, arrays))
        pool.close()
        pool.join()


def _make_arrays(block: tuple) -> list[np.ndarray]:
    """A block's columns, in what travels between processes as bytes."""
    make, *arguments = block
    return [tensor.numpy() for tensor in vars(make(*arguments)).values()]


def _make_block(
    scenes: range, seed: int, wrist_share: float, horizon: int, image_size: int
) -> Demonstrations:
    height, width = fitted_size(image_size)
    worlds: dict[str, tuple[World, Expert]] = {}
    rows = []
    try:
        for scene in scenes:
            rng = np.random.default_rng((seed, scene))
            variant = "wrist" if rng.random() < wrist_share else "touch"
            if variant not in worlds:
                world = World(0, width, height, variant)
                worlds[variant] = world, Expert(world)
            world, expert = worlds[variant]
            world.reset(int(rng.integers(2**31)))
            expert.forget()
            rows += _demonstration(world, expert, rng, horizon)
    finally:
        for world, _ in worlds.values():
            world.close()
    return Demonstrations.of(rows)


def _demonstration(
    world: World, expert: Expert, rng: np.random.Generator, horizon: int
) -> Iterator[Row]:
    """One row of `Demonstrations` per observation."""
    instructions = world.instructions()
    if rng.random() > _HOME_STARTS:
        world.place_arm(_any_pose(world, expert, rng))
    right = right_objects(world)
    until, followed, choices = 0, None, None
    for step in range(OBSERVATIONS_PER_SCENE * _EVERY):
        if step >= until:
            before, followed = followed, int(rng.integers(len(instructions)))
            choices = _choices(right, before, followed, choices, rng)
            until = step + int(rng.integers(20, 80))
            planned = step
        if rng.random() < _PUSH:
            world.place_arm(world.positions + rng.normal(0.0, _PUSH_SIZE))
        if step % _EVERY == 0:
            yield labelled_observation(world, expert, choices, horizon)
        if step >= planned:
            chunk, planned = expert.chunk(instructions[followed], _REPLAN), step + _REPLAN
        # The first contact is of no interest here: physics run in one go.
        world.stage.command(chunk[step - planned])
        world.stage.advance(CONTROL_SECONDS)


def right_objects(world: World) -> np.ndarray:
    """[ambiguous, objects] bool: which of the scene's objects satisfy which of `task.AMBIGUOUS`."""
    things = [placement.thing for placement in world.placements]
    return np.array([[satisfies(thing, text) for thing in things] for text in AMBIGUOUS])


def _choices(
    right: np.ndarray,
    before: int | None,
    followed: int,
    choices: np.ndarray | None,
    rng: np.random.Generator,
) -> np.ndarray:
    """[ambiguous] int64: what each ambiguous instruction's expert chooses now, -1 for nothing.

    Args:
        right: [ambiguous, objects] bool: which objects satisfy which instruction.
        before: the object followed until now; None at the beginning.
        followed: the one followed from now on.
        choices: the choices until now; None at the beginning.
    """
    chosen = np.full(len(right), -1)
    for i, satisfying in enumerate(right):
        if satisfying[followed]:
            between = before is not None and satisfying[before] and before != followed
            chosen[i] = -1 if between else followed
        elif choices is not None and choices[i] >= 0:
            chosen[i] = choices[i]
        elif satisfying.any():
            chosen[i] = rng.choice(np.flatnonzero(satisfying))
    return chosen


def _any_pose(world: World, expert: Expert, rng: np.random.Generator) -> np.ndarray:
    """[6] radians: somewhere between travelling and touching, over any part of the table."""
    thing = world.placements[rng.integers(len(world.placements))].thing
    pose = TRAVEL + rng.random() * (expert.touch_pose(thing) - TRAVEL)
    pose[0] = rng.uniform(-0.8, 0.8)
    return pose + rng.normal(0.0, _PUSH_SIZE)


def labelled_observation(
    world: World,
    expert: Expert,
    choices: np.ndarray,
    horizon: int,
    executing: np.ndarray | None = None,
) -> Row:
    """What the world shows now, and the expert's answers.

    Args:
        choices: [ambiguous], as in `Demonstrations`.
        executing: [horizon, 6] radians; None: the expert leads the arm.
    """
    instructions = world.instructions()
    state, images = world.positions, world.images()
    goals = np.array([expert.goal(instruction) for instruction in instructions])
    things = [world.thing(instruction) for instruction in instructions]
    places = [[world.in_view(thing, camera) for camera in CAMERAS] for thing in things]
    nowhere = np.full(2, np.nan)
    places = [[nowhere if p is None else p for p in row] for row in places]
    return (
        np.stack([images[camera] for camera in CAMERAS]),
        state.astype(np.float32),
        np.array([INSTRUCTIONS.index(instruction) for instruction in instructions]),
        expert.chunk_from(state, goals, horizon).astype(np.float32),
        goals.astype(np.float32),
        np.array(places, dtype=np.float32),
        choices,
        np.full((horizon, state.size), np.nan, np.float32) if executing is None else executing,
    )
