"""Following a path and braking: within the limits by construction, and as close as they allow."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.controller import between, execute
from support.jtc import MS, NOW, any_limits, assert_within, inside, limits_of

from pi0_ros.motion.following import Following
from pi0_ros.motion.spline import Motion
from pi0_ros.motion.tracking import (
    able_to_brake,
    brake,
    can_brake,
    follow,
    last_to_brake,
    stopping_distance,
)

STEP = 20 * MS
DT = 0.02


def stoppable(limits, rng, step: float) -> tuple[np.ndarray, np.ndarray]:
    """A state within the limits from which braking in steps of `step` seconds ends within them."""
    position = inside(limits, rng)
    velocity = rng.uniform(-1, 1, len(position)) * limits.velocity
    while True:
        state = Motion(np.zeros(1, np.int64), position[None], velocity[None])
        able = can_brake(state, limits, round(step * 1e9))[0]
        if able.all():
            return position, velocity
        velocity = np.where(able, velocity, velocity * 0.8 - np.sign(velocity) * 1e-6)
        velocity = np.where(np.abs(velocity) < 1e-5, 0.0, velocity)


@settings(max_examples=300, deadline=None)
@given(
    any_limits(), st.integers(1, 60), st.sampled_from([1, 5, 20, 100, 1000]), st.integers(0, 2**32)
)
def test_whatever_the_path_the_motion_obeys_the_limits(limits, steps, step, seed):
    rng = np.random.default_rng(seed)
    position, velocity = stoppable(limits, rng, step / 1e3)
    joints = len(position)
    path = position + rng.normal(0, 10 ** rng.uniform(-3, 1), (steps + 1, joints)).cumsum(axis=0)
    rates = rng.normal(0, 10 ** rng.uniform(-3, 2), (steps + 1, joints))
    path[0], rates[0] = position, velocity
    motion = follow(NOW, path, rates, step * MS, limits)
    assert motion.times[0] == NOW and (np.diff(motion.times) > 0).all()
    assert motion.end >= NOW + steps * step * MS
    np.testing.assert_array_equal(motion.positions[0], position)
    np.testing.assert_array_equal(motion.velocities[0], velocity)
    assert not motion.velocities[-1].any()
    assert_within(motion.times, motion.positions, motion.velocities, limits)


def test_an_attainable_path_is_followed_exactly():
    t = np.arange(60)[:, None] * DT
    speed = np.minimum(t * 4, 1.6) - np.clip((t - 0.6) * 4, 0, 1.6)
    path = np.concatenate([[[0.0]], np.cumsum((speed[1:] + speed[:-1]) / 2 * DT, axis=0)])
    motion = follow(NOW, path, speed, STEP, limits_of(1, acceleration=4.001))
    np.testing.assert_allclose(motion.positions, path, atol=1e-9)


@pytest.mark.parametrize("size", [0.001, 0.05, 1.0])
@pytest.mark.parametrize("acceleration", [5.0, 60.0, np.inf])
def test_a_step_of_the_path_is_made_good_without_swinging(size, acceleration):
    limits = limits_of(1, upper=2, acceleration=acceleration)
    path = np.full((150, 1), size)
    path[0] = 0
    motion = follow(NOW, path, np.zeros((150, 1)), STEP, limits)
    p = execute(*vars(motion).values(), between(motion.times))[0][:, 0]
    assert p.max() <= size * (1 + 1e-6), "no overshoot"
    assert (np.diff(p) >= -1e-9).all(), "straight there"
    arrived = int(np.argmax(motion.positions[:, 0] > 0.99 * size)) * DT
    a = min(acceleration, 1e3)
    fastest = 2 * np.sqrt(size / a) if size < 9 / a else 3 / a + size / 3
    assert arrived <= 1.5 * fastest + 6 * DT, (arrived, fastest)


def test_noise_does_not_make_it_lag_or_swing():
    rng = np.random.default_rng(0)
    t = np.arange(100)[:, None] * DT
    clean = 0.4 * (1 - np.cos(2 * t))
    path = clean + rng.normal(0, 0.004, clean.shape)
    path[0] = 0
    limits = limits_of(1, acceleration=10.0)
    motion = follow(NOW, path, np.gradient(path, DT, axis=0) * (t > 0), STEP, limits)
    off = (motion.positions - clean)[:90]
    assert np.sqrt(np.mean(off**2)) < 0.006
    assert np.abs(off).max() < 0.02


def test_it_lasts_longer_where_it_could_not_stop_in_time():
    limits = limits_of(1, upper=9, acceleration=10.0)
    path, rates = np.array([[0.0], [0.06]]), np.full((2, 1), 3.0)
    motion = follow(NOW, path, rates, STEP, limits)
    assert motion.end == NOW + 15 * STEP  # 3 rad/s at 10 rad/s^2
    np.testing.assert_allclose(motion.positions[-1], [0.45])


def test_too_fast_slows_down_to_the_limit_and_goes_on():
    limits = limits_of(1, upper=20, velocity=1.0, acceleration=10.0)
    path = np.arange(50)[:, None] * 0.06
    motion = follow(NOW, path, np.full((50, 1), 3.0), STEP, limits)
    speed = motion.velocities[:, 0]
    np.testing.assert_allclose(speed[:11], 3.0 - 0.2 * np.arange(11))
    np.testing.assert_allclose(speed[11:40], 1.0)


def test_stopping_distance_is_that_of_braking_in_steps():
    for speed in (0.0, 0.05, 0.2, 0.31, 1.0):
        change, v, way = 0.2, speed, 0.0
        while v > 0:
            after = max(v - change, 0.0)
            way, v = way + (v + after) / 2 * DT, after
        got = stopping_distance(np.array(speed), np.array(change), DT)
        np.testing.assert_allclose(got, way, atol=1e-12)


def test_errors_of_radians_and_metres_are_apart():
    following = Following(("a", "b", "grip"), ("rad", "rad", "m"))
    following.error = np.array([0.1, 0.3, 0.02])
    assert following.errors() == {"rad": 0.3, "m": 0.02}


def test_last_point_to_brake_from():
    limits = limits_of(1, acceleration=10.0)  # 0.2 rad/s per step
    speeds = np.array([[0.5], [0.5], [0.5], [0.5], [0.5]])
    assert last_to_brake(speeds, DT, limits) == 1  # three steps are left
    assert last_to_brake(np.zeros((5, 1)), DT, limits) == 4
    assert last_to_brake(speeds * 10, DT, limits) == 0


@settings(max_examples=150, deadline=None)
@given(any_limits(), st.integers(0, 2**32), st.integers(0, 19_000_000))
def test_braking_obeys_the_limits_and_ends_on_the_grid(limits, seed, offset):
    position, velocity = stoppable(limits, np.random.default_rng(seed), DT)
    start = NOW // STEP * STEP + offset
    motion = brake(start, position, velocity, limits, STEP)
    np.testing.assert_array_equal(motion.positions[0], position)
    np.testing.assert_array_equal(motion.velocities[0], velocity)
    assert motion.times[0] == start and (motion.times[1:] % STEP == 0).all()
    assert not motion.velocities[-1].any()
    assert_within(motion.times, motion.positions, motion.velocities, limits)


def test_braking_takes_the_time_that_the_acceleration_asks_for():
    start = NOW // STEP * STEP + 10 * MS
    motion = brake(
        start, np.zeros(3), np.array([0.5, -1.0, 0.0]), limits_of(3, acceleration=10.0), STEP
    )
    np.testing.assert_array_equal(motion.times - start, np.array([0, 10, 30, 50, 70, 90, 110]) * MS)
    np.testing.assert_allclose(motion.velocities[1], [0.4, -0.9, 0.0])
    np.testing.assert_allclose(motion.velocities[3], [0.0, -0.5, 0.0], atol=1e-12)


@pytest.mark.parametrize("acceleration", [8.0, np.inf])
def test_a_joint_that_turns_at_its_limit_is_stopped_at_it(acceleration):
    """Within a step, which braking softly to its end would overshoot."""
    limits = limits_of(2, upper=1.0, acceleration=acceleration)
    velocity, start = np.array([0.1, 0.5]), NOW // STEP * STEP
    position = np.array([1.0 - 0.1**2 / 16 - 1e-9, 0.0])
    motion = brake(start, position, velocity, limits, STEP)
    assert motion.positions[:, 0].max() <= 1.0 + 1e-9
    assert (motion.times % STEP != 0).sum() == 1, "a point of its own"
    assert_within(motion.times, motion.positions, motion.velocities, limits)


def test_a_slowed_joint_may_brake_as_hard_as_it_can_but_no_harder():
    slow = limits_of(3, upper=1.0, acceleration=20.0).scaled(1.0, 0.1)
    position, velocity = np.array([0.95, 0.99, 0.0]), np.array([1.0, 1.0, 1.0])
    able = able_to_brake(position, velocity, slow, DT, 50)
    np.testing.assert_allclose(able.acceleration, [20.0, 20.0, 2.0])
    able = able_to_brake(position, velocity, slow, DT, 10)
    np.testing.assert_allclose(able.acceleration, [20.0, 20.0, 5.0])
