"""Sampling and extremes of what a controller executes."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from support.controller import between, execute
from support.jtc import NOW

from pi0_ros.motion.spline import Motion

SEEDS = st.integers(0, 2**32)


def any_motion(seed: int) -> Motion:
    rng = np.random.default_rng(seed)
    points, joints = rng.integers(1, 12), rng.integers(1, 5)
    times = NOW + np.cumsum(rng.integers(1_000_000, 10 ** rng.integers(7, 10), points))
    size = 10 ** rng.uniform(-3, 1)
    positions, velocities = rng.normal(0, size, (2, points, joints))
    positions[rng.random(positions.shape) < 0.3] = 0.1  # plateaus
    velocities[rng.random(velocities.shape) < 0.3] = 0.0
    return Motion(times, positions, velocities)


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_samples_are_what_the_controller_executes(seed):
    motion = any_motion(seed)
    at = np.append(between(motion.times), [NOW - 10**9, motion.end + 10**10])
    positions, velocities = motion.sample_all(at)
    expected = execute(motion.times, motion.positions, motion.velocities, at)
    np.testing.assert_allclose(positions, expected[0], atol=1e-9, rtol=1e-9)
    np.testing.assert_allclose(velocities, expected[1], atol=1e-6, rtol=1e-6)
    for k in range(0, len(at), 7):
        one = motion.sample(int(at[k]))
        np.testing.assert_array_equal(one[0], positions[k])
        np.testing.assert_array_equal(one[1], velocities[k])


def test_before_and_after():
    motion = Motion(NOW + np.array([0, 10**9]), np.array([[1.0], [2.0]]), np.array([[0.5], [0.7]]))
    assert motion.end == NOW + 10**9
    for time, position, velocity in (
        (NOW - 1, 1.0, 0.5),
        (NOW, 1.0, 0.5),
        (NOW + 10**9, 2.0, 0.0),
        (NOW + 10**18, 2.0, 0.0),
    ):
        assert motion.sample(time) == (position, velocity)


def test_a_single_point_rests_from_its_time_on():
    motion = Motion(np.array([NOW]), np.array([[1.0]]), np.array([[0.5]]))
    assert motion.sample(NOW - 5) == (1.0, 0.5)
    assert motion.sample(NOW) == (1.0, 0.0)
    assert motion.peaks().velocity.shape == (0, 1)


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_peaks_are_the_extremes(seed):
    """No sample is beyond them, and some sample comes close to each."""
    motion = any_motion(seed)
    peaks = motion.peaks()
    for i in range(len(motion.times) - 1):
        length = int(motion.times[i + 1] - motion.times[i])
        at = motion.times[i] + np.linspace(0, length - 1, 2001).astype(np.int64)
        p, v, a = execute(motion.times, motion.positions, motion.velocities, at)
        size = np.ptp(p, axis=0).max() + 1e-9
        for found, values in (
            (peaks.highest[i], p),
            (-peaks.lowest[i], -p),
            (peaks.velocity[i], np.abs(v)),
            (peaks.acceleration[i], np.abs(a)),
        ):
            scale = np.abs(values).max() + (size if values is p else 0)
            assert (values.max(axis=0) <= found + 1e-7 * scale).all()
            assert (values.max(axis=0) >= found - 5e-3 * scale).all()


def test_peaks_between_points():
    """The points obey a limit of 1, what is between them does not."""
    motion = Motion(np.array([0, 10**9]), np.array([[1.0], [1.0]]), np.array([[1.0], [-1.0]]))
    peaks = motion.peaks()
    np.testing.assert_allclose(peaks.highest, [[1.25]])
    np.testing.assert_allclose(peaks.lowest, [[1.0]])
    np.testing.assert_allclose(peaks.acceleration, [[2.0]])
    swing = Motion(np.array([0, 10**9]), np.array([[0.0], [1.0]]), np.zeros((2, 1)))
    np.testing.assert_allclose(swing.peaks().velocity, [[1.5]])
    np.testing.assert_allclose(swing.peaks().acceleration, [[6.0]])
