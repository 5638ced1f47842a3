"""The policy with pi0.5: the state stands in the prompt, which is new in every frame."""

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pi0_ros.checkpoint.errors import CheckpointError
from pi0_ros.checkpoint.formats import read_checkpoint
from pi0_ros.checkpoint.random import write_random_checkpoint
from pi0_ros.model.config import TINY_PI05
from pi0_ros.policy import graphs
from pi0_ros.policy.compile import FORMS, GraphOptions
from pi0_ros.policy.graphs import load_graphs
from pi0_ros.policy.policy import Policy
from pi0_ros.policy.types import Observation

STATE = np.array([0.1, -0.5, 0.4, 1.1, 0.0, 0.5], np.float32)


def observation(state: np.ndarray = STATE, instruction: str = "touch the cube") -> Observation:
    rng = np.random.default_rng(0)
    images = {name: rng.integers(0, 256, (48, 64, 3), np.uint8) for name in ("front", "wrist")}
    return Observation(images, state, instruction, stamp=123)


@pytest.fixture(scope="module")
def policy(demo_pi05: Path) -> Policy:
    return Policy.load(demo_pi05, action_dt=0.04)


@pytest.fixture
def prompts(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text that becomes tokens."""
    seen: list[str] = []
    tokenizer = policy._tokenizer

    def remember(text: str) -> list[int]:
        seen.append(text)
        return tokenizer(text)

    monkeypatch.setattr(policy, "_tokenizer", remember)
    return seen


def test_the_prompt_follows_the_state(policy: Policy, prompts: list[str]) -> None:
    noise = policy.noise(0)
    first = policy.infer(observation(), noise).positions
    other = policy.infer(observation(STATE + 0.3), noise).positions
    assert not np.array_equal(first, other)
    assert np.array_equal(policy.infer(observation(), noise).positions, first)
    assert prompts[0] == prompts[2] != prompts[1]
    assert prompts[0].startswith("Task: touch the cube, State: ")
    assert prompts[0].endswith(";\nAction: ")
    norm = policy.checkpoint.state
    low, high = norm.low, norm.low + 2 * norm.scale
    parts = np.floor((STATE - low) / (high - low) * 256).astype(int)
    assert prompts[0] == f"Task: touch the cube, State: {' '.join(map(str, parts))};\nAction: "


def test_nothing_is_kept_per_state(policy: Policy) -> None:
    before = len(policy._prompts)
    for i in range(3):
        policy.infer(observation(STATE + 0.01 * i))
    assert len(policy._prompts) == before


def test_a_state_of_nothing_gives_no_chunk(policy: Policy) -> None:
    with pytest.raises(ValueError, match="not finite"):
        policy.infer(observation(np.where(STATE > 1, np.nan, STATE)))


def test_a_prompt_that_is_too_long_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_random_checkpoint(tmp_path / "short", replace(TINY_PI05, prompt_length=24))
    policy = Policy.load(tmp_path / "short")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            policy.infer(observation(instruction="put the ball into the bowl"))
    assert caplog.text.count("into the bowl' is cut from") == 1


def test_the_projections_of_norms_are_not_kept(policy: Policy) -> None:
    """Their results are: a row per denoise step."""
    c = policy.checkpoint.config
    names = [name for name, _ in policy.graphs.model.named_parameters()]
    assert names and not [name for name in names if name.startswith("time_in")]
    gains_and_gates = 2 * (2 * c.depth + 1) * c.expert_width
    qkv = (c.heads + 2 * c.kv_heads) * c.head_dim
    biases = c.depth * (qkv + 2 * c.expert_mlp) + c.max_action_dim
    assert policy.graphs.time_table.shape == (c.num_steps, gains_and_gates + biases)


@pytest.fixture
def openpi(demo_pi05: Path, tmp_path: Path, as_openpi: Callable[..., Path]) -> Path:
    path = as_openpi(Path(shutil.copytree(demo_pi05, tmp_path / "openpi")))
    values = {"mean": [0.0] * 6, "std": [1.0] * 6, "q01": [-1.0] * 6, "q99": [1.0] * 6}
    document = {"norm_stats": {"state": values, "actions": values}}
    (path / "assets" / "so101" / "norm_stats.json").write_text(json.dumps(document))
    return path


def test_openpi_has_to_be_told_where_the_state_goes(openpi: Path) -> None:
    with pytest.raises(CheckpointError, match="set discrete_state_input"):
        Policy.load(openpi, action_mode="absolute")
    images = observation().images
    images = {"base_0_rgb": images["front"], "left_wrist_0_rgb": images["wrist"]}
    chunks = {}
    for told in (True, False):
        policy = Policy.load(
            openpi,
            action_mode="absolute",
            cameras=tuple(images),
            discrete_state_input=told,
        )
        noise = policy.noise(0)
        for shift in (0.0, 0.4):
            seen = Observation(images, STATE + np.float32(shift), "touch the cube")
            chunks[told, shift] = policy.infer(seen, noise).positions
    assert not np.array_equal(chunks[True, 0.0], chunks[True, 0.4])
    assert np.array_equal(chunks[False, 0.0], chunks[False, 0.4])


def test_a_checkpoint_that_says_it_is_not_contradicted(demo_pi05: Path) -> None:
    with pytest.raises(CheckpointError, match="discrete_state_input False contradicts"):
        Policy.load(demo_pi05, discrete_state_input=False)


def test_lengths_of_prompts(demo_pi05: Path) -> None:
    """Few, and none for which a pi0.5 has no prompt."""
    read = read_checkpoint(demo_pi05)
    graphs = load_graphs(read, GraphOptions("inductor"), torch.float32, torch.device("cpu"), 2)
    assert graphs.prompt_lengths() == [64, 128, 200]
    assert [graphs.padded_length(n) for n in (1, 64, 65, 129)] == [64, 64, 128, 200]


@pytest.mark.compile
@pytest.mark.parametrize("form", FORMS)
def test_a_new_state_compiles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """Traced and guarded; what inductor makes of it is compared in test/reference."""
    backend = {"backend": "aot_eager", "fullgraph": True, "dynamic": False}
    monkeypatch.setattr(graphs, "compile_module", lambda m, *_: torch.compile(m, **backend))
    torch._dynamo.reset()
    sizes = replace(TINY_PI05, depth=2, vision_depth=1, num_steps=2, prompt_length=80)
    write_random_checkpoint(tmp_path / "small", sizes)
    eager = Policy.load(tmp_path / "small", graph=GraphOptions("eager"))
    compiled = Policy.load(tmp_path / "small", graph=GraphOptions("inductor", form))
    lengths = set()
    with torch._dynamo.config.patch(error_on_recompile=True):
        for shift in (-9.0, -0.3, 0.0, 0.2):
            seen, noise = observation(STATE + np.float32(shift)), eager.noise(0)
            lengths.add(eager._prompt(seen.instruction, seen.state).embedded.shape[1])
            expected = eager.infer(seen, noise).positions
            got = compiled.infer(seen, noise).positions
            np.testing.assert_allclose(got, expected, atol=2e-5)
    assert len(lengths) > 1, "numbers of different length"
    torch._dynamo.reset()
