"""The simulated joint_trajectory_controller, held to the documented rules of ros2_controllers."""

from contextlib import suppress
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.controller import execute
from support.trajectories import HERE, MS, NOW, SECOND, at, points, ramp, running

from pi0_ros.sim.controller import Controller
from pi0_ros.sim.points import Points, Reason, Rejected, points_of
from pi0_ros.sim.versions import VERSIONS, Parameters


def test_before_any_trajectory_it_holds_where_the_joints_were_at_first() -> None:
    controller = running()
    np.testing.assert_array_equal(at(controller, 500, HERE + 0.3), HERE)


def test_positions_alone_are_joined_by_lines_from_the_measured_state() -> None:
    controller = running(ramp())
    np.testing.assert_allclose(at(controller, 0, [0.0, 1.0]), [0.0, 1.0])
    np.testing.assert_allclose(at(controller, 50), [0.5, 1.5])
    np.testing.assert_allclose(at(controller, 100), [1.0, 2.0])
    np.testing.assert_allclose(at(controller, 125), [1.25, 2.5])
    np.testing.assert_allclose(at(controller, 200), [2.0, 4.0])
    np.testing.assert_allclose(at(controller, 9000), [2.0, 4.0])


def test_velocities_make_cubics() -> None:
    """From rest at 0 to rest at 1 in a second: 3 t^2 - 2 t^3; then one that sets out at 2 rad/s."""
    still = [[0, 0], [0, 0]]
    controller = running(points([0, 1000], [[0, 0], [1, -1]], still, NOW))
    np.testing.assert_allclose(at(controller, 0), [0, 0])
    np.testing.assert_allclose(at(controller, 250), [0.15625, -0.15625])
    controller = running(points([0, 1000], [[0, 0], [1, 1]], [[2, 0], [0, 0]], NOW))
    # p(t) = 2 t - t^2 for the first joint, 3 t^2 - 2 t^3 for the second
    np.testing.assert_allclose(at(controller, 250), [0.4375, 0.15625])


@given(seed=st.integers(0, 2**32), count=st.integers(1, 8))
def test_sampling_agrees_with_an_independent_execution(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.integers(1, 300 * MS, count))
    times[0] = 0
    positions, velocities = rng.normal(0, 1, (2, count, 2))
    velocities[-1] = 0
    controller = running(Points(("a", "b"), NOW, times, positions, velocities))
    looks = NOW + np.sort(rng.integers(0, times[-1] + 100 * MS, 40))
    expected, _, _ = execute(NOW + times, positions, velocities, looks)
    got = [controller.command(int(time), HERE) for time in looks]
    np.testing.assert_allclose(got, expected, atol=1e-9)


def test_a_stamp_of_zero_starts_at_the_arrival_and_another_at_itself() -> None:
    now, later = running(ramp()), running(ramp(stamp=NOW + 100 * MS))
    for controller in (now, later):
        at(controller, 0, [0, 0])
    np.testing.assert_allclose(at(now, 150), [1.5, 3.0])
    np.testing.assert_allclose(at(later, 150), [0.75, 1.5])
    np.testing.assert_allclose(at(later, 250), [1.5, 3.0])


def test_the_measured_velocity_counts_where_the_robot_tells_it() -> None:
    still = points([1000], [[1, 1]], [[0, 0]])
    told, untold = running(still), running(still)
    told.command(NOW, np.zeros(2), np.array([1.0, 0.0]))
    untold.command(NOW, np.zeros(2))
    half = NOW + SECOND // 2
    # Hermite's polynomial of the first velocity is 0.125 s in the middle of a second.
    np.testing.assert_allclose(told.command(half, HERE), [0.625, 0.5])
    np.testing.assert_allclose(untold.command(half, HERE), [0.5, 0.5])


def test_points_in_the_past_make_it_step_to_the_current_segment() -> None:
    controller = running(ramp(stamp=NOW - 150 * MS))
    np.testing.assert_allclose(at(controller, 0), [1.5, 3.0])


def test_a_new_trajectory_makes_it_forget_the_old_one_at_once() -> None:
    controller = running(ramp())
    at(controller, 0, [0, 0])
    np.testing.assert_allclose(at(controller, 150), [1.5, 3.0])
    controller.accept(ramp(stamp=NOW + 200 * MS), NOW + 150 * MS)
    # It is at (1.5, 3) of its old way; the arm lags behind and that is where the new way begins.
    np.testing.assert_allclose(at(controller, 150, [1.4, 2.8]), [1.4, 2.8])
    np.testing.assert_allclose(at(controller, 225), [1.2, 2.4])
    np.testing.assert_allclose(at(controller, 300), [1.0, 2.0])


