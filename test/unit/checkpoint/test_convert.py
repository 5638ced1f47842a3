"""A checkpoint of any format, written as one of this package's own, is the same policy."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from pi0_ros.checkpoint import convert as module
from pi0_ros.checkpoint.checkpoint import Checkpoint
from pi0_ros.checkpoint.convert import convert, tokenizer_files
from pi0_ros.checkpoint.directory import ADAPTER, ADAPTER_CONFIG, CONFIG
from pi0_ros.checkpoint.errors import CheckpointError
from pi0_ros.checkpoint.formats import ReadOptions, read_checkpoint
from pi0_ros.checkpoint.metadata import Declared, read_declared
from pi0_ros.checkpoint.steps import POSTPROCESSOR, PREPROCESSOR
from pi0_ros.checkpoint.tensors import INDEX, WEIGHTS
from pi0_ros.checkpoint.weights import LM_HEAD
from pi0_ros.policy.policy import Policy
from pi0_ros.policy.types import Observation

CPU = torch.device("cpu")
NAMES = ("a", "b", "c", "d", "e", "f")
DECLARED = Declared(NAMES, fps=30.0, unit_scale=(0.1,) * 6, unit_offset=(0.0, 1.0) * 3)


def relative(path: Path) -> None:
    settings = {"enabled": True, "exclude_joints": [], "action_names": None}
    for name, place, step in (
        (PREPROCESSOR, 5, {"registry_name": "relative_actions_processor", "config": settings}),
        (POSTPROCESSOR, 1, {"registry_name": "absolute_actions_processor", "config": settings}),
    ):
        document = json.loads((path / name).read_text())
        document["steps"].insert(place, step)
        (path / name).write_text(json.dumps(document))


def old_lerobot(path: Path) -> None:
    for name in (PREPROCESSOR, POSTPROCESSOR):
        (path / name).unlink()
    tensors = load_file(path / WEIGHTS)
    for buffer in (
        "normalize_inputs.buffer_observation_state",
        "unnormalize_outputs.buffer_action",
    ):
        tensors |= {f"{buffer}.min": -torch.rand(6) - 1, f"{buffer}.max": torch.rand(6)}
    save_file(tensors, path / WEIGHTS)
    document = json.loads((path / CONFIG).read_text())
    document["normalization_mapping"] |= {"STATE": "MIN_MAX", "ACTION": "MIN_MAX"}
    (path / CONFIG).write_text(json.dumps(document))


def sharded(path: Path) -> None:
    tensors = load_file(path / WEIGHTS)
    (path / WEIGHTS).unlink()
    files = {name: f"model-{i % 2}.safetensors" for i, name in enumerate(sorted(tensors))}
    for file in set(files.values()):
        save_file({n: v for n, v in tensors.items() if files[n] == file}, path / file)
    (path / INDEX).write_text(json.dumps({"weight_map": files}))


def adapter(path: Path) -> None:
    (path / WEIGHTS).unlink()
    name = "base_model.model.model.action_time_mlp_out"
    halves = {
        f"{name}.lora_A.weight": torch.ones(4, 64),
        f"{name}.lora_B.weight": torch.rand(64, 4),
    }
    save_file(halves, path / ADAPTER)
    (path / ADAPTER_CONFIG).write_text('{"peft_type": "LORA", "r": 4, "lora_alpha": 8}')


def lerobot(path: Path) -> None:
    """As it is."""


def prefixes(path: Path) -> None:
    """Trained with clean prefixes of up to nine actions."""
    document = json.loads((path / CONFIG).read_text())
    (path / CONFIG).write_text(json.dumps({**document, "rtc_training_max_delay": 9}))


FORMATS = {
    "LeRobot 0.4": lerobot,
    "LeRobot 0.6, relative actions": relative,
    "LeRobot 0.3": old_lerobot,
    "openpi": None,
    "shards": sharded,
    "LoRA": adapter,
    "pi0.5": prefixes,
    "pi0.5, openpi": None,
}


@pytest.fixture(params=FORMATS)
def original(
    request: pytest.FixtureRequest,
    demo_checkpoint: Path,
    demo_pi05: Path,
    tmp_path: Path,
    as_openpi: Callable,
) -> Checkpoint:
    start = demo_pi05 if request.param.startswith("pi0.5") else demo_checkpoint
    path = Path(shutil.copytree(start, tmp_path / "original"))
    (FORMATS[request.param] or as_openpi)(path)
    for file in path.glob("assets/*/norm_stats.json"):
        document = json.loads(file.read_text())
        for values in document["norm_stats"].values():
            values["q99"] = [value + 2 for value in values["q01"]]
        file.write_text(json.dumps(document))
    base = str(demo_checkpoint) if request.param == "LoRA" else ""
    return read_checkpoint(path, options=ReadOptions(base=base))


def same_model(one: Checkpoint, other: Checkpoint, dtype: torch.dtype) -> None:
    mine, theirs = (dict(read.load_model(dtype, CPU).named_parameters()) for read in (one, other))
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        assert value.dtype == theirs[name].dtype
        # Where a file is mapped may change the last digit of a product in float32.
        assert_close(value, theirs[name], rtol=0, atol=1e-7 if "time_in" in name else 0, msg=name)


def same_rules(one: Checkpoint, other: Checkpoint) -> None:
    for field in dataclasses.fields(Checkpoint):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        if field.name in ("state", "action"):
            for part in ("offset", "scale", "inverse_scale", "low"):
                np.testing.assert_array_equal(getattr(mine, part), getattr(theirs, part))
        elif field.name not in ("path", "format", "tensors"):
            assert mine == theirs, field.name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_same_policy_from_one_directory(
    original: Checkpoint, tmp_path: Path, dtype: torch.dtype
) -> None:
    out = tmp_path / "out"
    words = tokenizer_files([original.path])
    size = convert(original, out, dtype, DECLARED, words)
    files = {CONFIG, WEIGHTS, "tokenizer.model", "tokenizer_config.json"}
    assert {file.name for file in out.iterdir()} == files
    assert size == (out / WEIGHTS).stat().st_size
    read = read_checkpoint(out)
    assert read.format == "pi0_ros"
    same_rules(read, original)
    same_model(read, original, dtype)
    declared = read_declared(out, 6)
    assert (declared.joints, declared.fps) == (DECLARED.joints, DECLARED.fps)
    units = DECLARED.unit_scale, DECLARED.unit_offset
    assert (declared.unit_scale, declared.unit_offset) == units
    convert(read, tmp_path / "again", dtype, DECLARED, tokenizer_files([out]))
    for file in out.iterdir():
        first, second = (path.read_bytes() for path in (file, tmp_path / "again" / file.name))
        assert first == second.replace(
            b'"pi0_ros",\n  "var', f'"{original.format}",\n  "var'.encode()
        )


def test_the_same_actions(demo_checkpoint: Path, tmp_path: Path) -> None:
    original = read_checkpoint(demo_checkpoint)
    convert(original, tmp_path / "out", torch.float32, None, tokenizer_files([demo_checkpoint]))
    images = dict.fromkeys(original.cameras, np.full((48, 64, 3), 100, np.uint8))
    observation = Observation(images, np.zeros(6, np.float32), "push the red cube")
    before, after = (
        Policy.load(path).infer(observation).positions
        for path in (demo_checkpoint, tmp_path / "out")
    )
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-6)


def test_half_the_bytes(demo_checkpoint: Path, tmp_path: Path) -> None:
    size = convert(read_checkpoint(demo_checkpoint), tmp_path / "out", torch.bfloat16)
    assert size < 0.6 * (demo_checkpoint / WEIGHTS).stat().st_size
    names = load_file(tmp_path / "out" / WEIGHTS)
    assert not [name for name in names if "gemma_expert.lm_head" in name]


def test_it_widens_too(demo_checkpoint: Path, tmp_path: Path) -> None:
    convert(read_checkpoint(demo_checkpoint), tmp_path / "half", torch.float16)
    half = read_checkpoint(tmp_path / "half")
    convert(half, tmp_path / "wide", torch.float32)
    same_model(half, read_checkpoint(tmp_path / "wide"), torch.float32)


def test_a_tied_embedding_is_written_once(demo_checkpoint: Path, tmp_path: Path) -> None:
    from pi0_ros.checkpoint.weights import EMBED_TOKENS

    both = Path(shutil.copytree(demo_checkpoint, tmp_path / "both"))
    tensors = load_file(both / WEIGHTS)
    tensors["model." + EMBED_TOKENS] = tensors["model." + LM_HEAD].clone()
    save_file(tensors, both / WEIGHTS)
    read = read_checkpoint(both)
    convert(read, tmp_path / "out", torch.bfloat16)
    same_model(read, read_checkpoint(tmp_path / "out"), torch.bfloat16)
    assert LM_HEAD not in load_file(tmp_path / "out" / WEIGHTS)


def test_what_cannot_be_is_refused(demo_checkpoint: Path, tmp_path: Path) -> None:
    read = read_checkpoint(demo_checkpoint)
    with pytest.raises(ValueError, match="is the checkpoint itself"):
        convert(read, demo_checkpoint, torch.bfloat16)
    with pytest.raises(ValueError, match="dtype must be one of"):
        convert(read, tmp_path / "out", torch.int8)
    assert not (tmp_path / "out").exists()


def test_a_full_disk_leaves_no_checkpoint(
    demo_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        convert(read_checkpoint(demo_checkpoint), tmp_path / "out", torch.bfloat16)
    assert not list((tmp_path / "out").iterdir())


BENT: dict[str, tuple[dict[str, object], str]] = {
    "a newer version": ({"version": 2}, "it was written by a newer pi0_ros"),
    "no sizes": ({"pi0_ros_sizes": None}, "pi0_ros_sizes is missing"),
    "another variant": ({"variant": "pi1"}, "variant must be one of pi0, pi05, got 'pi1'"),
    "fewer numbers": ({"joints": 5}, "must have 5 finite numbers"),
    "no statistics": ({"state": None}, "state: offset must have 6 finite numbers"),
    "a camera twice": ({"cameras": ["a", "a"]}, "cameras must be different names"),
    "a mask of numbers": ({"delta_mask": [1] * 6}, "delta_mask must be 6 times true or false"),
    "a mask without its mode": ({"delta_mask": [True] * 6}, "action_mode is 'absolute'"),
}


@pytest.mark.parametrize("name", BENT)
def test_what_is_wrong_is_named(demo_checkpoint: Path, tmp_path: Path, name: str) -> None:
    convert(read_checkpoint(demo_checkpoint), tmp_path / "out", torch.bfloat16)
    change, expected = BENT[name]
    file = tmp_path / "out" / CONFIG
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(CheckpointError) as error:
        read_checkpoint(tmp_path / "out")
    assert expected in str(error.value)
