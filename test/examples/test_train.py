"""A few steps of training: losses fall, a seed decides the weights, a policy can be loaded."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from examples.touch_task.__main__ import CURVE, FIGURES, main
from examples.touch_task.data import TrainingData
from examples.touch_task.demonstrations import Demonstrations
from examples.touch_task.objective import Pointer, losses
from examples.touch_task.optimiser import schedule
from examples.touch_task.plot import draw_losses
from examples.touch_task.tokenizer import write_task_tokenizer
from examples.touch_task.train import Losses, Recipe, train
from examples.touch_task.weights import new_model, statistics_of, take_over
from pi0_ros.checkpoint.checkpoint import ImageRule
from pi0_ros.checkpoint.formats import read_checkpoint
from pi0_ros.checkpoint.metadata import read_declared
from pi0_ros.checkpoint.tokenizer import STATE_SENTENCES
from pi0_ros.model.config import TINY, TINY_PI05
from pi0_ros.policy.policy import Policy
from pi0_ros.policy.preprocess import fit_image
from pi0_ros.policy.prompt import load_tokenizer
from pi0_ros.policy.types import Observation
from pi0_ros.sim.stage import CAMERAS, JOINTS
from pi0_ros.sim.task import AMBIGUOUS, INSTRUCTIONS, SENTENCES, TOUCH_CHECKPOINT

SMALL = replace(TINY, depth=2, vision_depth=1, horizon=50)
SMALL_PI05 = replace(TINY_PI05, depth=2, vision_depth=1, horizon=50)
SHORT = Recipe(seed=1, pointing_steps=15, steps=60, batch=8, draws=1, rate=8e-3)


@pytest.fixture(scope="module", params=[SMALL, SMALL_PI05], ids=["pi0", "pi05"])
def trained(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    demonstrations: Demonstrations,
) -> tuple[Path, Losses]:
    directory = tmp_path_factory.mktemp("trained")
    return directory, train(demonstrations, directory, SHORT, request.param)


def test_losses_fall(trained: tuple[Path, Losses]) -> None:
    curves = trained[1]
    assert len(curves.goal) == len(curves.patches) == 75
    assert len(curves.flow) == 60
    for name, curve in vars(curves).items():
        assert np.isfinite(curve).all()
        assert np.mean(curve[-10:]) < 0.8 * np.mean(curve[:10]), f"{name}: {curve}"


def test_same_seed_same_weights(tmp_path: Path, demonstrations: Demonstrations) -> None:
    recipe = replace(SHORT, pointing_steps=3, steps=3)
    files = []
    for name, seed in (("one", 0), ("two", 0), ("other", 1)):
        train(demonstrations, tmp_path / name, replace(recipe, seed=seed), SMALL)
        files.append(load_file(tmp_path / name / "model.safetensors"))
    one, two, other = files
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one)


def test_the_checkpoint_is_one_that_a_robot_loads(trained: tuple[Path, Losses]) -> None:
    policy = Policy.load(trained[0], action_dt=0.04)
    assert policy.cameras == CAMERAS
    black = np.zeros((480, 640, 3), np.uint8)
    state = np.array([0.0, -1.2, 1.0, 0.9, -1.57, 0.6])
    images = dict.fromkeys(CAMERAS, black)
    chunk = policy.infer(Observation(images, state, INSTRUCTIONS[0]))
    assert chunk.positions.shape == (50, 6)
    assert np.isfinite(chunk.positions).all()
    declared = read_declared(trained[0], 6)
    assert declared.joints == JOINTS
    assert declared.fps == 25


def test_training_sees_what_the_policy_will_see(
    tmp_path: Path, demonstrations: Demonstrations
) -> None:
    """Images, prompt and numbers of a batch are those of the policy's own preparation."""
    write_task_tokenizer(tmp_path, SENTENCES)
    data = TrainingData(demonstrations, TINY, tmp_path, torch.Generator().manual_seed(0))
    rows, chosen = torch.tensor([7, 20]), torch.tensor([0, 2])
    told = demonstrations.instructions[rows, chosen]
    batch = data.batch(rows, chosen, told, torch.zeros_like(rows), vary=False)
    rule = ImageRule(antialias=False, centred=True)
    for i, (row, which) in enumerate(zip(rows, chosen, strict=True)):
        for camera in range(2):
            fitted = fit_image(demonstrations.images[row, camera].numpy(), 64, rule)
            assert torch.equal(batch.images[i, camera], fitted)
        tokens = load_tokenizer(tmp_path, None)(
            INSTRUCTIONS[demonstrations.instructions[row, which]] + "\n"
        )
        assert batch.tokens[i].tolist() == tokens
        state = batch.state[i, :6].numpy() * data.state["std"] + data.state["mean"]
        np.testing.assert_allclose(state, demonstrations.state[row], atol=1e-5)
        assert not batch.state[i, 6:].any()
        actions = batch.actions[i].numpy() * data.action["std"] + data.action["mean"]
        np.testing.assert_allclose(actions, demonstrations.chunks[row, which], atol=1e-5)


