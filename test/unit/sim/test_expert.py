"""The scripted expert touches what is named, from anywhere, and only that."""

from collections.abc import Iterator

import numpy as np
import pytest

from pi0_ros.sim.expert import CONTROL_SECONDS, TRAVEL, Expert
from pi0_ros.sim.task import VARIANTS
from pi0_ros.sim.world import World


@pytest.fixture(scope="module")
def worlds() -> Iterator[dict[str, World]]:
    made = {variant: World(0, 64, 48, variant) for variant in VARIANTS}
    yield made
    for world in made.values():
        world.close()


def follow(world: World, expert: Expert, instruction: str, seconds: float = 8.0) -> str | None:
    """The first object touched while the expert plans anew every ten steps."""
    world.clear_touch()
    for _ in range(round(seconds / CONTROL_SECONDS / 10)):
        for command in expert.chunk(instruction)[:10]:
            world.step(command, CONTROL_SECONDS)
        if world.touched is not None:
            return world.touched
    return None


@pytest.mark.parametrize("variant", VARIANTS)
def test_three_instructions_in_a_row(worlds: dict[str, World], variant: str) -> None:
    """Without a reset between them: the hand lifts, turns and comes down on the next."""
    world = worlds[variant]
    right = 0
    for seed in range(5):
        world.reset(1000 + seed)
        expert = Expert(world)
        for instruction in np.random.default_rng(seed).permutation(world.instructions()):
            right += follow(world, expert, str(instruction)) == world.target(str(instruction))
    assert right >= 14


def test_a_chunk_is_a_smooth_motion_within_the_ranges(worlds: dict[str, World]) -> None:
    world = worlds["touch"]
    world.reset(0)
    chunk = Expert(world).chunk(world.instructions()[0], 80)
    assert chunk.shape == (80, 6)
    low, high = world.stage.model.jnt_range[:6].T
    assert (chunk >= low).all() and (chunk <= high).all()
    assert np.abs(np.diff(chunk, axis=0)).max() <= 0.0501, "faster than 1.25 rad/s"
    assert np.abs(chunk[0] - world.positions).max() <= 0.1001
    np.testing.assert_allclose(chunk[-1], Expert(world).goal(world.instructions()[0]), atol=0.05)


def test_chunks_of_many_goals_are_those_of_each(worlds: dict[str, World]) -> None:
    world = worlds["touch"]
    expert = Expert(world)
    goals = np.array([expert.goal(instruction) for instruction in world.instructions()])
    together = expert.chunk_from(world.positions, goals, 20)
    for goal, chunk in zip(goals, together, strict=True):
        np.testing.assert_array_equal(expert.chunk_from(world.positions, goal, 20), chunk)


def test_the_hand_lifts_before_it_turns(worlds: dict[str, World]) -> None:
    world = worlds["touch"]
    world.reset(3)
    expert = Expert(world)
    one, _, other = (expert.goal(instruction) for instruction in world.instructions())
    chunk = expert.chunk_from(one, other, 80)
    half_lifted = np.abs(chunk[:, 1:4] - TRAVEL[1:4]).max(1) < 0.5
    first = int(np.argmax(half_lifted))
    assert half_lifted.any()
    assert np.abs(chunk[first, 0] - one[0]) < 0.25 * np.abs(other[0] - one[0])


def test_what_no_camera_sees_is_looked_for(worlds: dict[str, World]) -> None:
    world = worlds["wrist"]
    world.reset(0)
    expert = Expert(world)
    instruction = world.instructions()[0]
    assert not np.array_equal(expert.goal(instruction), TRAVEL)
    world.place_arm(np.array([1.8, *TRAVEL[1:]]))
    np.testing.assert_array_equal(expert.goal(instruction), TRAVEL)
    assert follow(world, expert, instruction) == world.target(instruction)
