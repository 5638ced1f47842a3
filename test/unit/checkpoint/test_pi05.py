"""Reading checkpoints of pi0.5: LeRobot's of 0.4 and since 0.5, openpi's."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pi0_ros.checkpoint.checkpoint import Checkpoint
from pi0_ros.checkpoint.directory import CONFIG
from pi0_ros.checkpoint.errors import CheckpointError
from pi0_ros.checkpoint.formats import read_checkpoint
from pi0_ros.checkpoint.sizes import SIZES_KEY
from pi0_ros.checkpoint.steps import PREPROCESSOR, RELATIVE, STATE_PROMPT, TOKENIZER
from pi0_ros.checkpoint.tensors import WEIGHTS
from pi0_ros.checkpoint.weights import checkpoint_shapes, is_unused, sources
from pi0_ros.model.config import PI05, TINY, TINY_PI05

CPU = torch.device("cpu")
NEW_LINE = {"registry_name": "pi0_new_line_processor", "config": {}}


@pytest.fixture
def copy(demo_pi05: Path, tmp_path: Path) -> Path:
    """A checkpoint directory of its own to bend."""
    return Path(shutil.copytree(demo_pi05, tmp_path / "checkpoint"))


def edit_json(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))


def edit_steps(path: Path, change: Callable[[list[dict[str, Any]]], object]) -> None:
    edit_json(path / PREPROCESSOR, lambda d: change(d["steps"]))


def index(steps: list[dict[str, Any]], name: str) -> int:
    return [step["registry_name"] for step in steps].index(name)


def refused(path: Path) -> str:
    with pytest.raises(CheckpointError) as error:
        read_checkpoint(path)
    return str(error.value)


def test_what_lerobots_format_says(demo_pi05: Path) -> None:
    read = read_checkpoint(demo_pi05)
    assert read.format == "lerobot-0.4"
    assert read.config == TINY_PI05
    assert read.cleans_prompt
    assert read.prompt_state == read.joints == 6
    # Quantiles: -1 and 1 are their ends.
    low, high = read.state.low, read.state.low + 2 * read.state.scale
    np.testing.assert_allclose(read.state.normalize(low), -1.0, atol=1e-6)
    np.testing.assert_allclose(read.state.normalize_for_prompt(high), 1.0, atol=1e-6)


def test_the_sizes_of_the_published_variant(copy: Path) -> None:
    edit_json(copy / CONFIG, lambda d: [d.pop(key) for key in (SIZES_KEY, "tokenizer_max_length")])
    message = refused(copy)
    assert "time_mlp_in.weight has shape [64, 64], expected [1024, 1024]" in message
    assert "max_length is 200" not in message


def test_every_tensor_is_used_once_or_known_to_be_unused() -> None:
    used = [key for source in sources(TINY_PI05).values() for key in source.keys]
    assert len(set(used)) == len(used)
    shapes = checkpoint_shapes(TINY_PI05)
    assert set(used) | {key for key in shapes if is_unused(key, TINY_PI05)} == set(shapes)
    norms = [key for key in checkpoint_shapes(PI05) if ".dense." in key]
    parameters = sum(np.prod(checkpoint_shapes(PI05)[key]) for key in norms)
    assert len(norms) == 2 * 37 and parameters == pytest.approx(116.5e6, rel=1e-3)


@pytest.mark.parametrize(
    "training,state",
    [({"seed": 1000}, 32), ({"seed": 1000, "cudnn_deterministic": False}, 6), (None, 32)],
    ids=["0.4.4", "0.5.0", "unknown"],
)
def test_before_the_step_for_relative_actions_the_training_configuration_tells_the_version(
    copy: Path,
    training: dict[str, object] | None,
    state: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """LeRobot 0.4 fills the state up with zeros before it writes it, 0.5.0 does not."""
    edit_steps(copy, lambda steps: steps.pop(index(steps, RELATIVE)))
    if training is not None:
        (copy / "train_config.json").write_text(json.dumps(training))
    assert read_checkpoint(copy).prompt_state == state
    assert ("has no train_config.json" in caplog.text) == (training is None)


@pytest.mark.parametrize(
    "change,message",
    [
        (lambda steps: steps.pop(index(steps, STATE_PROMPT)), f"no step '{STATE_PROMPT}'"),
        (lambda steps: steps.insert(2, NEW_LINE), "has the step 'pi0_new_line_processor'"),
        (
            lambda steps: steps.insert(0, steps.pop(index(steps, STATE_PROMPT))),
            f"then {STATE_PROMPT}",
        ),
        (lambda steps: steps.pop(index(steps, TOKENIZER)), f"no step '{TOKENIZER}'"),
    ],
)
def test_processors_that_make_another_prompt_are_refused(
    copy: Path, change: Callable[[list[dict[str, Any]]], object], message: str
) -> None:
    edit_steps(copy, change)
    assert message in refused(copy)


def test_pi0_does_not_write_the_state_into_its_prompt(demo_checkpoint: Path, copy: Path) -> None:
    assert read_checkpoint(demo_checkpoint).prompt_state == 0
    other = Path(shutil.copytree(demo_checkpoint, copy.parent / "pi0"))
    edit_steps(other, lambda steps: steps.append({"registry_name": STATE_PROMPT, "config": {}}))
    assert f"has the step '{STATE_PROMPT}'" in refused(other)


@pytest.fixture
def openpi(copy: Path, as_openpi: Callable[..., Path]) -> Path:
    path = as_openpi(copy)
    values = {"mean": [0.0] * 6, "std": [1.0] * 6, "q01": [-1.0] * 6, "q99": [0.5] * 5 + [-1.0]}
    document = {"norm_stats": {"state": values, "actions": values}}
    (path / "assets" / "so101" / "norm_stats.json").write_text(json.dumps(document))
    return path


def test_openpis_is_told_by_its_tensors(openpi: Path) -> None:
    edit_json(openpi / CONFIG, lambda d: d[SIZES_KEY].update(variant="pi0"))
    read = read_checkpoint(openpi)
    assert read.config == TINY_PI05
    assert read.prompt_state is None, "it does not say whether the state is in the prompt"


def test_openpis_quantiles_are_guarded_both_ways(openpi: Path) -> None:
    """Normalize and Unnormalize with use_quantiles: width + 1e-6, also where it is 0."""
    read = read_checkpoint(openpi)
    x = np.array([0.2, -1.0, 0.5, 3.0, -4.0, -1.0], np.float32)
    low, high = -np.ones(6), np.array([0.5] * 5 + [-1.0])
    expected = (x - low) / (high - low + 1e-6) * 2.0 - 1.0
    np.testing.assert_allclose(read.state.normalize_for_prompt(x), expected, rtol=1e-5, atol=1e-6)
    back = (expected + 1.0) / 2.0 * (high - low + 1e-6) + low
    np.testing.assert_allclose(read.action.unnormalize(expected), back, rtol=1e-5, atol=1e-6)


def test_openpi_without_config_has_its_variant_in_the_shapes(openpi: Path) -> None:
    (openpi / CONFIG).unlink()
    # Heads and steps of a published model cannot be told from shapes: those of the tiny one differ.
    message = refused(openpi)
    assert "state_proj" not in message and "horizon" in message


def test_what_the_time_passes_through_stays_in_float32(demo_pi05: Path) -> None:
    model = read_checkpoint(demo_pi05).load_model(torch.bfloat16, CPU)
    for name, parameter in model.time_in.named_parameters():
        assert parameter.dtype == torch.float32, name
    assert model.expert.layers[0].qkv.weight.dtype == torch.bfloat16


def test_a_scale_is_one_more_than_the_checkpoint_has(demo_pi05: Path, tmp_path: Path) -> None:
    """With all of the norms' projections at zero there is no time: gates are 0."""
    path = Path(shutil.copytree(demo_pi05, tmp_path / "zero"))
    tensors = load_file(path / WEIGHTS)
    zero = {k: torch.zeros_like(v) if ".dense." in k else v for k, v in tensors.items()}
    save_file(zero, path / WEIGHTS)
    read: Checkpoint = read_checkpoint(path)
    table = read.load_model(torch.float32, CPU).time_table()
    width = TINY.expert_width
    torch.testing.assert_close(table[:, :width], torch.ones_like(table[:, :width]))
    assert not table[:, -width:].any()


@pytest.mark.parametrize("source,other", [("demo_checkpoint", "pi05"), ("demo_pi05", "pi0")])
def test_weights_of_the_other_variant_are_one_sentence(
    source: str, other: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    copy = Path(shutil.copytree(request.getfixturevalue(source), tmp_path / "copy"))
    config = json.loads((copy / CONFIG).read_text())
    own, config["type"] = config["type"], other
    (copy / CONFIG).write_text(json.dumps(config))
    with pytest.raises(CheckpointError) as error:
        read_checkpoint(copy)
    assert f"config.json says {other}, but the tensors are those of {own}" in str(error.value)
    assert "missing tensor" not in str(error.value)
