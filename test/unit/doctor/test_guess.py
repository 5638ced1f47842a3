"""Which hypothesis explains a state far from the training's."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from support.doctor_cases import JOINTS, MEAN, STD, state_at

from pi0_ros.checkpoint.normalization import Normalization
from pi0_ros.doctor.guess import best_order, explain, rearranged
from pi0_ros.policy.units import JointUnits

NAMES = tuple(JOINTS)
NORM = Normalization(*(v.astype(np.float32) for v in (MEAN, STD, STD)))
RADIANS = JointUnits.radians(6)
STATES = np.array([state_at(k) for k in range(100)])


def turn(joint: int, by: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda x: x + by * np.eye(6)[joint]


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (np.rad2deg, "the joint states are in degrees"),
        (lambda x: x[:, ::-1], "reversed order"),
        (lambda x: np.rad2deg(x[:, ::-1]), "in degrees, and the joints are in reversed order"),
        (lambda x: x[:, [3, 4, 5, 0, 1, 2]], "two halves of the joints are swapped"),
        (lambda x: x[:, [1, 2, 0, 3, 5, 4]], "in another order"),
        (lambda x: x * np.where(np.arange(6) == 3, -1, 1), "flex is of the other sign"),
        (lambda x: x * np.where(np.arange(6) == 3, 180 / np.pi, 1), "flex is in degrees"),
        (lambda x: x * np.where(np.arange(6) == 5, 100, 1), "grip is in percent"),
        (turn(4, 2 * np.pi), "roll is a revolution ahead"),
        (turn(2, -np.pi), "elbow is half a revolution behind"),
        (turn(0, np.pi / 2), "pan is a quarter revolution ahead"),
    ],
)
def test_the_cause_is_named(spoil: Callable[[np.ndarray], np.ndarray], text: str) -> None:
    guess = explain(spoil(STATES), RADIANS, NORM, NAMES)
    assert guess is not None
    assert text in guess.text
    assert guess.after < 1.5 < guess.before
    assert guess.advice


def test_what_nothing_explains_is_not_explained() -> None:
    assert explain(STATES + np.array([3, -5, 4, 9, 6, -8]), RADIANS, NORM, NAMES) is None


def test_small_numbers_are_not_taken_for_degrees() -> None:
    """Divided by 57 anything lies near 0, and 0 is a possible pose."""
    norm = Normalization(*(np.full(6, v, np.float32) for v in (0.0, 0.2, 0.2)))
    guess = explain(np.full((10, 6), 1.5), RADIANS, norm, NAMES)
    assert guess is None or "degrees" not in guess.text


def test_a_checkpoint_in_degrees_without_a_scale() -> None:
    norm = Normalization(*(np.rad2deg(v).astype(np.float32) for v in (MEAN, STD, STD)))
    guess = explain(STATES, RADIANS, norm, NAMES)
    assert guess is not None
    assert "the checkpoint's unit is degrees" in guess.text
    assert "0.017453293" in guess.advice
    scaled = JointUnits(np.full(6, np.pi / 180), np.zeros(6))
    in_degrees = explain(np.rad2deg(STATES), scaled, norm, NAMES)
    assert in_degrees is not None
    assert "the joint states are in degrees" in in_degrees.text


def test_the_best_order_undoes_any_order() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        shuffled = rng.permutation(6)
        order = best_order(STATES[:, shuffled], NORM)
        assert list(shuffled[order]) == list(range(6))


def test_an_ordinary_pose_is_not_rearranged() -> None:
    rng = np.random.default_rng(2)
    poses = MEAN + STD * rng.standard_normal((200, 6))
    assert not [pose for pose in poses if rearranged(pose[None], NORM) is not None]
