"""Stops slow down to rest, whatever is known of the arm."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.controller import between, execute
from support.jtc import (
    MS,
    NOW,
    OPEN,
    SECOND,
    STARTS,
    any_limits,
    assert_within,
    at_rest,
    check_form,
    chunk_of,
    inside,
    limits_of,
)

from pi0_ros.motion.planner import plan, stop
from pi0_ros.motion.refusal import Measured
from pi0_ros.motion.spline import Motion


@settings(max_examples=200, deadline=None)
@given(any_limits(), st.booleans(), st.integers(0, 2**32), STARTS)
def test_a_stop_obeys_the_limits(limits, measurable, seed, start):
    rng = np.random.default_rng(seed)
    here = inside(limits, rng)
    kind = ("ramp", "walk", "edge")[rng.integers(3)]
    wanted = chunk_of(kind, rng, limits, here, 0.02, 50, NOW)
    executing = plan(wanted, limits, OPEN, at_rest(here), None, NOW, "observation", 0.1).motion
    now = NOW + int(rng.integers(0, 1500)) * MS
    position, velocity = executing.sample(now)
    seen = np.clip(position + rng.normal(0, 0.02, len(here)), limits.lower, limits.upper)
    measured = Measured(seen, rng.normal(0, 5, len(here)), now) if measurable else None
    planned = stop(limits, measured, executing, now, start)
    check_form(planned, len(here), now, start)
    assert not planned.motion.velocities[-1].any() and planned.motion.end > now
    assert_within(*vars(planned.motion).values(), limits)
    p, v = planned.motion.sample(now)
    np.testing.assert_allclose(p, seen if measurable else position, atol=1e-9)
    if not measurable:
        np.testing.assert_allclose(v, velocity, atol=1e-9)
    assert (np.abs(v) <= np.abs(velocity) + 1e-9).all(), "no faster than what ran"
    # Slowing down all the way, never turning round: not a move to anywhere.
    looks = execute(*vars(planned.motion).values(), between(planned.motion.times))[1]
    assert (np.diff(np.abs(looks), axis=0) <= 1e-6).all()
    assert (looks * np.sign(v) >= -1e-6).all()


def test_a_stop_of_a_joint_that_does_not_follow_uses_its_own_velocity():
    limits = limits_of(2)
    executing = Motion(NOW + np.array([0, SECOND]), np.array([[0.0, 0], [1, 1]]), np.ones((2, 2)))
    measured = Measured(np.array([0.5, -0.2]), np.array([0.3, 0.2]), NOW + 500 * MS)
    planned = stop(limits, measured, executing, NOW + 500 * MS, "observation", max_jump=0.3)
    np.testing.assert_allclose(planned.motion.velocities[0], [1.0, 0.2])
    np.testing.assert_allclose(planned.motion.positions[0], [0.5, -0.2])
    with pytest.raises(ValueError, match="measured state or an executing trajectory"):
        stop(limits, None, None, NOW, "now")


def test_a_stop_does_not_go_back_to_where_the_joint_was_measured():
    executing = Motion(NOW + np.array([0, SECOND]), np.array([[0.0], [1.0]]), np.ones((2, 1)))
    measured = Measured(np.array([0.27]), np.array([1.0]), NOW + 300 * MS)  # it lags a little
    planned = stop(limits_of(1), measured, executing, NOW + 450 * MS, "observation", max_jump=0.1)
    np.testing.assert_allclose(planned.motion.positions[0], [0.42])
    np.testing.assert_allclose(planned.motion.velocities[0], [1.0])


def test_a_stop_needs_no_numbers_of_the_joints():
    executing = Motion(NOW + np.array([0, SECOND]), np.zeros((2, 1)), np.ones((2, 1)))
    measured = Measured(np.array([np.nan]), np.zeros(1), NOW)
    planned = stop(limits_of(1), measured, executing, NOW, "now")
    assert np.isfinite(planned.trajectory.positions).all()
