"""The simulated robot and its task: determinism, contacts, words, and what each camera sees."""

from collections.abc import Iterator

import numpy as np
import pytest

from pi0_ros.checkpoint.checkpoint import ImageRule
from pi0_ros.policy.preprocess import fit_image
from pi0_ros.sim.expert import Expert
from pi0_ros.sim.stage import HOME, Stage, build_model
from pi0_ros.sim.task import (
    ANY_CUBE,
    ANYTHING,
    COLOURS,
    HIDDEN_THINGS,
    INSTRUCTIONS,
    OPEN_THINGS,
    VARIANTS,
    add_things,
    arrange,
)
from pi0_ros.sim.world import World


@pytest.fixture(scope="module")
def worlds() -> Iterator[dict[str, World]]:
    made = {variant: World(0, variant=variant) for variant in VARIANTS}
    yield made
    for world in made.values():
        world.close()


@pytest.fixture
def world(worlds: dict[str, World]) -> World:
    worlds["touch"].reset(0)
    return worlds["touch"]


def pixels_of(image: np.ndarray, colour: str) -> int:
    """How many pixels have the hue of a colour, in light or shade."""
    rgb = np.array(COLOURS[colour])
    pixels = image.reshape(-1, 3).astype(float)
    norms = np.linalg.norm(pixels, axis=1)
    cosine = pixels @ rgb / np.maximum(norms, 1) / np.linalg.norm(rgb)
    return int(((cosine > 0.98) & (norms > 40)).sum())


def run(world: World, seed: int) -> list[np.ndarray]:
    """A second of motion: positions, velocities, images."""
    world.reset(seed)
    expert = Expert(world)
    for command in expert.chunk(world.instructions()[0])[:25]:
        world.step(command, 0.04)
    return [world.positions, world.velocities, *world.images().values()]


def test_same_seed_and_commands_give_the_same_numbers(worlds: dict[str, World]) -> None:
    first, other = run(worlds["touch"], 5), run(worlds["touch"], 6)
    again = run(worlds["touch"], 5)
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    assert any((one != two).any() for one, two in zip(first, other, strict=True))
    fresh = World(5)
    for one, two in zip(first, run(fresh, 5), strict=True):
        np.testing.assert_array_equal(one, two)
    fresh.close()


def test_reset_starts_anew(world: World) -> None:
    world.step(world.positions, 0.5)
    assert world.time == pytest.approx(0.5)
    world.reset(1)
    assert world.time == 0.0
    assert world.touched is None
    assert np.abs(world.velocities).max() == 0.0
    assert 0 < np.abs(world.positions - HOME).max() < 1.0


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("variant", VARIANTS)
def test_objects_rest_on_the_table(worlds: dict[str, World], variant: str, seed: int) -> None:
    world = worlds[variant]
    world.reset(seed)
    before = {p.thing: world.top(p.thing) for p in world.placements}
    world.step(world.positions, 1.0)
    for thing, place in before.items():
        assert place[2] == pytest.approx(thing.height)
        np.testing.assert_allclose(world.top(thing), place, atol=0.001)


def test_three_objects_and_a_sentence_for_each(worlds: dict[str, World]) -> None:
    for world in worlds.values():
        for seed in range(20):
            world.reset(seed)
            names = [world.target(instruction) for instruction in world.instructions()]
            assert len(set(names)) == 3
            assert set(world.instructions()) <= set(INSTRUCTIONS)
            for name, instruction in zip(names, world.instructions(), strict=True):
                assert instruction == f"touch the {name}"


def test_both_words_matter() -> None:
    """Most scenes have two objects of one colour, all have two of one shape."""
    shared_colour = 0
    for seed in range(200):
        things = [p.thing for p in arrange(np.random.default_rng(seed), "touch")]
        shared_colour += len({t.colour for t in things}) < 3
        assert len({t.shape for t in things}) < 3
    assert 90 < shared_colour < 150


def test_an_instruction_of_another_scene_is_an_error(world: World) -> None:
    absent = next(text for text in INSTRUCTIONS if text not in world.instructions())
    with pytest.raises(ValueError, match=f"meant by '{absent}'.*{world.instructions()[2]}"):
        world.target(absent)


def test_ambiguous_instructions_leave_the_choice(worlds: dict[str, World]) -> None:
    world, seen = worlds["touch"], set()
    for seed in range(10):
        world.reset(seed)
        names = [placement.thing.name for placement in world.placements]
        cubes = [name for name in names if name.endswith("cube")]
        ambiguous = world.ambiguous_instructions()
        assert ambiguous == ((ANY_CUBE, ANYTHING) if len(cubes) > 1 else (ANYTHING,))
        assert set(world.targets(ANYTHING)) == set(names)
        for instruction, name in zip(world.instructions(), names, strict=True):
            assert world.targets(instruction) == (name,)
        if cubes:
            assert set(world.targets(ANY_CUBE)) == set(cubes)
        else:
            with pytest.raises(ValueError, match=f"meant by '{ANY_CUBE}'.*{ANYTHING}"):
                world.targets(ANY_CUBE)
        with pytest.raises(ValueError, match="meant by"):
            world.thing(ANYTHING)
        seen.add(len(cubes))
    assert len(seen) > 2
    assert worlds["wrist"].ambiguous_instructions() == ()


