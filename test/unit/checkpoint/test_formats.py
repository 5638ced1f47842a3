"""Reading checkpoint directories: what is read, and what is refused with everything that is wrong.

The directories here are made by this package's writer and bent; LeRobot's own are in
test/reference.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pi0_ros.checkpoint.directory import CONFIG
from pi0_ros.checkpoint.errors import CheckpointError
from pi0_ros.checkpoint.formats import read_checkpoint
from pi0_ros.checkpoint.openpi import OPENPI_CAMERAS
from pi0_ros.checkpoint.sizes import SIZES_KEY
from pi0_ros.checkpoint.steps import POSTPROCESSOR, PREPROCESSOR
from pi0_ros.checkpoint.tensors import WEIGHTS, canonical
from pi0_ros.checkpoint.weights import checkpoint_shapes
from pi0_ros.model.config import TINY, Pi0Config

STATISTICS = "policy_postprocessor_step_0_unnormalizer_processor.safetensors"


@pytest.fixture
def copy(demo_checkpoint: Path, tmp_path: Path) -> Path:
    """A checkpoint directory of its own to bend."""
    return Path(shutil.copytree(demo_checkpoint, tmp_path / "checkpoint"))


def edit_json(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))


def edit_tensors(file: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)


def refused(path: Path) -> str:
    with pytest.raises(CheckpointError) as error:
        read_checkpoint(path)
    return str(error.value)


def test_what_the_new_lerobot_format_says(demo_checkpoint: Path) -> None:
    read = read_checkpoint(demo_checkpoint)
    assert read.format == "lerobot-0.4"
    assert read.config == TINY
    assert read.cameras == ("front", "wrist")
    assert read.joints == 6
    assert read.action_mode == "absolute"
    mean = load_file(demo_checkpoint / STATISTICS)["action.mean"].numpy()
    np.testing.assert_allclose(read.action.unnormalize(np.zeros(6)), mean)
    np.testing.assert_allclose(read.state.normalize(mean), np.zeros(6))


def test_the_sizes_of_published_variants(copy: Path) -> None:
    def publish(document: dict[str, Any]) -> None:
        del document[SIZES_KEY]
        document |= {"paligemma_variant": "gemma_2b", "action_expert_variant": "gemma_300m"}

    edit_json(copy / CONFIG, publish)
    # The tiny weights do not fit the full sizes, and the message says so tensor by tensor.
    message = refused(copy)
    assert "state_proj.weight has shape [64, 32], expected [1024, 32]" in message
    assert "missing tensor paligemma_with_expert.paligemma.model.language_model.layers.17." in (
        message
    )


def test_full_size_has_the_published_parameter_count() -> None:
    sizes = [np.prod(shape) for shape in checkpoint_shapes(Pi0Config()).values()]
    assert sum(sizes) == pytest.approx(3.501e9, rel=1e-3)


def test_statistics_are_found_where_the_processor_names_them(copy: Path) -> None:
    (copy / STATISTICS).rename(copy / "elsewhere.safetensors")

    def rename(document: dict[str, Any]) -> None:
        document["steps"][0]["state_file"] = "elsewhere.safetensors"

    edit_json(copy / POSTPROCESSOR, rename)
    assert read_checkpoint(copy).action.size == 6


BENT = {
    "names the missing directory": (lambda p: shutil.rmtree(p), "config.json"),
    "names missing weights": (lambda p: (p / WEIGHTS).unlink(), "model.safetensors is missing"),
    "broken json": (lambda p: (p / CONFIG).write_text("{"), "not valid JSON"),
    "another policy": (
        lambda p: edit_json(p / CONFIG, lambda d: d.update(type="act")),
        "type 'pi0'",
    ),
    "missing tensor": (
        lambda p: edit_tensors(p / WEIGHTS, lambda t: t.pop("model.state_proj.weight")),
        "missing tensor state_proj.weight [64, 32]",
    ),
    "no embedding under either name": (
        lambda p: edit_tensors(
            p / WEIGHTS,
            lambda t: t.pop("model.paligemma_with_expert.paligemma.lm_head.weight"),
        ),
        "embed_tokens.weight",
    ),
    "unexpected tensor": (
        lambda p: edit_tensors(p / WEIGHTS, lambda t: t.update({"model.lora": torch.ones(2)})),
        "unexpected tensor model.lora [2]",
    ),
    "wrong shape": (
        lambda p: edit_tensors(
            p / WEIGHTS, lambda t: t.update({"model.action_out_proj.bias": torch.ones(7)})
        ),
        "action_out_proj.bias has shape [7], expected [32]",
    ),
    "no statistics of a base checkpoint": (
        lambda p: edit_json(p / POSTPROCESSOR, lambda d: d["steps"][0].pop("state_file")),
        "mode MEAN_STD needs the statistic 'mean'",
    ),
    "statistics file gone": (lambda p: (p / STATISTICS).unlink(), f"names {STATISTICS}"),
    "infinite statistics": (
        lambda p: edit_tensors(
            p / STATISTICS, lambda t: t.update({"action.std": torch.full((6,), torch.inf)})
        ),
        "'std' is not finite",
    ),
    "short statistics": (
        lambda p: edit_tensors(p / STATISTICS, lambda t: t.update({"action.std": torch.ones(5)})),
        "'std' has 5 values, 6 are needed",
    ),
    "unknown step": (
        lambda p: edit_json(
            p / PREPROCESSOR,
            lambda d: d["steps"].append({"registry_name": "warp_processor"}),
        ),
        "'warp_processor', which this package does not know",
    ),
    "unknown normalisation": (
        lambda p: edit_json(
            p / POSTPROCESSOR,
            lambda d: d["steps"][0]["config"]["norm_map"].update(ACTION="LOG"),
        ),
        "unknown normalisation mode 'LOG'",
    ),
    "normalised images": (
        lambda p: edit_json(
            p / PREPROCESSOR,
            lambda d: d["steps"][5]["config"]["norm_map"].update(VISUAL="MEAN_STD"),
        ),
        "images are normalised by MEAN_STD",
    ),
    "other actions than joints": (
        lambda p: edit_json(p / CONFIG, lambda d: d["output_features"]["action"].update(shape=[5])),
        "6 state values but 5 actions",
    ),
    "no camera": (
        lambda p: edit_json(
            p / CONFIG,
            lambda d: [d["input_features"].pop(k) for k in list(d["input_features"])[:2]],
        ),
        "no camera",
    ),
    "no word on normalisation": (
        lambda p: edit_json(p / POSTPROCESSOR, lambda d: d["steps"][0]["config"].pop("norm_map")),
        "norm_map is missing",
    ),
    "integers for weights": (
        lambda p: edit_tensors(
            p / WEIGHTS,
            lambda t: t.update({"model.state_proj.bias": torch.ones(64, dtype=torch.int8)}),
        ),
        "state_proj.bias has dtype I8",
    ),
    "half a file": (
        lambda p: (p / WEIGHTS).write_bytes((p / WEIGHTS).read_bytes()[:1000]),
        "is damaged or was not downloaded whole",
    ),
    "features that are none": (
        lambda p: edit_json(p / CONFIG, lambda d: d.update(input_features=None)),
        "no camera",
    ),
    "unknown size": (
        lambda p: edit_json(p / CONFIG, lambda d: d[SIZES_KEY].update(experts=3)),
        "unknown sizes ['experts']",
    ),
}


@pytest.mark.parametrize("name", BENT)
def test_what_is_wrong_is_named(copy: Path, name: str) -> None:
    bend, expected = BENT[name]
    bend(copy)
    assert expected in refused(copy)


def test_everything_wrong_is_listed_at_once(copy: Path) -> None:
    for name in ("missing tensor", "unexpected tensor", "unknown step", "unknown size"):
        BENT[name][0](copy)
    message = refused(copy)
    for name in ("missing tensor", "unexpected tensor", "unknown step", "unknown size"):
        assert BENT[name][1] in message


@pytest.mark.parametrize("padded", [False, True])
def test_what_openpis_format_says(as_openpi: Callable[..., Path], copy: Path, padded: bool) -> None:
    read = read_checkpoint(as_openpi(copy, padded))
    assert read.format == "openpi"
    assert read.cameras == OPENPI_CAMERAS
    assert read.joints == 6
    assert read.action_mode is None
    assert read.cleans_prompt
    assert read.state.size == 6
    six = read.action
    # openpi guards both directions: (x - mean) / (std + 1e-6) and x * (std + 1e-6) + mean.
    np.testing.assert_allclose(six.inverse_scale, np.arange(1, 7) / 2 + 1e-6, rtol=1e-7)
    np.testing.assert_array_equal(six.inverse_scale, six.scale)


def test_openpi_without_statistics_is_refused(as_openpi: Callable[..., Path], copy: Path) -> None:
    shutil.rmtree(as_openpi(copy) / "assets")
    assert "expected one assets/<id>/norm_stats.json, found none" in refused(copy)


def test_older_spellings_of_tensor_names() -> None:
    new = "paligemma_with_expert.paligemma."
    old = f"model.{new}"
    for theirs, ours in {
        f"{old}vision_tower.vision_model.post_layernorm.bias": f"{new}model.vision_tower."
        "vision_model.post_layernorm.bias",
        f"{old}multi_modal_projector.linear.bias": f"{new}model.multi_modal_projector.linear.bias",
        f"{old}language_model.model.norm.weight": f"{new}model.language_model.norm.weight",
        f"{old}language_model.lm_head.weight": f"{new}lm_head.weight",
        f"{old}model.language_model.norm.weight": f"{new}model.language_model.norm.weight",
        "model.state_proj.bias": "state_proj.bias",
        "state_proj.bias": "state_proj.bias",
    }.items():
        assert canonical(theirs) == ours


def test_lerobot_3_without_its_mapping_is_refused(copy: Path) -> None:
    """Its statistics would be there, and nothing would say that they are to be used."""
    for name in (PREPROCESSOR, POSTPROCESSOR):
        (copy / name).unlink()
    edit_json(copy / CONFIG, lambda d: d.pop("normalization_mapping"))
    assert "normalization_mapping is missing" in refused(copy)


def test_keys_of_observations_say_nothing_about_actions(copy: Path, demo_checkpoint: Path) -> None:
    def choose(document: dict[str, Any]) -> None:
        document["steps"][0]["config"]["normalize_observation_keys"] = []

    edit_json(copy / POSTPROCESSOR, choose)
    expected = read_checkpoint(demo_checkpoint).action.inverse_scale
    np.testing.assert_array_equal(read_checkpoint(copy).action.inverse_scale, expected)


def test_openpi_with_other_actions_than_joints_is_refused(
    as_openpi: Callable[..., Path], copy: Path
) -> None:
    file = next(as_openpi(copy).glob("assets/*/norm_stats.json"))

    def shorten(document: dict[str, Any]) -> None:
        for values in document["norm_stats"]["actions"].values():
            values.pop()

    edit_json(file, shorten)
    assert "6 state values but 5 actions" in refused(copy)
