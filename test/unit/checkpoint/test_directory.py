"""Directories that people have: adapters, shards, and what is no checkpoint of pi0 at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from pi0_ros.checkpoint.directory import ADAPTER, ADAPTER_CONFIG, CONFIG
from pi0_ros.checkpoint.errors import CheckpointError
from pi0_ros.checkpoint.formats import ReadOptions, read_checkpoint
from pi0_ros.checkpoint.tensors import INDEX, WEIGHTS

CPU = torch.device("cpu")
QUERY = "paligemma_with_expert.gemma_expert.model.layers.1.self_attn.q_proj"
RANK, ALPHA = 4, 8


@pytest.fixture
def copy(demo_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(demo_checkpoint, tmp_path / "checkpoint"))


def refused(path: Path | str, base: Path | str = "") -> str:
    with pytest.raises(CheckpointError) as error:
        read_checkpoint(path, options=ReadOptions(base=str(base)))
    return str(error.value)


def parameters(path: Path, base: Path | str = "") -> dict[str, torch.Tensor]:
    read = read_checkpoint(path, options=ReadOptions(base=str(base)))
    return dict(read.load_model(torch.float32, CPU).named_parameters())


def make_adapter(path: Path, **settings: object) -> tuple[torch.Tensor, torch.Tensor]:
    """Turn a copy of the demo checkpoint into what PEFT saves. Returns A and B."""
    g = torch.Generator().manual_seed(3)
    weight = load_file(path / WEIGHTS)[f"model.{QUERY}.weight"]
    down = torch.randn(RANK, weight.shape[1], generator=g)
    up = torch.randn(weight.shape[0], RANK, generator=g)
    bias = load_file(path / WEIGHTS)["model.state_proj.bias"] + 1
    prefix = "base_model.model.model."
    tensors = {
        f"{prefix}{QUERY}.lora_A.weight": down,
        f"{prefix}{QUERY}.lora_B.weight": up,
        f"{prefix}state_proj.bias": bias,
    }
    (path / WEIGHTS).unlink()
    save_file(tensors, path / ADAPTER)
    config = {
        "peft_type": "LORA",
        "r": RANK,
        "lora_alpha": ALPHA,
        "base_model_name_or_path": "lerobot/pi0_base",
        **settings,
    }
    (path / ADAPTER_CONFIG).write_text(json.dumps(config))
    return down, up


@pytest.mark.parametrize(
    "settings,scale",
    [
        ({}, ALPHA / RANK),
        ({"use_rslora": True}, ALPHA / RANK**0.5),
        ({"alpha_pattern": {"self_attn.q_proj": 2}}, 2 / RANK),
        ({"alpha_pattern": {f"^model.{QUERY}": 2}}, 2 / RANK),
        ({"alpha_pattern": {"elf_attn.q_proj": 2, "v_proj": 3}}, ALPHA / RANK),
    ],
)
def test_an_adapter_is_added_to_its_base(
    demo_checkpoint: Path, copy: Path, settings: dict[str, object], scale: float
) -> None:
    down, up = make_adapter(copy, **settings)
    before, after = parameters(demo_checkpoint), parameters(copy, demo_checkpoint)
    name = "expert.layers.1.qkv.weight"
    change = (scale * up @ down).t()
    expected = before[name].clone()
    expected[:, : change.shape[1]] += change
    assert_close(after[name], expected, rtol=1e-5, atol=1e-5)
    assert (after["state_in.bias"] - before["state_in.bias"] - 1).abs().max() < 1e-6
    same = set(before) - {name, "state_in.bias"}
    assert all(torch.equal(before[key], after[key]) for key in same)


def test_an_adapter_without_its_base(copy: Path) -> None:
    make_adapter(copy)
    message = refused(copy)
    assert "is an adapter (LoRA) of lerobot/pi0_base" in message and "`base_checkpoint`" in message


ADAPTERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "another kind": (lambda p: make_adapter(p, peft_type="IA3"), "peft_type is 'IA3'"),
    "DoRA": (lambda p: make_adapter(p, use_dora=True), "use_dora is set"),
    "a changed base": (
        lambda p: make_adapter(p, init_lora_weights="pissa_niter_4"),
        "init_lora_weights is 'pissa_niter_4', which changes the base too",
    ),
    "a pattern": (lambda p: make_adapter(p, alpha_pattern={"(a+)+": 1}), "is a pattern"),
    "no settings": (
        lambda p: (make_adapter(p), (p / ADAPTER_CONFIG).unlink()),
        "adapter_config.json is missing",
    ),
    "half of a difference": (
        lambda p: (
            make_adapter(p),
            save_file({f"{QUERY}.lora_A.weight": torch.ones(4, 64)}, p / ADAPTER),
        ),
        "B [] and A [4, 64] do not fit",
    ),
    "of another model": (
        lambda p: (
            make_adapter(p),
            save_file(
                {"x.lora_A.weight": torch.ones(4, 8), "x.lora_B.weight": torch.ones(8, 4)},
                p / ADAPTER,
            ),
        ),
        "do not fit x.weight of the base: none",
    ),
    "a bias of a difference": (
        lambda p: (make_adapter(p), save_file({"x.lora_B.bias": torch.ones(4)}, p / ADAPTER)),
        "is of a kind that cannot be merged",
    ),
}


@pytest.mark.parametrize("name", ADAPTERS)
def test_adapters_that_cannot_be_merged(copy: Path, demo_checkpoint: Path, name: str) -> None:
    bend, expected = ADAPTERS[name]
    bend(copy)
    assert expected in refused(copy, demo_checkpoint)


def test_a_base_that_is_not_needed_or_no_base(copy: Path, demo_checkpoint: Path) -> None:
    assert "checkpoint is a whole checkpoint" in refused(copy, demo_checkpoint)
    make_adapter(copy)
    assert "is an adapter itself" in refused(copy, copy)
    assert "there is no such directory" in refused(copy, copy / "nowhere")


def shard(path: Path) -> list[str]:
    tensors = load_file(path / WEIGHTS)
    (path / WEIGHTS).unlink()
    names = sorted(tensors)
    parts = {f"model-0000{i + 1}-of-00003.safetensors": names[i::3] for i in range(3)}
    for file, own in parts.items():
        save_file({name: tensors[name] for name in own}, path / file)
    weight_map = {name: file for file, own in parts.items() for name in own}
    (path / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return list(parts)


def test_shards_are_one_checkpoint(copy: Path, demo_checkpoint: Path) -> None:
    files = shard(copy)
    before, after = parameters(demo_checkpoint), parameters(copy)
    for key, value in before.items():
        # Where a file is mapped changes the last digit of a product.
        assert_close(after[key], value, rtol=0, atol=1e-7)
    (copy / files[1]).unlink()
    assert f"names {files[1]}, which are missing" in refused(copy)


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "a/b.safetensors", "x"])
def test_an_index_names_files_beside_it(copy: Path, name: str) -> None:
    shutil.copy(copy / WEIGHTS, copy.parent)
    (copy / WEIGHTS).unlink()
    (copy / INDEX).write_text(json.dumps({"weight_map": {"state_proj.bias": name}}))
    assert "no files beside it" in refused(copy)


@pytest.mark.parametrize("infix", ["_orig_mod.", "module."])
def test_names_that_torch_puts_in_between(copy: Path, demo_checkpoint: Path, infix: str) -> None:
    """torch.compile's and DistributedDataParallel's."""
    tensors = load_file(copy / WEIGHTS)
    save_file({infix + name: value for name, value in tensors.items()}, copy / WEIGHTS)
    before, after = parameters(demo_checkpoint), parameters(copy)
    for key, value in before.items():
        # Where a file is mapped changes the last digit of a product.
        assert_close(after[key], value, rtol=0, atol=1e-7)


def test_the_same_tensor_twice(copy: Path) -> None:
    tensors = load_file(copy / WEIGHTS)
    tensors["state_proj.bias"] = tensors["model.state_proj.bias"].clone()
    save_file(tensors, copy / WEIGHTS)
    assert "are the same tensor" in refused(copy)


def test_the_right_directory_is_named(demo_checkpoint: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    for step in ("090000", "100000"):
        shutil.copytree(demo_checkpoint, run / "checkpoints" / step / "pretrained_model")
        (run / "checkpoints" / step / "training_state").mkdir()
    last = run / "checkpoints" / "100000"
    for given in (run, run / "checkpoints"):
        assert f"a checkpoint lies in {last / 'pretrained_model'} or " in refused(given)
    for given in (last, last / "training_state"):
        assert f"a checkpoint lies in {last / 'pretrained_model'}" in refused(given)
    below = last / "pretrained_model" / "tokenizer"
    below.mkdir()
    assert f"a checkpoint lies in {last / 'pretrained_model'}" in refused(below)
    assert "is a file: give the directory" in refused(last / "pretrained_model" / WEIGHTS)


def touch(path: Path, *names: str) -> None:
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(b"{}")


def only(path: Path, *names: str) -> None:
    """Replace what is in a directory."""
    shutil.rmtree(path)
    touch(path, *names)


def retype(path: Path, **settings: object) -> None:
    document = json.loads((path / CONFIG).read_text())
    (path / CONFIG).write_text(json.dumps({**document, **settings}))


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 14000000000\n"
OTHERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "JAX": (
        lambda p: only(p, "_CHECKPOINT_METADATA", "params/_METADATA", "assets/trossen/x"),
        "openpi's JAX version: convert it with openpi",
    ),
    "JAX without its metadata": (
        lambda p: only(p, "params/manifest.ocdbt", "params/ocdbt.process_0/d/x"),
        "openpi's JAX version",
    ),
    "pickle": (lambda p: only(p, CONFIG, "pytorch_model.bin"), "its weights are pickles"),
    "pickle of torch": (lambda p: only(p, CONFIG, "model.pt"), "its weights are pickles"),
    "FSDP": (
        lambda p: only(p, CONFIG, "pytorch_model_fsdp_0/__0_0.distcp"),
        "a sharded checkpoint of torch.distributed (FSDP, DCP)",
    ),
    "DCP": (lambda p: only(p, ".metadata", "__0_0.distcp"), "of torch.distributed (FSDP, DCP)"),
    "transformers": (
        lambda p: retype(p, type=None, model_type="pi0"),
        "the PI0 of transformers itself",
    ),
    "pi0-FAST": (lambda p: retype(p, type="pi0_fast"), "this is pi0-FAST"),
    "pi0-FAST of LeRobot 0.3": (lambda p: retype(p, type="pi0fast"), "this is pi0-FAST"),
    "SmolVLA": (lambda p: retype(p, type="smolvla"), "this is SmolVLA"),
    "ACT": (lambda p: retype(p, type="act"), "type 'act' is another policy than pi0"),
    "another model of transformers": (
        lambda p: retype(p, type=None, model_type="paligemma"),
        "type 'paligemma' is another policy than pi0",
    ),
    "no type": (lambda p: retype(p, type=None), "it says no type"),
    "a pointer of Git LFS": (
        lambda p: (p / WEIGHTS).write_bytes(POINTER),
        "is a pointer of Git LFS, not the file itself: run `git lfs pull`",
    ),
    "a page of an error": (
        lambda p: (p / WEIGHTS).write_bytes(b"<!doctype html><html>Not found</html>" * 10),
        "is no safetensors file, or a damaged one",
    ),
    "weights alone": (
        lambda p: [file.unlink() for file in p.iterdir() if file.name != WEIGHTS],
        "config.json is missing",
    ),
    "nothing": (lambda p: only(p, "notes"), "a pi0 checkpoint has config.json and model.safe"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_things_get_a_sentence_of_their_own(copy: Path, name: str) -> None:
    bend, expected = OTHERS[name]
    bend(copy)
    message = refused(copy)
    assert expected in message
    assert "\n" not in message


def test_a_name_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "run `hf download lerobot/pi0_base --local-dir DIR`" in refused("lerobot/pi0_base")
    assert "hf download" not in refused(tmp_path / "nowhere")


def test_compiled_weights_without_a_config_are_not_openpi_s(copy: Path) -> None:
    tensors = load_file(copy / WEIGHTS)
    save_file({"_orig_mod." + name: value for name, value in tensors.items()}, copy / WEIGHTS)
    (copy / CONFIG).unlink()
    assert "config.json is missing" in refused(copy)
