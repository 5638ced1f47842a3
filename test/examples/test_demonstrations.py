"""What the trainer is shown: complete, repeatable, and right about who is where."""

import numpy as np
import pytest
import torch

from examples.touch_task.demonstrations import (
    OBSERVATIONS_PER_SCENE,
    Demonstrations,
    _choices,
    demonstrate,
)
from pi0_ros.model.config import TINY
from pi0_ros.sim.task import AMBIGUOUS, ANY_CUBE, ANYTHING, COLOURS, INSTRUCTIONS


def test_shapes_and_units(demonstrations: Demonstrations) -> None:
    n = 6 * OBSERVATIONS_PER_SCENE
    shapes = {name: tuple(value.shape) for name, value in vars(demonstrations).items()}
    assert shapes == {
        "images": (n, 2, 48, 64, 3),
        "state": (n, 6),
        "instructions": (n, 3),
        "chunks": (n, 3, TINY.horizon, 6),
        "goals": (n, 3, 6),
        "places": (n, 3, 2, 2),
        "choices": (n, len(AMBIGUOUS)),
        "executing": (n, TINY.horizon, 6),
    }
    assert len(demonstrations) == n
    assert demonstrations.images.dtype == torch.uint8
    # Radians: an arm over its table, not degrees and not a normalised range.
    assert 0.2 < demonstrations.state[:, 1].std() < 1.5
    assert demonstrations.chunks.abs().max() < 3.2


def test_every_observation_is_labelled_with_every_instruction(
    demonstrations: Demonstrations,
) -> None:
    d = demonstrations
    for row in range(0, len(d), 5):
        assert len(set(d.instructions[row].tolist())) == 3
        ends = d.chunks[row, :, -1, 0]
        goals = d.goals[row, :, 0]
        assert torch.equal(ends.argsort(), goals.argsort()), "chunks go where the goals are"


def test_who_may_choose_keeps_to_the_choice(demonstrations: Demonstrations) -> None:
    """The first object of a demonstration, until it changes; and plates are left for cubes."""
    d, chosen, leaves = demonstrations, set(), 0
    for first in range(0, len(d), OBSERVATIONS_PER_SCENE):
        rows = slice(first, first + OBSERVATIONS_PER_SCENE)
        anything = d.choices[rows, AMBIGUOUS.index(ANYTHING)].tolist()
        cube = d.choices[rows, AMBIGUOUS.index(ANY_CUBE)].tolist()
        kept = [choice for choice in anything if choice >= 0]
        assert len(set(kept[:2])) <= 1, "within the first 20 steps nothing else is followed"
        chosen |= set(kept)
        named = [INSTRUCTIONS[i].split()[2:] for i in d.instructions[first].tolist()]
        cubes = {i for i, (_, shape) in enumerate(named) if shape == "cube"}
        assert set(cube) <= cubes | {-1}
        # Whoever follows a plate is told which cube to leave for.
        leaves += sum(
            a >= 0 and a not in cubes and c >= 0 for a, c in zip(anything, cube, strict=True)
        )
    assert len(chosen) > 1, "not always the same place"
    assert leaves > 0
    assert (d.choices >= 0).any(dim=0).all()


@pytest.mark.parametrize(
    ("before", "followed", "choices", "expected"),
    [
        (None, 0, None, (0, 0)),  # the first object is the choice
        (0, 0, (0, 0), (0, 0)),
        (0, 1, (0, 0), (-1, -1)),  # from a cube to a cube: between two right ones
        (0, 2, (0, 0), (0, -1)),  # pushed to the plate: back to the cube; anything: between two
        (2, 1, (0, 2), (1, -1)),  # from the plate to a cube
        (2, 2, (1, 2), (1, 2)),
    ],
)
def test_choices(
    before: int | None,
    followed: int,
    choices: tuple[int, int] | None,
    expected: tuple[int, int],
) -> None:
    """Two cubes and a plate; the rows are `touch a cube` and `touch anything`."""
    right = np.array([[True, True, False], [True, True, True]])
    given = None if choices is None else np.array(choices)
    rng = np.random.default_rng(0)
    assert tuple(_choices(right, before, followed, given, rng)) == expected


def test_who_follows_a_wrong_object_chooses_a_right_one_at_random() -> None:
    right = np.array([[True, True, False], [False, False, False]])
    rng = np.random.default_rng(0)
    chosen = [tuple(_choices(right, None, 2, None, rng)) for _ in range(20)]
    assert set(chosen) == {(0, -1), (1, -1)}, "and nothing where there is no right one"


def test_chunks_begin_at_the_state(demonstrations: Demonstrations) -> None:
    d = demonstrations
    assert (d.chunks[:, :, 0] - d.state[:, None]).abs().max() <= 0.101


def test_places_show_the_named_colour(demonstrations: Demonstrations) -> None:
    """In the wrist camera, where nothing hides a plate but a finger."""
    d = demonstrations
    right, count = 0, 0
    for row in range(len(d)):
        for which in range(3):
            x, y = d.places[row, which, 1].tolist()
            if np.isnan(x):
                continue
            column, line = int((1 + x) / 2 * 64), int((1 - y) / 2 * 48)
            pixel = d.images[row, 1, line, column].numpy().astype(float)
            colour = INSTRUCTIONS[d.instructions[row, which]].split()[2]
            rgb = np.array(COLOURS[colour])
            right += pixel @ rgb > 0.97 * np.linalg.norm(pixel) * np.linalg.norm(rgb)
            count += 1
    assert count > 60
    assert right > 0.6 * count


def test_same_seed_gives_the_same_whatever_the_processes(demonstrations: Demonstrations) -> None:
    settings = {"seed": 3, "wrist_share": 0.5, "horizon": 4, "image_size": 64}
    one = demonstrate(2, **settings)
    for workers in (1, 2):
        again = demonstrate(2, **settings, workers=workers)
        for name, value in vars(one).items():
            np.testing.assert_array_equal(value, getattr(again, name), err_msg=name)
    other = demonstrate(2, **{**settings, "seed": 4})
    assert not torch.equal(one.state, other.state)
