"""A checkpoint written in another dtype loads the same model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from pi0_ros.checkpoint import convert as module
from pi0_ros.checkpoint.convert import convert
from pi0_ros.checkpoint.formats import read_checkpoint
from pi0_ros.checkpoint.tensors import WEIGHTS
from pi0_ros.checkpoint.weights import EMBED_TOKENS, LM_HEAD

CPU = torch.device("cpu")


def same(one: Path, other: Path, dtype: torch.dtype) -> None:
    mine, theirs = (
        dict(read_checkpoint(path).load_model(dtype, CPU).named_parameters())
        for path in (one, other)
    )
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        assert_close(value, theirs[name], rtol=0, atol=0, msg=name)


def test_the_same_model_from_half_the_bytes(demo_checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    size = convert(demo_checkpoint, out, torch.bfloat16)
    assert size == (out / WEIGHTS).stat().st_size < 0.6 * (demo_checkpoint / WEIGHTS).stat().st_size
    assert {p.name for p in out.iterdir()} == {p.name for p in demo_checkpoint.iterdir()}
    same(demo_checkpoint, out, torch.bfloat16)
    assert not [name for name in load_file(out / WEIGHTS) if "gemma_expert.lm_head" in name]
    convert(out, tmp_path / "again", torch.bfloat16)
    assert (tmp_path / "again" / WEIGHTS).read_bytes() == (out / WEIGHTS).read_bytes()


def test_it_widens_too(demo_checkpoint: Path, tmp_path: Path) -> None:
    convert(demo_checkpoint, tmp_path / "half", torch.float16)
    convert(tmp_path / "half", tmp_path / "wide", torch.float32)
    same(tmp_path / "half", tmp_path / "wide", torch.float32)


def test_a_tied_embedding_is_written_once(demo_checkpoint: Path, tmp_path: Path) -> None:
    both = tmp_path / "both"
    convert(demo_checkpoint, both, torch.float32)
    tensors = load_file(both / WEIGHTS)
    tensors["model." + EMBED_TOKENS] = tensors["model." + LM_HEAD].clone()
    save_file(tensors, both / WEIGHTS, metadata={"format": "pt"})
    convert(both, tmp_path / "out", torch.bfloat16)
    same(both, tmp_path / "out", torch.bfloat16)
    assert "model." + LM_HEAD not in load_file(tmp_path / "out" / WEIGHTS)


def test_what_cannot_be_is_refused(demo_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is the checkpoint itself"):
        convert(demo_checkpoint, demo_checkpoint, torch.bfloat16)
    with pytest.raises(ValueError, match="dtype must be one of"):
        convert(demo_checkpoint, tmp_path / "out", torch.int8)
    assert not (tmp_path / "out").exists()


def test_a_full_disk_leaves_no_weights(
    demo_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        convert(demo_checkpoint, tmp_path / "out", torch.bfloat16)
    assert not list((tmp_path / "out").glob("model*"))