def test_training_reads_the_prompts_that_the_policy_writes(
    trained: tuple[Path, Losses], demonstrations: Demonstrations
) -> None:
    """The state in the prompt of pi0.5 among them; and padding is told from tokens."""
    config = read_checkpoint(trained[0]).config
    data = TrainingData(demonstrations, config, trained[0], torch.Generator().manual_seed(0))
    policy = Policy.load(trained[0], action_dt=0.04)
    asked = policy.graphs.prompt
    seen: list[torch.Tensor] = []
    policy.graphs.prompt = lambda tokens, cameras: (seen.append(tokens), asked(tokens, cameras))[1]
    rows, chosen = torch.arange(0, 40, 5), torch.zeros(8, dtype=torch.int64)
    told = demonstrations.instructions[rows, chosen]
    batch = data.batch(rows, chosen, told, torch.zeros_like(rows), vary=False)
    for i, row in enumerate(rows):
        instruction = INSTRUCTIONS[demonstrations.instructions[row, 0]]
        policy._prompts.clear()
        policy._prompt(instruction, demonstrations.state[row].numpy())
        assert batch.tokens[i, : batch.lengths[i]].tolist() == seen[-1][0].tolist()
        assert not batch.tokens[i, batch.lengths[i] :].any()


def test_ambiguous_instructions_are_drawn_with_the_choice(
    tmp_path: Path, demonstrations: Demonstrations
) -> None:
    write_task_tokenizer(tmp_path, SENTENCES)
    data = TrainingData(demonstrations, TINY, tmp_path, torch.Generator().manual_seed(0))
    rows = torch.arange(len(demonstrations))
    objects, sentences = data.labels(rows)
    told = [SENTENCES[i] for i in sentences[0]]
    assert told[:3] == [INSTRUCTIONS[i] for i in demonstrations.instructions[0]]
    assert told[3:] == list(AMBIGUOUS)
    assert objects[:, :3].tolist() == [[0, 1, 2]] * len(rows)
    assert torch.equal(objects[:, 3:], demonstrations.choices)
    tokenizer = load_tokenizer(tmp_path, None)
    ambiguous = {tuple(tokenizer(text + "\n")) for text in AMBIGUOUS}
    batch = data.draw(len(rows))
    prompts = [tuple(t[:n].tolist()) for t, n in zip(batch.tokens, batch.lengths, strict=True)]
    drawn = torch.tensor([prompt in ambiguous for prompt in prompts])
    assert 0 < drawn.sum() < (demonstrations.choices >= 0).any(dim=1).sum()
    # Where the choice is the policy's, there is nothing to point at.
    assert torch.equal(batch.goal.isnan().any(dim=1), drawn)
    assert (batch.patches[drawn] == -1).all() and (batch.patches[~drawn] >= 0).any()


