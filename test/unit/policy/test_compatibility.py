"""What a checkpoint cannot do is known before its weights are read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pi0_ros.checkpoint.checkpoint import Checkpoint
from pi0_ros.checkpoint.formats import read_checkpoint
from pi0_ros.checkpoint.normalization import Normalization
from pi0_ros.policy.compatibility import has_statistics, policy_problems, radian_range
from pi0_ros.policy.units import JointUnits


@pytest.fixture(scope="module")
def checkpoint(demo_checkpoint: Path) -> Checkpoint:
    return read_checkpoint(demo_checkpoint)


def problems(checkpoint: Checkpoint, **changes: object) -> list[str]:
    asked = {"cameras": ["front"], "joints": 6, "action_mode": None, "delta_mask": None}
    return policy_problems(checkpoint, **{**asked, "action_dt": 0.02, **changes})


def test_what_fits_has_none(checkpoint: Checkpoint) -> None:
    assert problems(checkpoint) == []


def test_everything_wrong_is_in_one_list(checkpoint: Checkpoint) -> None:
    found = problems(
        checkpoint, cameras=["top"], joints=7, action_mode="delta", delta_mask=[True], action_dt=0.0
    )
    assert len(found) == 4
    assert "cameras ['top'] are not the checkpoint's" in found[0]
    assert found[1] == "7 joints are given, the checkpoint has 6"


def norm(mean: list[float], std: list[float]) -> Normalization:
    values = (np.array(v, np.float32) for v in (mean, std, std))
    return Normalization(*values)


@pytest.mark.parametrize("kind", ["state", "action"])
def test_a_number_that_never_varied_is_named(checkpoint: Checkpoint, kind: str) -> None:
    still = norm([0, 1.25, 0, 0, 0, 0], [1, 1e-8, 1, 1, 1, 1])
    (problem,) = problems(replace(checkpoint, **{kind: still}))
    assert f"the checkpoint's {kind} never varied in its data: number 1 (always 1.25)" in problem


def test_chunks_without_steps(checkpoint: Checkpoint) -> None:
    empty = replace(checkpoint, config=replace(checkpoint.config, horizon=0))
    assert problems(empty) == ["the checkpoint's chunks have 0 steps"]


def test_ranges_in_radians_are_in_order_whatever_the_sign_of_the_scale() -> None:
    units = JointUnits(np.array([-0.5, 2.0]), np.array([1.0, 0.0]))
    lower, upper = radian_range(norm([1.0, 3.0], [2.0, 1.0]), units)
    np.testing.assert_allclose(lower, [-0.5, 4.0])
    np.testing.assert_allclose(upper, [1.5, 8.0])


def test_identity_is_no_statistics(checkpoint: Checkpoint) -> None:
    assert has_statistics(checkpoint.state)
    assert not has_statistics(norm([0.0, 0.0], [1.0, 1.0]))
