"""Velocities of a path, and taking over from another state."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pi0_ros.motion.spline import derivative, splice

DT = 0.02
TIMES = np.arange(50)[:, None] * DT
PATH = np.hstack([np.sin(3 * TIMES), 0.5 * TIMES**2])
RATES = np.hstack([3 * np.cos(3 * TIMES), TIMES])


def test_velocities_of_a_smooth_motion():
    velocities = derivative(PATH.astype(np.float32), DT)
    assert velocities.dtype == np.float64
    np.testing.assert_allclose(velocities[1:-1], RATES[1:-1], atol=2e-3)
    np.testing.assert_allclose(velocities[[0, -1]], RATES[[0, -1]], atol=0.1)


def test_velocities_of_short_paths():
    np.testing.assert_array_equal(derivative(np.array([[1.0, 2.0]]), 0.1), [[0.0, 0.0]])
    np.testing.assert_allclose(derivative(np.array([[1.0], [2.0]]), 0.1), [[10.0], [10.0]])


@settings(max_examples=100, deadline=None)
@given(
    st.floats(-1, 1), st.floats(-5, 5), st.floats(0.0, 2.0), st.integers(1, 50), st.integers(1, 9)
)
def test_begins_in_the_state_and_returns_to_the_path(position, velocity, blend, points, joints):
    rng = np.random.default_rng(points)
    path, rates = rng.normal(size=(2, points, joints))
    there, speed = np.full(joints, position), np.full(joints, velocity)
    given_path = path.copy()
    positions, velocities = splice(path, rates, DT, there, speed, blend)
    np.testing.assert_array_equal(path, given_path)
    assert positions.shape == velocities.shape == (points, joints)
    np.testing.assert_array_equal(positions[0], there)
    np.testing.assert_array_equal(velocities[0], speed)
    after = np.arange(points) * DT >= max(blend, DT)
    np.testing.assert_array_equal(positions[after], path[after])
    np.testing.assert_array_equal(velocities[after], rates[after])
    # The difference never exceeds what there was, and the way that its speed leads in the blend.
    most = np.abs(there - path[0]) + 0.2 * blend * np.abs(speed - rates[0])
    assert (np.abs(positions - path) <= most + 1e-9).all()


def test_the_velocities_are_those_of_the_positions():
    """Along the blend too: central differences of fine steps agree with what is returned."""
    fine = np.arange(2001)[:, None] * 1e-4
    path, rates = np.sin(3 * fine), 3 * np.cos(3 * fine)
    positions, velocities = splice(path, rates, 1e-4, np.array([0.2]), np.array([-1.0]), 0.1)
    np.testing.assert_allclose(velocities[1:-1], (positions[2:] - positions[:-2]) / 2e-4, atol=1e-3)
    # Acceleration has no step at the end of the blend.
    changes = np.diff(velocities - rates, axis=0) / 1e-4
    assert np.abs(changes[995:1005]).max() < 2.0 < np.abs(changes).max()


def test_a_state_on_the_path_changes_nothing():
    positions, velocities = splice(PATH, RATES, DT, PATH[0], RATES[0], 0.1)
    np.testing.assert_array_equal(positions, PATH)
    np.testing.assert_array_equal(velocities, RATES)
