"""A copy of the weights in the dtype that is computed in."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch.testing import assert_close

from pi0_ros.checkpoint import convert as module
from pi0_ros.checkpoint.checkpoint import WEIGHTS, Checkpoint
from pi0_ros.checkpoint.formats import read_checkpoint
from pi0_ros.checkpoint.random import write_demo_checkpoint
from pi0_ros.model.config import TINY
from pi0_ros.model.pi0 import Pi0

CPU = torch.device("cpu")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    """In float32, alone in its directory."""
    write_demo_checkpoint(tmp_path / "checkpoint", TINY)
    return read_checkpoint(tmp_path / "checkpoint")


def load(checkpoint: Checkpoint, cache: Path | None, mapped: bool = True) -> Pi0:
    return checkpoint.load_model(torch.bfloat16, CPU, mapped, cache)


def same(one: Pi0, other: Pi0) -> None:
    mine, theirs = dict(one.named_parameters()), dict(other.named_parameters())
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        assert value.dtype == theirs[name].dtype, name
        assert_close(value, theirs[name], rtol=0, atol=0, msg=name)


@pytest.mark.parametrize("mapped", [True, False])
def test_a_model_from_the_copy_is_the_same(checkpoint, tmp_path, mapped) -> None:
    plain, cache = load(checkpoint, None, mapped), tmp_path / "cache"
    same(load(checkpoint, cache, mapped), plain)
    (copy,) = cache.iterdir()
    written = copy.stat()
    same(load(checkpoint, cache, mapped), plain)
    assert copy.stat().st_mtime_ns == written.st_mtime_ns, "it is written once"
    assert written.st_size < 0.6 * (checkpoint.path / WEIGHTS).stat().st_size
    assert copy.stat().st_mode & 0o077 == 0 or cache.stat().st_mode & 0o077 == 0


def test_the_second_load_reads_the_copy(checkpoint, tmp_path, monkeypatch) -> None:
    load(checkpoint, tmp_path)
    opened = []
    monkeypatch.setattr(
        "pi0_ros.checkpoint.weights.safe_open",
        lambda path, *rest: opened.append(Path(path)) or safe_open(path, *rest),
    )
    load(checkpoint, tmp_path)
    # Names, shapes and dtypes of the original are looked at, but no tensor of it is read.
    assert opened.count(checkpoint.path / WEIGHTS) == 1
    assert any(path.parent == tmp_path for path in opened)


def test_a_product_of_several_tensors_lies_in_one_piece(checkpoint, tmp_path) -> None:
    """So that joining queries, keys and values is mapping them."""
    model = load(checkpoint, tmp_path)
    begins = {
        p.untyped_storage().data_ptr()
        for name, p in model.named_parameters()
        if name.startswith("prefix.layers.") and name.endswith(".weight")
    }
    assert len(begins) == 1


def test_another_checkpoint_at_the_same_place_is_converted_anew(checkpoint, tmp_path) -> None:
    cache = tmp_path / "cache"
    load(checkpoint, cache)
    write_demo_checkpoint(checkpoint.path, TINY, seed=7)
    same(load(checkpoint, cache), load(checkpoint, None))
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize("size", [0, 5, 5000])
def test_a_copy_that_was_cut_is_made_anew(checkpoint, tmp_path, size) -> None:
    cache = tmp_path / "cache"
    load(checkpoint, cache)
    (copy,) = cache.iterdir()
    os.truncate(copy, size)
    same(load(checkpoint, cache), load(checkpoint, None))


def test_no_copy_where_it_would_not_be_smaller(checkpoint, tmp_path) -> None:
    cache = tmp_path / "cache"
    checkpoint.load_model(torch.float32, CPU, cache=cache)
    assert not cache.exists()


def test_a_full_disk_is_no_reason_not_to_start(checkpoint, tmp_path, monkeypatch, caplog) -> None:
    def put(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_put", put)
    cache = tmp_path / "cache"
    with caplog.at_level(logging.WARNING):
        same(load(checkpoint, cache), load(checkpoint, None))
    assert "No space left" in caplog.text
    assert not list(cache.iterdir()), "nothing half written stays"
