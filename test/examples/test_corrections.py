"""A policy leads the arm, and the expert says what to do from there."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from examples.touch_task.__main__ import main
from examples.touch_task.corrections import Follower, correct
from examples.touch_task.data import TrainingData, led_chunk
from examples.touch_task.demonstrations import Demonstrations
from examples.touch_task.tokenizer import write_task_tokenizer
from pi0_ros.model.config import TINY
from pi0_ros.policy.types import ActionChunk, ActionPrefix, Observation
from pi0_ros.sim.expert import Expert
from pi0_ros.sim.stage import HOME, JOINTS
from pi0_ros.sim.task import AMBIGUOUS, SENTENCES, TOUCH_CHECKPOINT, Placement, Thing
from pi0_ros.sim.world import World


@pytest.fixture(scope="module")
def corrections() -> Demonstrations:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("examples.touch_task.corrections._MASTERED", 1.0)
        return correct(TOUCH_CHECKPOINT, 3, seed=0, image_size=TINY.image_size)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    made = World(0, 64, 48)
    yield made
    made.close()


def test_rows_are_those_of_demonstrations(
    corrections: Demonstrations, demonstrations: Demonstrations
) -> None:
    joined = Demonstrations.join([demonstrations, corrections])
    assert len(joined) == len(demonstrations) + len(corrections)
    assert joined.executing[: len(demonstrations)].isnan().all()
    assert (corrections.choices >= 0).any(dim=1).all(), "every scene can be asked for anything"


def test_what_executes_begins_at_the_arm(corrections: Demonstrations) -> None:
    d = corrections
    led = d.executing[:, 0, 0].isfinite()
    assert led.any() and d.executing[led].isfinite().all()
    assert (d.executing[led, 0] - d.state[led]).abs().max() < 0.3


class _Policy:
    """Stays where it is."""

    cameras, horizon, rtc_max_delay = ("front", "wrist"), 50, 12

    def reset(self) -> None: ...

    def infer(self, observation: Observation, prefix: ActionPrefix | None = None) -> ActionChunk:
        positions = np.tile(observation.state, (50, 1)).astype(np.float32)
        return ActionChunk(positions, 0.04, observation.stamp, 0, seed=0)


def test_the_expert_chooses_what_the_arm_is_led_to(world: World) -> None:
    """And keeps to it until another object is clearly nearer; at random while it is led nowhere."""
    things = Thing("red", "cube"), Thing("green", "plate"), Thing("blue", "cube")
    bearings = (-0.5, 0.0, 0.5)
    places = [
        Placement(thing, 0.25 * np.cos(angle), 0.25 * np.sin(angle), 0.0)
        for thing, angle in zip(things, bearings, strict=True)
    ]
    world.arrange(tuple(places), np.asarray(HOME))
    pans = [Expert(world).goal(text)[0] for text in world.instructions()]
    middle = (pans[0] + pans[2]) / 2
    follower = Follower(_Policy(), world, np.random.default_rng(0))

    def chosen(pan: float | None) -> tuple[int, ...]:
        """What `touch a cube` and `touch anything` choose."""
        observation = Observation({}, world.positions, AMBIGUOUS[0])
        prefix = None
        if pan is not None:
            positions = np.tile(world.positions, (50, 1)).astype(np.float32)
            positions[-1, 0] = pan
            prefix = ActionPrefix(positions, np.zeros(50, np.float32), 0)
        follower.infer(observation, prefix=prefix)
        row = follower.rows[-1]
        assert np.isfinite(row[-1]).all() == (pan is not None)
        return tuple(int(choice) for choice in row[-2])

    follower.reset()
    assert chosen(pans[1] + 0.05 * (pans[2] - middle)) == (2, 1)
    side = np.sign(pans[0] - middle)
    assert chosen(middle + 0.05 * side) == (2, 1), "hardly nearer to the other cube"
    assert chosen(middle + 0.15 * side)[0] == 0
    first = set()
    for _ in range(20):
        follower.reset()
        first.add(chosen(None))
    assert {cube for cube, _ in first} == {0, 2} and {any_ for _, any_ in first} == {0, 1, 2}


def test_chunks_go_on_from_what_executes(tmp_path: Path, corrections: Demonstrations) -> None:
    write_task_tokenizer(tmp_path, SENTENCES)
    data = TrainingData(corrections, TINY, tmp_path, torch.Generator().manual_seed(0))
    rows = corrections.executing[:, 0, 0].isfinite().nonzero()[:, 0]
    chosen, delays = torch.zeros_like(rows), rows % 13
    batch = data.batch(rows, chosen, corrections.instructions[rows, chosen], delays)
    actions = batch.actions.numpy() * data.action["std"] + data.action["mean"]
    for i, row in enumerate(rows):
        given = int(delays[i])
        if given:
            executing = corrections.executing[row, :given].numpy()
            np.testing.assert_allclose(actions[i, :given], executing, atol=1e-5)
        else:
            label = corrections.chunks[row, 0].numpy()
            np.testing.assert_allclose(actions[i], label, atol=1e-5)
    goals = corrections.goals[rows, 0, 0].numpy()
    far = np.abs(actions[:, -1, 0] - goals) < np.abs(actions[:, 0, 0] - goals) + 1e-3
    assert far.all(), "towards the goal, whatever was given"


def test_the_first_step_executes_and_the_rest_is_the_experts() -> None:
    executing = np.zeros((1, 50, len(JOINTS)))
    goal = np.array([[0.3, -1.25, 0.85, 0.95, HOME[4], HOME[5]]])
    chunk = led_chunk(executing, goal, np.array([10]))
    assert not chunk[0, :10].any()
    assert np.abs(np.diff(chunk[0, 9:], axis=0)).max() <= 0.05 + 1e-9
    np.testing.assert_allclose(chunk[0, -1, 1:4], goal[0, 1:4], atol=0.2)


def test_without_a_policy_there_is_nothing_to_correct(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "out"), "--corrections", "3"]) == 1
    assert (
        "--corrections needs the policy that leads the arm: give --from" in capsys.readouterr().err
    )
    assert not (tmp_path / "out").exists()
