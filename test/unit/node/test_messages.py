"""What the node publishes, as messages."""

import numpy as np
import pytest

pytest.importorskip("rclpy")

from support.jtc import MS, NOW

from pi0_ros.motion.spline import Trajectory
from pi0_ros.node.messages import trajectory_message


def test_trajectory():
    positions, velocities = np.arange(8.0).reshape(4, 2), np.arange(8.0).reshape(4, 2) + 1
    times = tuple(10**9 + k * 20 * MS for k in range(4))
    message = trajectory_message(Trajectory(NOW, times, positions, velocities), ["lift", "pan"])
    assert list(message.joint_names) == ["lift", "pan"]
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == divmod(NOW, 10**9)
    assert [p.time_from_start.sec for p in message.points] == [1, 1, 1, 1]
    assert [p.time_from_start.nanosec for p in message.points] == [0, 20 * MS, 40 * MS, 60 * MS]
    assert list(message.points[1].positions) == [2.0, 3.0]
    assert list(message.points[1].velocities) == [3.0, 4.0]
    assert not message.points[1].accelerations


def test_a_message_is_filled_again() -> None:
    """With fewer points, with more, and with nothing left of the last time."""
    joints, message = ["lift", "pan"], None
    for points, stamp in ((3, NOW), (2, 0), (5, NOW + 1)):
        values = np.arange(2.0 * points).reshape(points, 2) + stamp % 7
        times = tuple(stamp % 5 + k * 20 * MS for k in range(points))
        trajectory = Trajectory(stamp, times, values, -values)
        message = trajectory_message(trajectory, joints, message)
        assert message == trajectory_message(trajectory, joints)
