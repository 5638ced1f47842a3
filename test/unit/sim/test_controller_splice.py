"""Replacing a running trajectory as documented for ros2_controllers' master: by splicing."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from support.trajectories import HERE, MS, NOW, at, points, ramp, running

from pi0_ros.sim.controller import Points, Rejected


def test_splicing_goes_on_until_the_new_start_and_steps_nowhere() -> None:
    controller = running({"splice": True}, points([100, 400], [[1, 2], [4, 8]]))
    at(controller, 0)
    np.testing.assert_allclose(at(controller, 100, [7, 7]), [1, 2])
    controller.accept(points([100, 200], [[0, 0], [1, 1]], stamp=NOW + 200 * MS), NOW + 100 * MS)
    np.testing.assert_allclose(at(controller, 100, [7, 7]), [1, 2])
    np.testing.assert_allclose(at(controller, 150), [1.5, 3.0])  # the old way
    np.testing.assert_allclose(at(controller, 200), [2.0, 4.0])
    np.testing.assert_allclose(at(controller, 250), [1.0, 2.0])  # from there to the first point
    np.testing.assert_allclose(at(controller, 300), [0.0, 0.0])
    np.testing.assert_allclose(at(controller, 350), [0.5, 0.5])


def test_splicing_drops_points_in_the_past() -> None:
    controller = running({"splice": True}, points([100, 400], [[1, 2], [4, 8]]))
    at(controller, 0)
    late = points([50, 200], [[9, 9], [3, 6]], stamp=NOW)
    controller.accept(late, NOW + 100 * MS)
    np.testing.assert_allclose(at(controller, 100), [1, 2])
    np.testing.assert_allclose(at(controller, 150), [2, 4])
    np.testing.assert_allclose(at(controller, 200), [3, 6])


def test_splicing_leaves_a_hold_at_the_start() -> None:
    controller = running({"splice": True}, ramp(stamp=NOW + 100 * MS))
    np.testing.assert_allclose(at(controller, 99), HERE)
    np.testing.assert_allclose(at(controller, 150), [0.55, 0.9])


def test_splicing_has_time_to_reach_a_first_point_at_the_start_itself() -> None:
    controller = running({"splice": True}, points([0, 100], [[1, 1], [2, 2]], stamp=NOW + 50 * MS))
    np.testing.assert_allclose(at(controller, 0), HERE)
    np.testing.assert_allclose(at(controller, 25), (HERE + 1) / 2)
    np.testing.assert_allclose(at(controller, 100), [1.5, 1.5])


def noisy(rng: np.random.Generator, stamp: int, curved: bool) -> Points:
    count = int(rng.integers(1, 6))
    times = np.cumsum(rng.integers(20, 200, count))
    velocities = np.vstack([rng.normal(0, 1, (count - 1, 2)), np.zeros((1, 2))])
    return points(times, rng.normal(0, 1, (count, 2)), velocities if curved else None, stamp)


@given(seed=st.integers(0, 2**32), curved=st.booleans())
def test_splicing_is_continuous_whatever_comes_when(seed: int, curved: bool) -> None:
    """No jump in position, and none in velocity where velocities are given."""
    rng = np.random.default_rng(seed)
    controller, time, told = running({"splice": True}), NOW, []
    for _ in range(6):
        time += int(rng.integers(1, 400)) * MS
        before = controller.command(time, HERE + 5)
        stamp = int(rng.choice([0, time + int(rng.integers(-100, 300)) * MS]))
        try:
            controller.accept(noisy(rng, stamp, curved), time)
        except Rejected as error:
            told.append(str(error))
            assert "ago" in told[-1]
        np.testing.assert_allclose(controller.command(time, HERE + 5), before, atol=1e-9)
        looks = [controller.command(time + i * 1000, HERE + 5) for i in range(1, 3)]
        assert np.abs(np.diff([before, *looks], axis=0)).max() < 1e-2, "a microsecond apart"
        time += 2000
    assert len(told) < 6


def test_splicing_keeps_no_history() -> None:
    controller = running({"splice": True})
    for i in range(1000):
        controller.accept(ramp(), NOW + i * 50 * MS)
        at(controller, i * 50)
    assert len(controller._paths[0].starts) < 10


def test_splicing_joints_left_out_go_on() -> None:
    controller = running({"allow_partial": True, "splice": True}, ramp())
    at(controller, 0)
    np.testing.assert_allclose(at(controller, 100), [1.0, 2.0])
    controller.accept(points([50], [[0.0]], names=("b",)), NOW + 100 * MS)
    at(controller, 100)
    np.testing.assert_allclose(at(controller, 150), [1.5, 0.0])
    np.testing.assert_allclose(at(controller, 200), [2.0, 0.0])