def test_what_is_given_has_no_noise_and_no_loss(
    tmp_path: Path, demonstrations: Demonstrations, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_task_tokenizer(tmp_path, SENTENCES)
    data = TrainingData(demonstrations, TINY, tmp_path, torch.Generator().manual_seed(0))
    model, pointer = new_model(TINY, len(JOINTS), 0), Pointer(TINY, len(JOINTS), 0)
    batch, seen = data.draw(32, max_delay=12), []
    velocity = model.velocity

    def watched(noisy: torch.Tensor, time: torch.Tensor, *rest: object) -> torch.Tensor:
        seen.append((noisy[..., : len(JOINTS)], time))
        return velocity(noisy, time, *rest)

    monkeypatch.setattr(model, "velocity", watched)
    flow, _, _ = losses(model, pointer, batch, 2, torch.Generator().manual_seed(1))
    (noisy, time), actions = seen[0], batch.actions.repeat_interleave(2, 0)
    given = (time == model.time_rows(np.zeros(1))).all(dim=2)
    assert torch.equal(given, (noisy == actions).all(dim=2))
    delays = given.sum(dim=1)
    assert torch.equal(given, torch.arange(TINY.horizon) < delays[:, None])
    assert delays.min() < 3 and delays.max() > 9 and delays.max() <= 12
    # An error in what is given costs nothing.
    wrong = torch.where(given, 100.0, 0.0)[..., None]
    monkeypatch.setattr(model, "velocity", lambda *args: velocity(*args) + wrong)
    again, _, _ = losses(model, pointer, batch, 2, torch.Generator().manual_seed(1))
    assert torch.equal(again, flow)


def test_a_share_of_the_first_weights_is_kept(
    tmp_path: Path, demonstrations: Demonstrations
) -> None:
    """And the statistics that they are used to."""
    train(demonstrations, tmp_path / "first", replace(SHORT, pointing_steps=0, steps=2), SMALL)
    more = replace(SHORT, pointing_steps=0, steps=3, start=str(tmp_path / "first"))
    for name, keep in (("all", 0.0), ("half", 0.5)):
        few = Demonstrations(*(value[:20] for value in vars(demonstrations).values()))
        train(few, tmp_path / name, replace(more, keep=keep), SMALL)
    first, new, half = (
        load_file(tmp_path / name / "model.safetensors") for name in ("first", "all", "half")
    )
    assert any(not torch.equal(first[key], new[key]) for key in first)
    for key in first:
        torch.testing.assert_close(half[key], (first[key] + new[key]) / 2)
    for before, after in zip(
        statistics_of(tmp_path / "first"), statistics_of(tmp_path / "half"), strict=True
    ):
        assert before.keys() >= {"mean", "std"} and before.keys() == after.keys()
        assert all(np.array_equal(before[name], after[name]) for name in before)


def test_training_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    """Its weights under the words that it knows, whatever their numbers were."""
    write_task_tokenizer(tmp_path, SENTENCES)
    model, fresh = new_model(TINY, len(JOINTS), 0), new_model(TINY, len(JOINTS), 0)
    take_over(model, TOUCH_CHECKPOINT, tmp_path)
    trained = read_checkpoint(TOUCH_CHECKPOINT).load_model(torch.float32, torch.device("cpu"))
    ours, theirs = load_tokenizer(tmp_path, None), load_tokenizer(TOUCH_CHECKPOINT, None)
    for text in INSTRUCTIONS:
        new, old = (torch.tensor([words(text + "\n")]) for words in (ours, theirs))
        assert torch.equal(model.embed_prompt(new), trained.embed_prompt(old))
    assert torch.equal(model.expert.layers[0].qkv.weight, trained.expert.layers[0].qkv.weight)
    assert not torch.equal(model.action_in.weight, fresh.action_in.weight)
    with pytest.raises(ValueError, match="other sizes"):
        take_over(new_model(SMALL, len(JOINTS), 0), TOUCH_CHECKPOINT, tmp_path)


def test_what_is_given_leads_off_the_goal_and_the_rest_makes_up_for_it(
    tmp_path: Path, demonstrations: Demonstrations
) -> None:
    write_task_tokenizer(tmp_path, SENTENCES)
    data = TrainingData(demonstrations, TINY, tmp_path, torch.Generator().manual_seed(0))
    rows = torch.arange(len(demonstrations))
    chosen, delays = torch.zeros_like(rows), rows % 13
    batch = data.batch(rows, chosen, demonstrations.instructions[rows, chosen], delays)
    actions = batch.actions.numpy() * data.action["std"] + data.action["mean"]
    labels = demonstrations.chunks[:, 0].numpy()
    off = np.abs(actions - labels).max(axis=2)
    assert off[delays == 0].max() < 1e-5
    assert (off[delays > 5].max(axis=1) > 0.01).mean() > 0.5
    assert np.abs(np.diff(actions, axis=1)).max() < 0.0501, "as fast as the expert, without a step"
    assert np.median(off[:, -1]) < 0.01


def test_where_the_choice_is_left_the_nearest_right_object_follows_what_is_given(
    tmp_path: Path, demonstrations: Demonstrations
) -> None:
    """Of the cubes that nearest to where the arm is led, and none but cubes; names stay."""
    write_task_tokenizer(tmp_path, SENTENCES)
    data = TrainingData(demonstrations, TINY, tmp_path, torch.Generator().manual_seed(0))
    cubes = [i for i, text in enumerate(INSTRUCTIONS) if text.endswith("cube")]
    is_cube = torch.isin(demonstrations.instructions, torch.tensor(cubes))
    rows = (is_cube.sum(dim=1) >= 2).nonzero()[:, 0]
    assert len(rows)
    pans = demonstrations.goals[rows, :, 0]
    chosen = is_cube[rows].long().argmax(dim=1)
    told = torch.full_like(rows, len(INSTRUCTIONS) + AMBIGUOUS.index("touch a cube"))
    for which in range(3):
        leads = torch.zeros(len(rows), TINY.horizon, len(JOINTS))
        leads[..., 0] = pans[:, which, None]
        led = data._reconsidered(rows, chosen, told, torch.full_like(rows, 5), leads)
        assert is_cube[rows, led].all()
        away = (pans - pans[:, [which]]).abs().masked_fill(~is_cube[rows], torch.inf)
        assert torch.equal(led, away.argmin(dim=1))
        for sentences, delays in ((told, 0), (demonstrations.instructions[rows, chosen], 5)):
            same = data._reconsidered(rows, chosen, sentences, torch.full_like(rows, delays), leads)
            assert torch.equal(same, chosen)


def test_patches_are_where_the_places_are(tmp_path: Path, demonstrations: Demonstrations) -> None:
    write_task_tokenizer(tmp_path, SENTENCES)
    data = TrainingData(demonstrations, TINY, tmp_path, torch.Generator())
    places = torch.tensor([[[0.0, 0.0], [-0.99, 0.99]], [[0.99, -0.99], [float("nan")] * 2]])
    # Of 8 x 8 patches the first and the last row are border.
    assert data._patches(places, 48, 64).tolist() == [[4 * 8 + 4, 8], [6 * 8 + 7, -1]]


def test_every_word_is_one_token(tmp_path: Path) -> None:
    write_task_tokenizer(tmp_path, SENTENCES)
    tokenizer = load_tokenizer(tmp_path, None)
    prompts = [tokenizer(text + "\n") for text in SENTENCES]
    words = [len(text.split()) for text in SENTENCES]
    assert [len(prompt) for prompt in prompts] == [2 + count for count in words], "begin, newline"
    assert len({tuple(prompt) for prompt in prompts}) == len(SENTENCES)
    unknown = 3
    assert not any(unknown in prompt for prompt in prompts)
    assert max(map(max, prompts)) < TINY.vocab_size


def test_every_number_is_one_token(tmp_path: Path) -> None:
    write_task_tokenizer(tmp_path, SENTENCES, STATE_SENTENCES)
    tokenizer = load_tokenizer(tmp_path, None)
    prompts = [tokenizer(f"Task: {INSTRUCTIONS[0]}, State: {n} {n};\nAction: ") for n in range(256)]
    assert len({len(prompt) for prompt in prompts}) == 1
    assert len({tuple(prompt) for prompt in prompts}) == 256
    assert max(map(max, prompts)) < TINY_PI05.vocab_size
    unknown = 3
    assert not any(unknown in prompt for prompt in [*prompts, tokenizer("State: -1;")])


def test_rate_goes_up_stays_and_goes_down() -> None:
    shares = [schedule(step, 1000) for step in range(1000)]
    assert shares[0] < 0.02 and shares[99:500] == [1.0] * 401
    assert all(a > b for a, b in itertools.pairwise(shares[501:]))
    assert shares[-1] < 0.03


def test_loss_curve_is_an_image(tmp_path: Path) -> None:
    draw_losses(tmp_path / "loss.png", Losses([1.0] * 80, [2.0] * 80, [1.5] * 30))
    assert (tmp_path / "loss.png").read_bytes()[:4] == b"\x89PNG"


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(tmp_path / "out"), "--scenes", "3", "--pointing-steps", "1", "--steps", "1"]
    assert main(arguments) == 0
    figures = json.loads((tmp_path / "out" / FIGURES).read_text())
    assert figures["recipe"]["scenes"] == 3
    assert figures["observations"] == 24
    assert (tmp_path / "out" / CURVE).is_file()
    assert "flow loss" in capsys.readouterr().out