def test_nearest_is_what_the_finger_is_at(world: World) -> None:
    expert, before = Expert(world), world.positions
    for placement in world.placements:
        assert world.nearest(expert.touch_pose(placement.thing)) == placement.thing.name
    np.testing.assert_array_equal(world.positions, before)


def test_the_object_that_the_hand_meets_is_touched(world: World) -> None:
    instruction = world.instructions()[1]
    thing = world.thing(instruction)
    pose = Expert(world).touch_pose(thing)
    world.place_arm(pose + np.array([0.0, -0.25, 0.0, 0.0, 0.0, 0.0]))
    world.step(world.positions, 0.2)
    assert world.touched is None
    world.step(pose, 1.0)
    assert world.touched == world.target(instruction)


def test_what_the_hand_rests_on_counts_again_once_let_go(world: World) -> None:
    instruction = world.instructions()[1]
    pose = Expert(world).touch_pose(world.thing(instruction))
    above = pose + np.array([0.0, -0.25, 0.0, 0.0, 0.0, 0.0])
    world.place_arm(above)
    world.step(pose, 1.0)
    world.clear_touch()
    world.step(pose, 0.5)
    assert world.touched is None, "the same contact was counted twice"
    world.step(above, 0.8)
    assert world.touched is None
    world.step(pose, 1.0)
    assert world.touched == world.target(instruction)


def test_the_first_contact_stays(world: World) -> None:
    expert = Expert(world)
    one, other = world.instructions()[:2]
    for instruction in (one, other):
        for _ in range(8):
            for command in expert.chunk(instruction)[:10]:
                world.step(command, 0.04)
    assert world.touched == world.target(one)


def test_the_table_is_nothing_to_touch(world: World) -> None:
    world.step(np.array([0.9, 0.9, 0.2, 1.0, 0.0, 0.0]), 1.5)
    assert world.stage.bodies_touched(), "this should press on the table"
    assert world.touched is None


@pytest.mark.parametrize(
    ("command", "seconds"),
    [(np.zeros(5), 0.1), (np.full(6, np.nan), 0.1), (np.zeros(6), -0.1), (np.zeros(6), np.inf)],
)
def test_bad_commands_are_refused(world: World, command: np.ndarray, seconds: float) -> None:
    before = world.time
    with pytest.raises(ValueError, match="must be"):
        world.step(command, seconds)
    assert world.time == before


def test_bad_variants_and_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="variant must be one of touch, wrist, got 'push'"):
        World(variant="push")
    with pytest.raises(ValueError, match="at most 640x480, got 1280x960"):
        World(width=1280, height=960)


def test_cameras_show_the_objects_of_the_scene_and_no_others(world: World) -> None:
    for seed in range(5):
        world.reset(seed)
        front = world.images()["front"]
        assert front.shape == (480, 640, 3)
        colours = {p.thing.colour for p in world.placements}
        for colour in COLOURS:
            seen = pixels_of(front, colour)
            assert seen > 300 if colour in colours else seen == 0, (seed, colour, seen)


def test_front_camera_never_sees_a_hidden_colour_and_the_wrist_camera_does(
    worlds: dict[str, World],
) -> None:
    world = worlds["wrist"]
    for seed in range(8):
        world.reset(seed)
        world.place_arm(np.asarray(HOME))
        images = world.images()
        for thing in HIDDEN_THINGS:
            assert pixels_of(images["front"], thing.colour) == 0, f"seed {seed}: {thing}"
        seen = [pixels_of(images["wrist"], thing.colour) for thing in HIDDEN_THINGS]
        # A finger may be before one of them; the third colour follows from two.
        assert sorted(seen)[1] > 300, f"seed {seed}: {seen}"


def test_in_view_is_where_the_camera_shows_it(world: World) -> None:
    thing = world.placements[0].thing
    x, y = world.in_view(thing, "front")
    column, row = round((1 + x) / 2 * 640), round((1 - y) / 2 * 480)
    patch = world.images()["front"][row - 2 : row + 3, column - 2 : column + 3]
    assert pixels_of(patch, thing.colour) == 25
    world.place_arm(np.array([1.8, *HOME[1:]]))
    assert world.in_view(thing, "wrist") is None


def test_small_images_are_what_the_policy_makes_of_large_ones(world: World) -> None:
    """Training renders at the model's size; the robot sends 640x480, which the policy shrinks."""
    small = Stage(build_model(add_things), 64, 48)
    for seed in range(4):
        world.reset(seed)
        small.data.qpos[:] = world.stage.data.qpos
        small.model.geom_rgba[:] = world.stage.model.geom_rgba
        small.command(world.positions)
        small._mujoco.mj_forward(small.model, small.data)
        for camera, large in world.images().items():
            fitted = fit_image(large, 64, ImageRule(antialias=False, centred=True))[:, 8:56]
            direct = small.render(camera) / 127.5 - 1.0
            difference = np.abs(fitted.permute(1, 2, 0).numpy() - direct) * 127.5
            assert difference.mean() < 2.5
            assert (difference.max(axis=2) > 20).mean() < 0.04, "more than edges differ"
            shifted = np.abs(fitted.permute(1, 2, 0).numpy()[:, 1:] - direct[:, :-1]) * 127.5
            assert shifted.mean() > 2 * difference.mean(), "a pixel's shift would not be seen"
    small.close()


def test_things_have_names_of_their_own() -> None:
    assert len({thing.name for thing in OPEN_THINGS}) == 6
    assert len({thing.body for thing in OPEN_THINGS + HIDDEN_THINGS}) == 9
