"""Times, positions and velocities of the points."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi0_ros.node.refusal import Refusal
from pi0_ros.node.trajectory import plan, velocities_of
from pi0_ros.policy.types import ActionChunk

STAMP = 1_700_000_000_123_456_789
MS = 1_000_000


def chunk(positions, dt: float = 0.02) -> ActionChunk:
    positions = np.asarray(positions, dtype=np.float32)
    return ActionChunk(positions=positions, dt=dt, stamp=STAMP, sequence=0, seed=0)


def ramp(steps: int = 50, joints: int = 2) -> np.ndarray:
    return np.outer(np.arange(steps), np.arange(1, joints + 1)) * 0.01


def test_points_from_the_observation_on():
    planned = plan(chunk(ramp()), "observation", STAMP + 10**12)
    assert planned.stamp == STAMP
    assert planned.times == tuple((i + 1) * 20 * MS for i in range(50))
    np.testing.assert_array_equal(planned.positions, ramp().astype(np.float32))


def test_points_from_now_on():
    planned = plan(chunk(ramp()), "now", STAMP + 30 * MS)
    assert planned.stamp == 0
    assert planned.times == tuple((10 + 20 * i) * MS for i in range(49))
    whole = plan(chunk(ramp()), "observation", STAMP)
    np.testing.assert_array_equal(planned.positions, whole.positions[1:])
    np.testing.assert_array_equal(planned.velocities, whole.velocities[1:])


def test_a_point_due_now_is_past():
    assert plan(chunk(ramp()), "now", STAMP + 20 * MS).times[0] == 20 * MS


def test_an_observation_ahead_of_the_clock_keeps_every_point():
    planned = plan(chunk(ramp()), "now", STAMP - 50 * MS)
    assert (len(planned.times), planned.times[0]) == (50, 70 * MS)


def test_a_chunk_wholly_past_is_refused():
    assert len(plan(chunk(ramp()), "now", STAMP + 1000 * MS - 1).times) == 1
    with pytest.raises(Refusal, match="expired") as caught:
        plan(chunk(ramp()), "now", STAMP + 1000 * MS)
    assert caught.value.reason == "expired"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_refused(bad):
    positions = ramp()
    positions[7, 1] = bad
    with pytest.raises(Refusal, match="step 7, joint number 1") as caught:
        plan(chunk(positions), "observation", STAMP)
    assert caught.value.reason == "nonfinite"


@given(
    st.integers(1, 60),
    st.floats(0.001, 1.0),
    st.integers(-(10**9), 3 * 10**9),
    st.sampled_from(["observation", "now"]),
)
def test_times_increase_strictly_from_above_zero(steps, dt, elapsed, start):
    try:
        planned = plan(chunk(ramp(steps), dt), start, STAMP + elapsed)
    except Refusal as refusal:
        assert (refusal.reason, start) == ("expired", "now")
        assert round(dt * 1e9) * steps <= elapsed
        return
    assert planned.times[0] > 0
    assert all(a < b for a, b in zip(planned.times, planned.times[1:], strict=False))
    assert len(planned.times) == len(planned.positions) == len(planned.velocities)
    # Whatever the start, a point stays due at the same time of the clock.
    begins = planned.stamp or STAMP + elapsed
    assert begins + planned.times[-1] == STAMP + steps * round(dt * 1e9)
    assert not planned.velocities[-1].any()


def test_velocities_of_a_smooth_motion():
    dt = 0.02
    times = np.arange(1, 51) * dt
    positions = np.stack([np.sin(3 * times), 0.5 * times**2], axis=1)
    true = np.stack([3 * np.cos(3 * times), times], axis=1)
    velocities = velocities_of(positions, dt)
    np.testing.assert_allclose(velocities[1:-1], true[1:-1], atol=2e-3)
    np.testing.assert_allclose(velocities[0], true[0], atol=0.1)
    np.testing.assert_array_equal(velocities[-1], [0.0, 0.0])


def test_velocities_of_short_chunks():
    np.testing.assert_array_equal(velocities_of(np.array([[1.0, 2.0]]), 0.1), [[0.0, 0.0]])
    np.testing.assert_allclose(velocities_of(np.array([[1.0], [2.0]]), 0.1), [[10.0], [0.0]])
