"""Prefixes on their way into a policy: units, relative actions, statistics, and what is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.rtc_jacobian import differentiable

from pi0_ros.checkpoint.directory import CONFIG
from pi0_ros.checkpoint.random import write_random_checkpoint
from pi0_ros.checkpoint.steps import ABSOLUTE, POSTPROCESSOR, PREPROCESSOR, RELATIVE
from pi0_ros.model.config import TINY_PI05
from pi0_ros.policy.compile import FORMS, GraphOptions
from pi0_ros.policy.policy import Policy
from pi0_ros.policy.types import ActionPrefix, Observation
from pi0_ros.policy.units import JointUnits

DEGREES = JointUnits(np.full(6, 0.0174533), np.linspace(-0.2, 0.3, 6))
TRAINED, GUIDED = GraphOptions("eager", rtc="trained"), GraphOptions("eager", rtc="guided")
DELAY = 7


def observation() -> Observation:
    rng = np.random.default_rng(0)
    images = {name: rng.integers(0, 256, (48, 64, 3), np.uint8) for name in ("front", "wrist")}
    return Observation(images, np.linspace(-0.5, 0.5, 6), "touch the red cube")


def prefix(delay: int = DELAY, weight: float = 1.0) -> ActionPrefix:
    steps = np.linspace(-0.4, 0.6, 50)[:, None] * np.linspace(0.5, 1.0, 6)
    weights = np.where(np.arange(50) < delay, weight, 0)
    return ActionPrefix(steps.astype(np.float32), weights.astype(np.float32), delay)


def make_relative(path: Path) -> None:
    """As LeRobot writes policies of relative actions; those of pi0.5 have the step, disabled."""
    settings = {
        "enabled": True,
        "exclude_joints": ["grip"],
        "action_names": [*"abcde", "grip"],
    }
    for name, place, step in ((PREPROCESSOR, 5, RELATIVE), (POSTPROCESSOR, 1, ABSOLUTE)):
        document = json.loads((path / name).read_text())
        steps = [s for s in document["steps"] if s["registry_name"] != step]
        place = 2 if len(steps) < len(document["steps"]) else place
        steps.insert(place, {"registry_name": step, "config": settings})
        (path / name).write_text(json.dumps({**document, "steps": steps}))


@pytest.mark.parametrize("relative", [False, True], ids=["absolute", "relative"])
@pytest.mark.parametrize("checkpoint", ["demo_checkpoint", "demo_pi05"])
def test_a_chunk_begins_with_the_steps_that_it_was_given(
    request: pytest.FixtureRequest, checkpoint: str, relative: bool, tmp_path: Path
) -> None:
    """In radians again: units, statistics and the observed state are undone as they are applied."""
    path = request.getfixturevalue(checkpoint)
    if relative:
        path = Path(shutil.copytree(path, tmp_path / "relative"))
        make_relative(path)
    policy = Policy.load(path, joint_units=DEGREES, graph=TRAINED, rtc_max_delay=10)
    given, noise = prefix(), policy.noise(0)
    chunk = policy.infer(observation(), noise, given)
    np.testing.assert_allclose(chunk.positions[:DELAY], given.positions[:DELAY], atol=1e-4)
    free = policy.infer(observation(), noise)
    assert np.abs(free.positions[:DELAY] - given.positions[:DELAY]).max() > 0.01
    assert np.abs(free.positions[DELAY:] - chunk.positions[DELAY:]).max() > 1e-5
    with pytest.raises(ValueError, match=r"delay of 11 steps was given; .* at most 10"):
        policy.infer(observation(), noise, prefix(11))


def test_a_guided_chunk_comes_nearer_to_what_it_agrees_with(demo_checkpoint: Path) -> None:
    policy = Policy.load(demo_checkpoint, graph=GUIDED)
    plain = Policy.load(demo_checkpoint, graph=GraphOptions("eager"))
    noise = policy.noise(0)
    free = plain.infer(observation(), noise).positions
    np.testing.assert_allclose(policy.infer(observation(), noise).positions, free, atol=1e-5)
    given = prefix(20)

    def distance(positions: np.ndarray) -> float:
        return np.abs(positions[:20] - given.positions[:20]).mean()

    guided = policy.infer(observation(), noise, given).positions
    half = policy.infer(observation(), noise, replace(given, weights=given.weights / 2)).positions
    assert distance(guided) < distance(half) < distance(free)
    assert distance(guided) < 0.2 * distance(free)


@pytest.mark.parametrize(
    "change,message",
    [
        ({"positions": np.zeros((50, 5), np.float32)}, r"needs positions \[50, 6\]"),
        ({"weights": np.zeros(49, np.float32)}, r"weights \[50\]"),
        ({"positions": np.full((50, 6), np.nan, np.float32)}, "must be finite"),
        ({"delay": 51}, "delay from 0 to 50"),
        ({"max_weight": 0.0}, "finite max_weight above 0"),
        ({"max_weight": float("inf")}, "finite max_weight above 0"),
    ],
)
def test_a_prefix_that_is_none_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(prefix(), **change).check(50, 6)


def test_a_policy_that_was_loaded_without_takes_no_prefix(demo_checkpoint: Path) -> None:
    policy = Policy.load(demo_checkpoint, graph=GraphOptions("eager"))
    with pytest.raises(ValueError, match="loaded with rtc off"):
        policy.infer(observation(), prefix=prefix())


def test_trained_needs_a_checkpoint_that_says_so_or_a_limit(
    demo_checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="rtc: trained needs a policy that was trained"):
        Policy.load(demo_checkpoint, graph=TRAINED)
    with pytest.raises(ValueError, match="must be below the 50 steps"):
        Policy.load(demo_checkpoint, graph=TRAINED, rtc_max_delay=50)
    copy = Path(shutil.copytree(demo_checkpoint, tmp_path / "copy"))
    document = json.loads((copy / CONFIG).read_text())
    (copy / CONFIG).write_text(json.dumps({**document, "rtc_training_max_delay": 9}))
    assert Policy.load(copy, graph=TRAINED).rtc_max_delay == 9
    assert Policy.load(copy, graph=TRAINED, rtc_max_delay=4).rtc_max_delay == 4
    with pytest.raises(ValueError, match="more than the 9 steps"):
        Policy.load(copy, graph=TRAINED, rtc_max_delay=10)


@pytest.mark.parametrize("checkpoint", ["demo_checkpoint", "demo_pi05"])
def test_the_identity_is_not_the_jacobian(request: pytest.FixtureRequest, checkpoint: str) -> None:
    """The reference with the true product is the policy's guidance where it has the identity, and
    another one where it has not; docs/rtc.md says by how much.
    """
    path = request.getfixturevalue(checkpoint)
    policy, reference = Policy.load(path, graph=GUIDED), differentiable(path)
    noise, given = policy.noise(0), prefix(20, weight=0.5)
    reference.graphs.jacobian = False
    identity = reference.infer(observation(), noise, given).positions
    ours = policy.infer(observation(), noise, given).positions
    np.testing.assert_allclose(identity, ours, atol=2e-5)
    reference.graphs.jacobian = True
    true = reference.infer(observation(), noise, given).positions
    assert np.abs(true - ours).max() > 1e-3


@pytest.mark.compile
@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_a_compiled_pi05_takes_every_delay(tmp_path: Path, form: str) -> None:
    """Its norms differ from action to action; inductor's graph is the eager model's, made once."""
    torch._dynamo.reset()
    sizes = replace(TINY_PI05, depth=2, vision_depth=1, num_steps=2, prompt_length=80)
    write_random_checkpoint(tmp_path / "small", sizes)
    eager, compiled = (
        Policy.load(tmp_path / "small", graph=options, rtc_max_delay=10)
        for options in (TRAINED, GraphOptions("inductor", form, rtc="trained"))
    )
    noise = eager.noise(0)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for delay in (0, 3, 10):
            expected = eager.infer(observation(), noise, prefix(delay)).positions
            got = compiled.infer(observation(), noise, prefix(delay)).positions
            np.testing.assert_allclose(got, expected, atol=2e-5)
    torch._dynamo.reset()
