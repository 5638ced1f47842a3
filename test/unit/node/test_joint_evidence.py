"""Measured samples: unwrapped, dropped where impossible, believed again where they agree."""

from __future__ import annotations

import numpy as np
import pytest
from support.jtc import MS, limits_of

from pi0_ros.motion.limits import JointLimits
from pi0_ros.node.joint_evidence import AGREEING, JointEvidence

NAN = float("nan")


def continuous(count: int) -> JointLimits:
    bounds = np.full(count, np.inf)
    names = tuple("abcdef"[:count])
    return JointLimits(names, -bounds, bounds, np.full(count, 2.0), np.full(count, 5.0))


def evidence(limits: JointLimits | None = None) -> JointEvidence:
    limits = limits_of(2, velocity=2.0, acceleration=5.0) if limits is None else limits
    return JointEvidence(limits.names, limits)


def put(judge: JointEvidence, *samples: list[float], step: int = 10 * MS) -> list:
    return [judge.put(np.array(sample), (k + 1) * step) for k, sample in enumerate(samples)]


@pytest.mark.parametrize("wrong", [[0.0, 0.0], [1.2, 1.2 - 2 * np.pi], [-1.5, 1.2], [1.2, 9.0]])
def test_one_impossible_sample_is_dropped(wrong: list[float]) -> None:
    judge = evidence()
    results = put(judge, [1.2, 1.2], wrong, [1.21, 1.2])
    assert results[1] is None and judge.dropped == 1
    np.testing.assert_array_equal(results[2], [1.21, 1.2])
    assert not judge.fault


def test_a_fast_joint_and_noise_are_possible() -> None:
    judge = evidence()
    rng = np.random.default_rng(0)
    for k in range(500):
        sample = np.array([2.0 * k * 0.01, -2.0 * k * 0.01]) + rng.normal(0, 0.01, 2)
        assert judge.put(sample, k * 10 * MS) is not None
    assert judge.dropped == 0


def test_samples_that_agree_are_believed_and_told() -> None:
    judge = evidence()
    results = put(judge, [1.2, 1.2], *[[0.0, 1.2]] * AGREEING)
    assert [result is None for result in results] == [False, True, True, False]
    assert judge.jumps == 1
    assert judge.dropped == AGREEING - 1
    assert "joint_0 from 1.200 to 0.000" in judge.fault
    np.testing.assert_array_equal(judge.put(np.array([0.01, 1.2]), 50 * MS), [0.01, 1.2])


def test_alternating_publishers_are_never_believed() -> None:
    judge = evidence()
    results = put(judge, *[[0.0, 0.0], [-1.57, -1.57]] * 10)
    assert [result is None for result in results] == [False, True] * 10
    assert judge.jumps == 0


def test_garbage_that_does_not_agree_is_not_believed() -> None:
    judge = evidence()
    results = put(judge, [0.0, 0.0], [3.0, 0.0], [-3.0, 0.0], [6.0, 0.0], [0.0, 3.0], [9.0, 9.0])
    assert all(result is None for result in results[1:])
    assert judge.jumps == 0 and judge.dropped == 5


def test_joints_without_position_limits_are_unwrapped() -> None:
    judge = evidence(continuous(1))
    truth = 3.0 + 2.0 * np.arange(1000) * 0.01
    wrapped = (truth + np.pi) % (2 * np.pi) - np.pi
    for k, (angle, expected) in enumerate(zip(wrapped, truth, strict=True)):
        np.testing.assert_allclose(judge.put(np.array([angle]), k * 10 * MS), [expected])
    assert judge.dropped == 0


def test_parts_of_the_arm_are_judged_by_themselves() -> None:
    judge = evidence()
    results = put(judge, [1.0, NAN], [NAN, 0.5], [1.01, NAN], [NAN, 3.0], [1.02, NAN], [NAN, 0.5])
    assert [result is None for result in results] == [False, False, False, True, False, False]
    assert np.isnan(results[0][1]) and np.isnan(results[1][0])


def test_a_wrong_sample_that_was_possible_makes_the_next_ones_no_jump() -> None:
    judge = evidence()
    results = put(
        judge, [0.11, 0.0], [0.12, 0.0], [0.0, 0.0], [0.15, 0.0], [0.16, 0.0], [0.17, 0.0]
    )
    assert results[2] is not None, "it might have been"
    assert all(result is not None for result in results[3:])
    assert judge.dropped == 1 and judge.jumps == 0


def test_two_wrong_samples_that_were_possible_are_no_jump_either() -> None:
    judge = evidence()
    put(judge, [0.125, 0.0], [0.0, 0.0], [0.0, 0.0], [0.17, 0.0], [0.2, 0.0], [0.21, 0.0])
    assert judge.jumps == 0
    np.testing.assert_allclose(judge.put(np.array([0.22, 0.0]), 70 * MS), [0.22, 0.0])


def test_turns_are_counted_across_a_jump_of_the_clock() -> None:
    judge = evidence(continuous(1))
    put(judge, [3.1], [-3.1])
    judge.clear()
    judge.clear()
    np.testing.assert_allclose(judge.put(np.array([-3.1]), -50 * MS), [2 * np.pi - 3.1])


def test_after_a_gap_the_arm_may_be_further() -> None:
    judge = evidence()
    put(judge, [0.0, 0.0])
    assert judge.put(np.array([1.5, 0.0]), 1_000 * MS) is not None


def test_a_cleared_filter_takes_what_comes() -> None:
    judge = evidence()
    put(judge, [0.0, 0.0])
    judge.clear()
    assert judge.put(np.array([2.0, 2.0]), 20 * MS) is not None


def test_without_limits_only_wraps_are_known() -> None:
    judge = JointEvidence(("a",), None)
    put(judge, [3.1])
    np.testing.assert_allclose(judge.put(np.array([-3.1]), 20 * MS), [2 * np.pi - 3.1])
    np.testing.assert_allclose(judge.put(np.array([2.0]), 30 * MS), [2.0])
