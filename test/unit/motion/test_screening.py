"""Chunks that exceed a limit by far are refused, and say which."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.jtc import (
    LEAD,
    MS,
    NOW,
    OPEN,
    TIGHT,
    assert_within,
    at_rest,
    chunk,
    limits_of,
    resting,
    wave,
)

from pi0_ros.motion import planner
from pi0_ros.motion.planner import Plan
from pi0_ros.motion.refusal import Refusal


def plan(wanted, limits, tolerances, here, controller="jtc") -> Plan:
    """For an arm that rests, and is measured, at `here`."""
    return planner.plan(
        wanted, limits, tolerances, at_rest(here), resting(here), NOW, controller, LEAD, 0.1
    )


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
        plan(chunk(positions), limits, TIGHT, wave()[5])
    assert caught.value.reason == "limits"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ((20, 0, 0.5), r"velocity [\d.]+ m/s, the limit is [\d.]+ m/s"),
        (
            (slice(0, None), 0, 0.5),
            r"[\d.]+ m is [\d.]+ m from the measured .* m; max_jump is .* m$",
        ),
        ((slice(30, None), 0, np.linspace(0, 1.2, 20)), r" m outside \[.*\] m; clamp_pos.* m$"),
    ],
)
def test_prismatic_joints_are_told_in_metres(change, words):
    step, joint, value = change
    wanted = wave()
    wanted[step, joint] += value
    limits = limits_of(2, lower=-0.8, upper=0.8, acceleration=100.0)
    limits = replace(limits, units=("m", "rad"))
    with pytest.raises(Refusal, match=words):
        plan(chunk(wanted), limits, TIGHT, wave()[5])


def test_large_acceleration_is_refused():
    positions = wave()
    positions[20::2] += 0.02
    tolerances = replace(TIGHT, clamp_acceleration=2.0)
    with pytest.raises(Refusal, match=r"acceleration .* rad/s\^2, the limit is 20"):
        plan(chunk(positions), limits_of(2), tolerances, wave()[5])


def test_chunks_are_judged_by_the_limits_before_scaling():
    """An arm told to move slowly lags behind its policy; the policy is not wrong for that."""
    slow = limits_of(2).scaled(0.02, 0.5)
    planned = plan(chunk(wave()), slow, TIGHT, wave()[5])
    assert "velocity" in planned.clamped
    assert_within(*vars(planned.motion).values(), slow)


def test_one_joint_may_jump_further():
    """A gripper that holds something is never where it is told to be."""
    here = wave()[5] + [0.0, 0.5]
    tolerances = replace(TIGHT, max_jump=np.array([0.3, 0.6]))
    plan(chunk(wave()), limits_of(2), tolerances, here)
    with pytest.raises(Refusal, match="joint_1"):
        plan(chunk(wave()), limits_of(2), TIGHT, here)


@pytest.mark.parametrize("controller", ["jtc", "jtc_replacing", "other"])
def test_a_chunk_that_is_used_up_is_refused(controller):
    """One step must be left between the splice point, a knot after the lead, and the end."""
    step = 20 * MS
    splice_at = -(-(NOW + LEAD) // step) * step

    def attempt(end):
        plan(chunk(wave(), age=1000 * MS - (end - NOW)), limits_of(2), OPEN, [0, 0], controller)

    attempt(splice_at + step)
    with pytest.raises(Refusal, match="expired: the chunk covers") as caught:
        attempt(splice_at + step - 1)
    assert caught.value.reason == "expired"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_refused(bad):
    positions = wave()
    positions[7, 1] = bad
    with pytest.raises(Refusal, match="step 7, joint joint_1") as caught:
        plan(chunk(positions), limits_of(2), TIGHT, [0, 0])
    assert caught.value.reason == "nonfinite"
    with pytest.raises(Refusal, match="joint_0: nan, velocity"):
        plan(chunk(wave()), limits_of(2), TIGHT, [bad * 0, 0])


@pytest.mark.parametrize("step", [0, 10, 20])
def test_a_slow_inference_is_no_jump(step):
    """0.4 s at 1 rad/s: the arm waited for its first chunk, or went on with the one before."""
    ramp = np.outer(np.arange(1, 51) * 0.02, [1.0, -1.0])
    wanted = chunk(ramp, age=400 * MS)
    plan(wanted, limits_of(2), TIGHT, ramp[step])
    with pytest.raises(Refusal, match="max_jump"):
        plan(wanted, limits_of(2), TIGHT, ramp[20] + [0.45, 0.0])
