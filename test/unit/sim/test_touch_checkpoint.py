"""The checkpoints that ship, pi0 and pi0.5: complete, small, and they do what they are told."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pi0_ros.checkpoint.formats import read_checkpoint
from pi0_ros.checkpoint.metadata import read_declared
from pi0_ros.policy.policy import Policy
from pi0_ros.policy.types import Observation
from pi0_ros.sim.task import TOUCH_CHECKPOINT, TOUCH_PI05_CHECKPOINT
from pi0_ros.sim.world import World

STEPS = 10  # executed of each chunk
SECONDS = 8.0


@pytest.fixture(
    scope="module", params=[TOUCH_CHECKPOINT, TOUCH_PI05_CHECKPOINT], ids=["pi0", "pi05"]
)
def checkpoint(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.fixture(scope="module")
def policy(checkpoint: Path) -> Policy:
    return Policy.load(checkpoint, action_dt=0.04)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    made = World(0)
    yield made
    made.close()


def touch(policy: Policy, world: World, told: str) -> str | None:
    """The object touched first while the policy is told something."""
    world.clear_touch()
    end = world.time + SECONDS
    while world.touched is None and world.time < end:
        chunk = policy.infer(Observation(world.images(), world.positions, told))
        for command in chunk.positions[:STEPS]:
            world.step(command, chunk.dt)
    return world.touched


def test_it_is_small_and_says_what_it_speaks(checkpoint: Path) -> None:
    assert (checkpoint / "model.safetensors").stat().st_size <= 4_000_000
    assert "python -m examples.touch_task" in (checkpoint / "README.md").read_text()
    read = read_checkpoint(checkpoint)
    variant = "pi05" if checkpoint == TOUCH_PI05_CHECKPOINT else "pi0"
    assert read.config.variant == variant
    assert read.prompt_state == (6 if variant == "pi05" else 0)
    assert read.format == "lerobot-0.4"
    assert read.cameras == World.CAMERAS
    declared = read_declared(checkpoint, 6)
    assert declared.joints == World.JOINTS
    assert declared.fps == 25


def test_three_objects_in_a_row(policy: Policy, world: World) -> None:
    """The second and third instruction come while the hand rests on the object before."""
    right = 0
    for seed in (6_000_000, 6_000_001):
        world.reset(seed)
        for instruction in world.instructions():
            right += touch(policy, world, instruction) == world.target(instruction)
    assert right >= 5


def test_the_first_chunk_begins_where_the_arm_is(policy: Policy, world: World) -> None:
    """pi0.5 reads in its prompt where that is, less exactly than pi0 gets it."""
    most = 0.4 if policy.checkpoint.config.pi05 else 0.25
    for seed in range(6):
        world.reset(seed)
        images, state = world.images(), world.positions
        for instruction in world.instructions():
            chunk = policy.infer(Observation(images, state, instruction))
            assert np.abs(chunk.positions[0] - state).max() < most
