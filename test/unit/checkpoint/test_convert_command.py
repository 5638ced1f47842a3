"""`pi0 convert` as a command; test_convert.py looks at what it writes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from pi0_ros.checkpoint.formats import read_checkpoint
from pi0_ros.checkpoint.tensors import WEIGHTS
from pi0_ros.cli import main
from pi0_ros.console import FAILED


def convert(checkpoint: Path, out: Path, *options: object) -> int:
    return main(["convert", "--checkpoint", str(checkpoint), "--out", str(out), *map(str, options)])


def parameters(checkpoint: Path) -> dict[str, torch.Tensor]:
    model = read_checkpoint(checkpoint).load_model(torch.bfloat16, torch.device("cpu"))
    return dict(model.named_parameters())


@pytest.mark.parametrize("openpi", [False, True])
def test_the_model_is_the_same_bit_for_bit(
    demo_checkpoint: Path, tmp_path: Path, as_openpi, openpi: bool
) -> None:
    source, out, figures = tmp_path / "source", tmp_path / "out", tmp_path / "figures.json"
    shutil.copytree(demo_checkpoint, source)
    if openpi:
        as_openpi(source)
    assert convert(source, out, "--json", figures) == 0
    written = json.loads(figures.read_text())
    assert written["size"] == (out / WEIGHTS).stat().st_size < 0.6 * written["size_before"]
    before, after = parameters(source), parameters(out)
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert value.dtype == after[name].dtype
        assert_close(after[name], value, rtol=0, atol=0, msg=name)


def test_nothing_is_replaced_unless_asked(
    demo_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert convert(demo_checkpoint, out) == 0
    (out / "notes.txt").write_text("mine")
    written = (out / WEIGHTS).stat().st_mtime_ns
    assert convert(demo_checkpoint, out) == FAILED
    assert "--overwrite" in capsys.readouterr().err
    assert (out / WEIGHTS).stat().st_mtime_ns == written
    assert convert(demo_checkpoint, out, "--overwrite", "--dtype", "float32") == 0
    assert (out / WEIGHTS).stat().st_mtime_ns != written
    assert (out / "notes.txt").read_text() == "mine"


def test_the_checkpoint_itself_is_never_written(
    demo_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "source"
    shutil.copytree(demo_checkpoint, source)
    for out in (source, source / "inside", tmp_path):
        assert convert(source, out, "--overwrite") == FAILED
        assert "choose another --out" in capsys.readouterr().err
    assert {p.name for p in source.iterdir()} == {p.name for p in demo_checkpoint.iterdir()}


def test_a_broken_checkpoint_costs_nothing(
    demo_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert convert(demo_checkpoint, out) == 0
    assert convert(tmp_path / "nowhere", out, "--overwrite") == FAILED
    assert "config.json" in capsys.readouterr().err
    assert (out / WEIGHTS).is_file()
