"""Chunks that exceed a limit by far are refused, and say which."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.jtc import MS, NOW, OPEN, TIGHT, assert_within, at_rest, chunk, limits_of, wave

from pi0_ros.motion.planner import LEAD, plan
from pi0_ros.motion.refusal import Refusal


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ((20, 1, 0.5), r"joint_1, step 2\d: velocity .*limit is 3 rad/s.*clamp_velocity is 1.5"),
        ((slice(20, None), 0, 0.16), r"joint_0, step 20: velocity"),
        ((slice(20, None), 0, -0.16), r"joint_0, step 20: velocity"),
        (
            (slice(0, None), 1, 0.5),
            r"joint_1, step \d: .* rad from the measured .* max_jump is 0.3",
        ),
        ((slice(30, None), 0, np.linspace(0, 1.2, 20)), r"joint_0, step 49: .* outside \[-0.8"),
        ((slice(30, None), 0, np.linspace(0, -1.2, 20)), r"joint_0, step 49: .* outside \[-0.8"),
    ],
)
def test_large_excess_is_refused(change, words):
    positions = wave()
    steps, joint, by = change
    positions[steps, joint] += by
    limits = limits_of(2, lower=-0.8, upper=0.8, acceleration=100.0)
    with pytest.raises(Refusal, match=words) as caught:
        plan(chunk(positions), limits, TIGHT, at_rest(wave()[5]), None, NOW, "observation", 0.1)
    assert caught.value.reason == "limits"


def test_large_acceleration_is_refused():
    positions = wave()
    positions[20::2] += 0.02
    tolerances = replace(TIGHT, clamp_acceleration=2.0)
    with pytest.raises(Refusal, match=r"acceleration .* rad/s\^2, the limit is 20"):
        plan(chunk(positions), limits_of(2), tolerances, at_rest(wave()[5]), None, NOW, "now", 0.1)


def test_chunks_are_judged_by_the_limits_before_scaling():
    """An arm told to move slowly lags behind its policy; the policy is not wrong for that."""
    slow = limits_of(2).scaled(0.02, 0.5)
    planned = plan(chunk(wave()), slow, TIGHT, at_rest(wave()[5]), None, NOW, "observation", 0.1)
    assert "velocity" in planned.clamped
    assert_within(*vars(planned.motion).values(), slow)


def test_one_joint_may_jump_further():
    """A gripper that holds something is never where it is told to be."""
    here = wave()[5] + [0.0, 0.5]
    tolerances = replace(TIGHT, max_jump=np.array([0.3, 0.6]))
    plan(chunk(wave()), limits_of(2), tolerances, at_rest(here), None, NOW, "observation", 0.1)
    with pytest.raises(Refusal, match="joint_1"):
        plan(chunk(wave()), limits_of(2), TIGHT, at_rest(here), None, NOW, "observation", 0.1)


@pytest.mark.parametrize("start", ["observation", "now"])
def test_a_chunk_that_is_used_up_is_refused(start):
    def attempt(age):
        plan(chunk(wave(), age=age), limits_of(2), OPEN, at_rest([0, 0]), None, NOW, start, 0.1)

    attempt(1000 * MS - LEAD - 20 * MS)
    with pytest.raises(Refusal, match="expired: the chunk covers") as caught:
        attempt(1000 * MS - LEAD - 20 * MS + 1)
    assert caught.value.reason == "expired"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_refused(bad):
    positions = wave()
    positions[7, 1] = bad
    with pytest.raises(Refusal, match="step 7, joint joint_1") as caught:
        plan(chunk(positions), limits_of(2), TIGHT, at_rest([0, 0]), None, NOW, "now", 0.1)
    assert caught.value.reason == "nonfinite"
    with pytest.raises(Refusal, match="joint_0: nan rad"):
        plan(chunk(wave()), limits_of(2), TIGHT, at_rest([bad * 0, 0]), None, NOW, "now", 0.1)


@pytest.mark.parametrize("step", [0, 10, 20])
def test_a_slow_inference_is_no_jump(step):
    """0.4 s at 1 rad/s: the arm waited for its first chunk, or went on with the one before."""
    ramp = np.outer(np.arange(1, 51) * 0.02, [1.0, -1.0])
    wanted = chunk(ramp, age=400 * MS)
    plan(wanted, limits_of(2), TIGHT, at_rest(ramp[step]), None, NOW, "observation", 0.1)
    with pytest.raises(Refusal, match="max_jump"):
        elsewhere = at_rest(ramp[20] + [0.35, 0.0])
        plan(wanted, limits_of(2), TIGHT, elsewhere, None, NOW, "observation", 0.1)
