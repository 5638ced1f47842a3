"""Tensors that lie one after the other in a file are one view."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pi0_ros.checkpoint.mapped import MappedFile


@pytest.fixture
def file(tmp_path: Path) -> Path:
    tensors = {
        "a": torch.arange(6.0).view(2, 3),
        "b": torch.arange(9.0).view(3, 3) + 10,
        "c": torch.arange(4.0).view(2, 2),
        "d": torch.ones(5, dtype=torch.bfloat16),
    }
    save_file(tensors, tmp_path / "x.safetensors")
    return tmp_path / "x.safetensors"


def test_one_tensor(file: Path) -> None:
    got = MappedFile(file).get(["b"])
    assert got is not None
    assert torch.equal(got, torch.arange(9.0).view(3, 3) + 10)
    half = MappedFile(file).get(["d"])
    assert half is not None
    assert half.dtype == torch.bfloat16
    assert torch.equal(half, torch.ones(5, dtype=torch.bfloat16))


def test_neighbours_are_joined_without_a_copy(file: Path) -> None:
    mapped = MappedFile(file)
    both, first = mapped.get(["a", "b"]), mapped.get(["a"])
    assert both is not None
    assert first is not None
    expected = torch.cat((torch.arange(6.0).view(2, 3), torch.arange(9.0).view(3, 3) + 10))
    assert torch.equal(both, expected)
    assert both.data_ptr() == first.data_ptr()


@pytest.mark.parametrize("names", [["b", "a"], ["a", "c"], ["b", "c"], ["c", "d"]])
def test_others_are_not(file: Path, names: list[str]) -> None:
    assert MappedFile(file).get(names) is None


def test_a_view_outlives_the_object(file: Path) -> None:
    view = MappedFile(file).get(["a"])
    assert view is not None
    assert view.sum() == 15.0
