"""A motion as the points of a trajectory."""

import numpy as np
from support.jtc import MS, NOW

from pi0_ros.motion.spline import Motion, trajectory_of

MOTION = Motion(
    NOW + np.array([0, 20, 40, 60]) * MS,
    np.arange(8.0).reshape(4, 2),
    np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [0.0, 0.0]]),
)


def test_times_count_from_the_stamp():
    trajectory = trajectory_of(MOTION, NOW - 2 * MS, NOW - 2 * MS)
    assert trajectory.stamp == NOW - 2 * MS
    assert trajectory.times == (2 * MS, 22 * MS, 42 * MS, 62 * MS)
    assert all(type(time) is int for time in trajectory.times)
    np.testing.assert_array_equal(trajectory.positions, MOTION.positions)
    np.testing.assert_array_equal(trajectory.velocities, MOTION.velocities)


def test_points_that_are_not_later_are_left_out():
    trajectory = trajectory_of(MOTION, 0, NOW + 20 * MS)
    assert (trajectory.stamp, trajectory.times) == (0, (20 * MS, 40 * MS))
    np.testing.assert_array_equal(trajectory.positions, MOTION.positions[2:])
    np.testing.assert_array_equal(trajectory.velocities, MOTION.velocities[2:])
