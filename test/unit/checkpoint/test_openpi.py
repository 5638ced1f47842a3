"""openpi's directories as its converter and its trainer leave them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pi0_ros.checkpoint.directory import CONFIG
from pi0_ros.checkpoint.errors import CheckpointError
from pi0_ros.checkpoint.formats import ReadOptions, read_checkpoint
from pi0_ros.checkpoint.sizes import tensor_sizes
from pi0_ros.checkpoint.tensors import TensorInfo
from pi0_ros.checkpoint.weights import EMBED_TOKENS, LM_HEAD, checkpoint_shapes
from pi0_ros.model.config import TINY, Pi0Config


@pytest.fixture
def openpi(as_openpi: Callable[..., Path], demo_checkpoint: Path, tmp_path: Path) -> Path:
    return as_openpi(Path(shutil.copytree(demo_checkpoint, tmp_path / "openpi")))


def statistics(path: Path) -> Path:
    (file,) = path.rglob("norm_stats.json")
    return file


def refused(path: Path, **options: object) -> str:
    with pytest.raises(CheckpointError) as error:
        read_checkpoint(path, options=ReadOptions(**options))
    return str(error.value)


def test_the_id_of_a_data_set_may_have_slashes(openpi: Path) -> None:
    expected = read_checkpoint(openpi).action.offset
    file = statistics(openpi)
    target = openpi / "assets" / "user" / "data_set"
    target.mkdir(parents=True)
    file.rename(target / file.name)
    assert read_checkpoint(openpi).action.offset.tolist() == expected.tolist()
    asset = ReadOptions(asset="user/data_set")
    assert read_checkpoint(openpi, options=asset).action.offset.tolist() == expected.tolist()


def test_one_of_several_statistics_has_to_be_chosen(openpi: Path) -> None:
    first = statistics(openpi)
    expected = read_checkpoint(openpi).action.offset[0]
    document = json.loads(first.read_text())
    document["norm_stats"]["actions"]["mean"][0] = 42.0
    other = openpi / "assets" / "user" / "other"
    other.mkdir(parents=True)
    (other / first.name).write_text(json.dumps(document))
    name = first.parent.name
    assert f"set the parameter `asset` to one of {name}, user/other" in refused(openpi)
    for asset, offset in ((name, expected), ("user/other", 42.0)):
        read = read_checkpoint(openpi, options=ReadOptions(asset=asset))
        assert read.action.offset[0] == offset
    assert f"those are there: {name}, user/other" in refused(openpi, asset="user")


def test_without_config_the_horizon_is_asked_for(openpi: Path) -> None:
    with_config = read_checkpoint(openpi)
    (openpi / CONFIG).unlink()
    for name in ("optimizer.pt", "metadata.pt"):
        (openpi / name).write_bytes(b"never read")
    assert "set the parameter `horizon`" in refused(openpi)
    read = read_checkpoint(openpi, options=ReadOptions(horizon=TINY.horizon))
    assert read.format == "openpi"
    # The number of heads in the vision tower is no shape: that of every published model is taken.
    assert read.config == Pi0Config(**{**vars(TINY), "vision_heads": 16})
    assert read.action.offset.tolist() == with_config.action.offset.tolist()
    model = read.load_model(torch.float32, torch.device("cpu"))
    assert sum(1 for _ in model.parameters()) > 50


def test_horizon_must_not_contradict_the_config(openpi: Path) -> None:
    assert "action_horizon is 50, the parameter `horizon` is 20" in refused(openpi, horizon=20)


@pytest.mark.parametrize("config", [Pi0Config(), Pi0Config(horizon=20, max_action_dim=40)])
def test_sizes_of_published_tensors(config: Pi0Config) -> None:
    infos = {
        name: TensorInfo(name, shape, "BF16", Path())
        for name, shape in checkpoint_shapes(config).items()
    }
    assert tensor_sizes(infos, config.horizon, []) == config
    infos[LM_HEAD] = infos.pop(EMBED_TOKENS)
    assert tensor_sizes(infos, config.horizon, []) == config


def test_a_joint_that_never_moved_at_zero_is_a_joint(openpi: Path) -> None:
    document = json.loads(statistics(openpi).read_text())
    for values in document["norm_stats"].values():
        values["mean"][5] = values["std"][5] = 0.0
    statistics(openpi).write_text(json.dumps(document))
    assert read_checkpoint(openpi).joints == 6


@pytest.mark.parametrize(
    "values,expected",
    [
        ({"mean": "0"}, "mean must be a list of numbers"),
        ({"mean": [0.0] * 6, "std": [-1.0] * 6}, "'std' is negative"),
        ({"mean": [0.0] * 6, "std": [float("nan")] * 6}, "'std' is not finite"),
        ({"mean": [10**400] * 6, "std": [1] * 6}, "'mean' is not finite"),
    ],
)
def test_statistics_are_checked(openpi: Path, values: dict[str, object], expected: str) -> None:
    document = json.loads(statistics(openpi).read_text())
    document["norm_stats"]["state"] = values
    statistics(openpi).write_text(json.dumps(document))
    assert expected in refused(openpi)