def test_from_desired_the_new_way_begins_at_the_last_command() -> None:
    controller = running(ramp(), interpolate_from_desired_state=True)
    at(controller, 0)
    np.testing.assert_allclose(at(controller, 140), [1.4, 2.8])
    controller.accept(points([100], [[0, 0]]), NOW + 150 * MS)
    np.testing.assert_allclose(at(controller, 150, [9, 9]), [1.4, 2.8])
    np.testing.assert_allclose(at(controller, 200, [9, 9]), [0.7, 1.4])


def test_from_desired_starts_at_the_measured_state_before_any_command() -> None:
    desired = Parameters(interpolate_from_desired_state=True)
    controller = Controller(("a", "b"), "humble", MS, desired)
    controller.accept(ramp(), NOW)
    np.testing.assert_allclose(at(controller, 0, [0, 0]), [0, 0])
    np.testing.assert_allclose(at(controller, 50), [0.5, 1.0])


def test_names_in_another_order() -> None:
    swapped = points([100], [[2, 1]], [[0, 0]], names=("b", "a"))
    controller = running(swapped)
    at(controller, 0)
    np.testing.assert_allclose(at(controller, 100), [1, 2])


def test_joints_left_out_hold_their_last_command() -> None:
    controller = running(ramp(), allow_partial_joints_goal=True)
    at(controller, 0, [0, 0])
    np.testing.assert_allclose(at(controller, 150), [1.5, 3.0])
    controller.accept(points([100], [[0.0]], names=("b",)), NOW + 150 * MS)
    at(controller, 150, [1.5, 3.0])
    np.testing.assert_allclose(at(controller, 200, [9, 9]), [1.5, 1.5])


MOVING_END = points([100, 200], [[1, 2], [2, 4]], [[0, 0], [0, 0.5]])


@pytest.mark.parametrize(
    ("trajectory", "reason", "says"),
    [
        (ramp(names=("a", "elbow")), Reason.UNKNOWN_JOINT, "elbow; expected a, b"),
        (points([100], [[1]], names=("a",)), Reason.JOINT_COUNT, "got a; expected a, b"),
        (ramp(names=("a", "a")), Reason.DOUBLED_JOINT, ": a; expected"),
        (points([100], np.zeros((1, 0)), names=()), Reason.JOINT_COUNT, "got none"),
        (points([], np.zeros((0, 2))), Reason.NO_POINTS, "empty"),
        (points([100], [[1, 2, 3]]), Reason.FIELDS, r"positions must be \[1 points, 2 joints\]"),
        (points([100], [[1, 2], [1, 2]]), Reason.FIELDS, r"got \[2, 2\]"),
        (
            points([100, 200], [[1, 2], [1, 2]], [[0, 0]]),
            Reason.FIELDS,
            r"velocities must be \[2 points",
        ),
        (
            points([100, 100], [[1, 2], [1, 2]]),
            Reason.TIMES,
            "point 0 is at 0.1 s, the next at 0.1 s",
        ),
        (points([100, 90], [[1, 2], [1, 2]]), Reason.TIMES, "strictly increasing"),
        (ramp(stamp=NOW - 300 * MS), Reason.ENDED, "ended 0.100 s ago"),
        (MOVING_END, Reason.NOT_AT_REST, "joint b at 0.5 rad/s; expected 0"),
        (points([100], [[1, np.nan]]), Reason.NOT_FINITE, "nan for joint b at point 0"),
        (points([100, 200], [[1, 2]] * 2, [[-np.inf, 0], [0, 0]]), Reason.NOT_FINITE, "have -inf"),
    ],
)
def test_what_is_rejected_is_named_and_the_old_goes_on(
    trajectory: Points, reason: Reason, says: str
) -> None:
    for version in VERSIONS:
        controller = running(ramp(), version, allow_nonzero_velocity_at_trajectory_end=False)
        at(controller, 0, [0, 0])
        with pytest.raises(Rejected, match=says) as rejected:
            controller.accept(trajectory, NOW)
        assert rejected.value.reason is reason
        later = 150 if version == "humble" else 149  # the others are a period ahead
        np.testing.assert_allclose(at(controller, later), [1.5, 3.0])


def test_a_trajectory_without_joints_is_none_where_joints_may_be_left_out() -> None:
    with pytest.raises(Rejected, match="no joint names") as rejected:
        running(points([100], np.zeros((1, 0)), names=()), allow_partial_joints_goal=True)
    assert rejected.value.reason is Reason.NO_JOINTS


