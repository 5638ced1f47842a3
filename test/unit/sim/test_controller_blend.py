"""Replacing an executing trajectory by blending (master's allow_trajectory_replacement)."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from support.trajectories import HERE, MS, NOW, at, points, ramp, running

from pi0_ros.sim.controller import Controller
from pi0_ros.sim.points import Points


def blending(first: Points, **parameters: bool) -> Controller:
    """A controller that executes `first`; it commands 1 ms ahead."""
    return running(first, "master", **parameters)


def test_the_old_goes_on_until_the_new_starts_and_loses_a_period() -> None:
    old = points([100, 200, 400], [[1, 2], [2, 4], [4, 8]], stamp=NOW)
    controller = blending(old)
    at(controller, 0)
    np.testing.assert_allclose(at(controller, 99), [1, 2])
    controller.accept(points([100, 200], [[0, 0], [1, 1]], stamp=NOW + 200 * MS), NOW + 100 * MS)
    np.testing.assert_allclose(at(controller, 100, [0.99, 1.98]), [1, 2])
    np.testing.assert_allclose(at(controller, 149), [1.49, 2.98])
    np.testing.assert_allclose(at(controller, 199), [1.99, 3.98])
    np.testing.assert_allclose(at(controller, 249), [0.995, 1.99])
    np.testing.assert_allclose(at(controller, 299), [0, 0], atol=1e-12)
    np.testing.assert_allclose(at(controller, 349), [0.5, 0.5])


def test_until_the_first_waypoint_that_is_left_the_old_way_begins_at_the_measured_state() -> None:
    controller = blending(points([100, 200, 400], [[1, 2], [2, 4], [4, 8]], stamp=NOW))
    at(controller, 0)
    at(controller, 149)
    controller.accept(points([100], [[0, 0]], stamp=NOW + 190 * MS), NOW + 150 * MS)
    np.testing.assert_allclose(at(controller, 150, [0, 0]), [0, 0], atol=1e-3)
    np.testing.assert_allclose(at(controller, 189, [0, 0]), [1.89, 3.78])


def test_a_stamp_in_the_past_starts_now_with_every_point() -> None:
    controller = blending(points([100, 400], [[1, 2], [4, 8]], stamp=NOW))
    at(controller, 0)
    at(controller, 99)
    controller.accept(points([50, 200], [[9, 9], [3, 6]], stamp=NOW), NOW + 100 * MS)
    start = HERE + 0.99 * ([1, 2] - HERE)
    np.testing.assert_allclose(at(controller, 100, [7, 7]), start + (9 - start) / 50)
    np.testing.assert_allclose(at(controller, 149), [9, 9])
    np.testing.assert_allclose(at(controller, 299), [3, 6])


def curved(rng: np.random.Generator, stamp: int) -> Points:
    count = int(rng.integers(2, 6))
    times = np.cumsum(rng.integers(20, 200, count))
    velocities = np.vstack([rng.normal(0, 1, (count - 1, 2)), np.zeros((1, 2))])
    return points(times, rng.normal(0, 1, (count, 2)), velocities, stamp)


@given(seed=st.integers(0, 2**32))
def test_what_does_not_start_later_makes_no_step(seed: int) -> None:
    """Unless the old one is a single point: that is replaced at once."""
    rng = np.random.default_rng(seed)
    controller, time = blending(curved(rng, 0)), NOW
    before = controller.command(time, HERE)
    for _ in range(6):
        for _ in range(int(rng.integers(1, 200))):
            time += MS
            now = controller.command(time, HERE + 5)
            # At most 2 rad and 2 rad/s within 20 ms: cubics of at most 500 rad/s.
            assert np.abs(now - before).max() < 0.6
            before = now
        stamp = int(rng.choice([0, time - int(rng.integers(0, 20)) * MS]))
        controller.accept(curved(rng, stamp), time)
        looks = [controller.command(time + i * 1000, HERE + 5) for i in range(3)]
        assert np.abs(np.diff([before, *looks], axis=0)).max() < 0.6
        time += 2000
        before = looks[-1]


def test_it_keeps_no_history() -> None:
    controller = blending(ramp())
    for i in range(1000):
        controller.accept(ramp(), NOW + i * 50 * MS)
        at(controller, i * 50)
    assert len(controller._path.times) < 10


def test_joints_left_out_go_on() -> None:
    controller = blending(ramp(stamp=NOW), allow_partial_joints_goal=True)
    at(controller, 0)
    np.testing.assert_allclose(at(controller, 99), [1.0, 2.0])
    controller.accept(points([50], [[0.0]], names=("b",)), NOW + 100 * MS)
    at(controller, 100)
    np.testing.assert_allclose(at(controller, 149), [1.49, 0.0], atol=1e-9)
    np.testing.assert_allclose(at(controller, 200), [2.0, 0.0], atol=1e-9)
