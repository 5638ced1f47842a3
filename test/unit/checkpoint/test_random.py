"""The command that makes a checkpoint to try the software with."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from pi0_ros.checkpoint.checkpoint import WEIGHTS
from pi0_ros.checkpoint.random import JOINTS, main
from pi0_ros.checkpoint.weights import checkpoint_shapes
from pi0_ros.model.config import TINY
from pi0_ros.policy.policy import Policy


def test_the_command_writes_what_the_policy_loads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = tmp_path / "figures.json"
    arguments = [str(tmp_path / "made"), "--dtype", "bfloat16", "--seed", "3"]
    assert main([*arguments, "--json", str(figures)]) == 0
    assert json.loads(figures.read_text())["size_bytes"] > 1e6
    assert "pi0 tiny, bfloat16" in capsys.readouterr().out
    policy = Policy.load(tmp_path / "made")
    assert policy.cameras == ("front", "wrist")
    assert policy.num_joints == len(JOINTS)


def test_a_seed_gives_the_same_file(tmp_path: Path, demo_checkpoint: Path) -> None:
    main([str(tmp_path / "same")])
    main([str(tmp_path / "other"), "--seed", "1"])
    default = (demo_checkpoint / WEIGHTS).read_bytes()
    assert (tmp_path / "same" / WEIGHTS).read_bytes() == default
    assert (tmp_path / "other" / WEIGHTS).read_bytes() != default
    tokenizer = (demo_checkpoint / "tokenizer.model").read_bytes()
    assert (tmp_path / "same" / "tokenizer.model").read_bytes() == tokenizer


def test_the_file_has_every_tensor_of_a_published_one(demo_checkpoint: Path) -> None:
    assert len(load_file(demo_checkpoint / WEIGHTS)) == len(checkpoint_shapes(TINY))
