"""What the node publishes, as messages."""

import numpy as np
import pytest

pytest.importorskip("rclpy")

from rclpy.serialization import deserialize_message, serialize_message
from support.jtc import MS, NOW
from trajectory_msgs.msg import JointTrajectory

from pi0_ros.bags.messages import TRAJECTORY_TYPE, decode
from pi0_ros.motion.spline import Trajectory
from pi0_ros.node import messages
from pi0_ros.node.messages import TrajectorySerializer, trajectory_message


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


@pytest.mark.parametrize("letter", ["x", "\u00e4", "\u20ac"])
@pytest.mark.parametrize("joints", [1, 2, 6, 7])
def test_bytes_are_those_of_the_message(letter: str, joints: int) -> None:
    """Whatever is aligned how, for more points than before and for fewer."""
    rng = np.random.default_rng(joints)
    for length in range(9):
        names = [letter * length + str(k) for k in range(joints)]
        serializer = TrajectorySerializer(names)
        for points, stamp in ((50, NOW), (50, 0), (1, 2**31 * 10**9 - 1), (51, NOW + 1)):
            times = tuple(np.cumsum(rng.integers(1, 3 * 10**9, points)).tolist())
            positions, velocities = rng.normal(size=(2, points, joints)) * 10.0 ** rng.integers(99)
            positions[0, 0] = -0.0
            trajectory = Trajectory(stamp, times, positions, velocities)
            data = serializer.serialize(trajectory)
            assert deserialize_message(data, JointTrajectory) == trajectory_message(
                trajectory, names
            )
            decode(data, TRAJECTORY_TYPE)  # as `pi0 diff` reads recordings: nothing behind the end


@pytest.mark.parametrize("times", [1, 1000])
def test_padding_that_looks_like_a_number_spoils_no_message(
    monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """ROS leaves in it what the memory held before: part of the same message, now and then."""
    dirty = iter(range(times))

    def serialize(message: JointTrajectory) -> bytes:
        data = serialize_message(message)
        stale = np.uint32(message.header.stamp.nanosec).tobytes()
        return data + stale if next(dirty, None) is not None else data

    monkeypatch.setattr(messages, "serialize_message", serialize)
    positions, velocities = np.random.default_rng(0).normal(size=(2, 4, 2))
    trajectory = Trajectory(NOW, (1, 2, 3, 4), positions, velocities)
    serializer = TrajectorySerializer(["lift", "pan"])
    for _ in range(2):
        data = serializer.serialize(trajectory)
        assert deserialize_message(data, JointTrajectory) == trajectory_message(
            trajectory, ["lift", "pan"]
        )
