"""`pi0 demo checkpoint`: the checkpoint to try the software with."""

import argparse
import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from pi0_ros.checkpoint.random import JOINTS
from pi0_ros.checkpoint.tensors import WEIGHTS
from pi0_ros.checkpoint.weights import checkpoint_shapes
from pi0_ros.demo import checkpoint
from pi0_ros.errors import UserError
from pi0_ros.model.config import TINY
from pi0_ros.policy.policy import Policy


def write(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    checkpoint.add_arguments(parser)
    return checkpoint.run(parser.parse_args(list(map(str, arguments))))


def test_it_writes_what_the_policy_loads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures, made = tmp_path / "figures.json", tmp_path / "made"
    assert write(made, "--dtype", "bfloat16", "--seed", 3, "--json", figures) == 0
    assert json.loads(figures.read_text())["size_bytes"] > 1e6
    assert "pi0 tiny, bfloat16" in capsys.readouterr().out
    policy = Policy.load(made)
    assert policy.cameras == ("front", "wrist")
    assert policy.num_joints == len(JOINTS)


def test_a_seed_gives_the_same_file(tmp_path: Path, demo_checkpoint: Path) -> None:
    write(tmp_path / "same")
    write(tmp_path / "other", "--seed", 1)
    default = (demo_checkpoint / WEIGHTS).read_bytes()
    assert (tmp_path / "same" / WEIGHTS).read_bytes() == default
    assert (tmp_path / "other" / WEIGHTS).read_bytes() != default
    tokenizer = (demo_checkpoint / "tokenizer.model").read_bytes()
    assert (tmp_path / "same" / "tokenizer.model").read_bytes() == tokenizer


def test_a_real_checkpoint_is_not_replaced_unless_asked(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(UserError, match="--overwrite"):
        write(tmp_path, "--seed", 1)
    assert write(tmp_path, "--seed", 1, "--overwrite") == 0


def test_the_file_has_every_tensor_of_a_published_one(demo_checkpoint: Path) -> None:
    assert len(load_file(demo_checkpoint / WEIGHTS)) == len(checkpoint_shapes(TINY))