def test_an_end_in_motion_can_be_allowed_and_still_holds() -> None:
    controller = running(MOVING_END)  # by default on humble
    at(controller, 0)
    np.testing.assert_allclose(at(controller, 300), [2, 4])


def test_float_noise_in_the_last_velocity_is_taken_for_rest() -> None:
    running(points([100], [[1, 2]], [[1e-8, -1e-8]]), "jazzy")


def noisy(rng: np.random.Generator, stamp: int) -> Points:
    count = int(rng.integers(1, 6))
    times = np.cumsum(rng.integers(20, 200, count))
    velocities = np.vstack([rng.normal(0, 1, (count - 1, 2)), np.zeros((1, 2))])
    curved = rng.random() < 0.7
    return points(times, rng.normal(0, 1, (count, 2)), velocities if curved else None, stamp)


@given(seed=st.integers(0, 2**32), version=st.sampled_from(sorted(VERSIONS)))
def test_many_cycles_at_once_are_those_cycles(seed: int, version: str) -> None:
    rng = np.random.default_rng(seed)
    parameters = {"interpolate_from_desired_state": bool(rng.random() < 0.5)}
    one, all_at_once = (running(None, version, **parameters) for _ in range(2))
    now = NOW
    for _ in range(5):
        now += MS
        stamp = int(rng.choice([0, now + int(rng.integers(-100, 100)) * MS]))
        sent = noisy(rng, stamp)
        for controller in (one, all_at_once):
            with suppress(Rejected):
                controller.accept(sent, now)
        times = now + np.arange(1, int(rng.integers(2, 150))) * MS
        expected = [one.command(int(time), HERE, HERE) for time in times]
        got = []
        while len(times):
            due = all_at_once.due
            cut = len(times) if due is None else max(int(np.searchsorted(times, due)), 1)
            if all_at_once.has_new:
                cut = 1  # whether it waits is known after the next cycle
            got.append(all_at_once.commands(times[:cut], HERE, HERE))
            times = times[cut:]
        np.testing.assert_allclose(np.concatenate(got), expected, atol=1e-9)
        now = now + len(expected) * MS


def test_many_cycles_at_once_need_to_be_independent_of_what_is_measured() -> None:
    with pytest.raises(ValueError, match="tolerances"):
        running(path_tolerance=0.1).commands(np.array([NOW + MS]), HERE)
    waits = running(ramp(), "6.9.0")
    at(waits, 0)
    waits.accept(ramp(stamp=NOW + 50 * MS), NOW)
    assert waits.due is None
    at(waits, 1)
    assert waits.due == NOW + 50 * MS
    with pytest.raises(ValueError, match="is due"):
        waits.commands(NOW + np.arange(2, 60) * MS, HERE)


def message(rows, velocities=(), stamp=0, **fields) -> SimpleNamespace:
    """A trajectory_msgs/JointTrajectory by its attributes: a point every 100 ms."""
    empty = {"velocities": [], "accelerations": [], "effort": []}
    made = [
        SimpleNamespace(
            positions=row,
            time_from_start=SimpleNamespace(sec=0, nanosec=100 * MS * (i + 1)),
            **{**empty, **fields},
        )
        for i, row in enumerate(rows)
    ]
    for point, row in zip(made, velocities, strict=False):
        point.velocities = row
    header = SimpleNamespace(stamp=SimpleNamespace(sec=stamp // SECOND, nanosec=stamp % SECOND))
    return SimpleNamespace(header=header, joint_names=["a", "b"], points=made)


def test_a_message_becomes_plain_data() -> None:
    got = points_of(message([[1, 2], [3, 4]], [[5, 6], [0, 0]], NOW))
    assert (got.names, got.stamp, got.times.tolist()) == (("a", "b"), NOW, [100 * MS, 200 * MS])
    np.testing.assert_array_equal(got.positions, [[1, 2], [3, 4]])
    np.testing.assert_array_equal(got.velocities, [[5, 6], [0, 0]])
    assert points_of(message([[1, 2]])).velocities is None
    with pytest.raises(Rejected, match="no points"):
        running(points_of(message([])))


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (message([[1, 2], [3]]), "point 1 has 1 positions for 2 joint names"),
        (message([[1, 2]], [[0, 0, 0]]), "point 0 has 3 velocities for 2"),
        (message([[1, 2], [3, 4]], [[0, 0]]), "point 1: expected velocities at every point"),
        (message([[1, 2]], accelerations=[0, 0]), "point 0 has accelerations"),
        (message([[1, 2]], effort=[0, 0]), "point 0 has effort"),
    ],
)
def test_messages_that_are_not_executed(bad: SimpleNamespace, says: str) -> None:
    with pytest.raises(Rejected, match=says):
        points_of(bad)
