"""A motion as the points of a trajectory message.

The rules are joint_trajectory_controller's (ros2_controllers): a stamp of 0 means "start now",
`time_from_start` strictly increases, a trajectory wholly in the past is rejected, and so is a last
velocity other than 0 (parameter allow_nonzero_velocity_at_trajectory_end of the controller).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pi0_ros.motion.spline import Motion


@dataclass(frozen=True)
class Trajectory:
    """Timed points.

    Attributes:
        stamp: nanoseconds that `times` count from; 0 is the time at which it is received.
        times: nanoseconds per point, strictly increasing, the first above 0.
        positions: [points, joints] float64, radians.
        velocities: [points, joints] float64, radians per second.
    """

    stamp: int
    times: tuple[int, ...]
    positions: np.ndarray
    velocities: np.ndarray


def trajectory_of(motion: Motion, stamp: int, zero: int) -> Trajectory:
    """The points of a motion.

    Args:
        stamp: of the message, nanoseconds; 0: start now.
        zero: nanoseconds that the points' times count from: `stamp`, or what "now" is. Points that
            are not later are left out.
    """
    left = motion.times > zero
    times = tuple((motion.times[left] - zero).tolist())
    return Trajectory(stamp, times, motion.positions[left], motion.velocities[left])
