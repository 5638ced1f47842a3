"""From an action chunk to the points of a trajectory, and both as messages.

The rules are joint_trajectory_controller's (ros2_controllers): a stamp of 0 means "start now",
`time_from_start` strictly increases, a trajectory wholly in the past is rejected, and so is a last
velocity other than 0 (parameter allow_nonzero_velocity_at_trajectory_end of the controller).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pi0_ros.node.observe import Snapshot
from pi0_ros.node.refusal import Refusal
from pi0_ros.policy.types import ActionChunk

if TYPE_CHECKING:
    from trajectory_msgs.msg import JointTrajectory

    from pi0_ros.msg import ActionChunk as ActionChunkMessage

_SECOND = 1_000_000_000


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


def velocities_of(positions: np.ndarray, dt: float) -> np.ndarray:
    """Velocities along positions that are `dt` seconds apart.

    Central differences inside and a one-sided difference at the first point; the last velocity is
    0, because a controller that nothing more reaches has to come to rest there.

    Args:
        positions: [points, joints].

    Returns:
        [points, joints] float64, per second.
    """
    positions = np.asarray(positions, dtype=np.float64)
    velocities = np.zeros_like(positions)
    if len(positions) > 1:
        velocities[:-1] = np.gradient(positions, dt, axis=0)[:-1]
    return velocities


def plan(chunk: ActionChunk, start: str, now: int) -> Trajectory:
    """Points of a chunk: step i is due (i + 1) * dt after the observation.

    Args:
        start: "observation": the stamp is the observation's time and all steps are points.
            "now": the steps due after `now` are points, counted from `now`, and the stamp is 0;
            for controllers that would step into a trajectory that began in the past.
        now: nanoseconds of the clock that stamped the observation.

    Raises:
        Refusal: nonfinite, or expired when no step is left.
    """
    positions = np.asarray(chunk.positions, dtype=np.float64)
    bad = np.argwhere(~np.isfinite(positions))
    if len(bad):
        step, joint = bad[0]
        raise Refusal(
            "nonfinite",
            f"the policy returned {positions[step, joint]} for step {step}, joint number {joint}"
            f" ({len(bad)} of {positions.size} values are not finite)",
        )
    dt = round(chunk.dt * _SECOND)
    velocities = velocities_of(positions, chunk.dt)
    times = [(i + 1) * dt for i in range(len(positions))]
    if start == "observation":
        return Trajectory(chunk.stamp, tuple(times), positions, velocities)
    elapsed = now - chunk.stamp
    past = sum(time <= elapsed for time in times)
    if past == len(times):
        raise Refusal(
            "expired",
            f"the chunk covers {times[-1] / _SECOND:.3f} s after the observation,"
            f" which is {elapsed / _SECOND:.3f} s old",
        )
    left = tuple(time - elapsed for time in times[past:])
    return Trajectory(0, left, positions[past:], velocities[past:])


def trajectory_message(trajectory: Trajectory, joints: Sequence[str]) -> JointTrajectory:
    """trajectory_msgs/JointTrajectory for the controller; columns of `trajectory` are `joints`."""
    from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

    message = JointTrajectory(joint_names=list(joints))
    _set_time(message.header.stamp, trajectory.stamp)
    positions, velocities = trajectory.positions.tolist(), trajectory.velocities.tolist()
    for time, position, velocity in zip(trajectory.times, positions, velocities, strict=True):
        point = JointTrajectoryPoint(positions=position, velocities=velocity)
        _set_time(point.time_from_start, time)
        message.points.append(point)
    return message


def chunk_message(
    chunk: ActionChunk, snapshot: Snapshot, joints: Sequence[str], now: int
) -> ActionChunkMessage:
    """pi0_ros/ActionChunk: the whole chunk, with the ages of its parts at `now` (nanoseconds)."""
    from pi0_ros.msg import ActionChunk as ActionChunkMessage

    message = ActionChunkMessage(
        sequence=chunk.sequence % 2**32,
        seed=chunk.seed,
        instruction=snapshot.instruction,
        dt=float(chunk.dt),
        horizon=len(chunk.positions),
        joint_names=list(joints),
        positions=np.asarray(chunk.positions, dtype=np.float64).ravel().tolist(),
        camera_names=list(snapshot.image_stamps),
        camera_ages=[(now - stamp) / _SECOND for stamp in snapshot.image_stamps.values()],
        joint_states_age=(now - snapshot.state_stamp) / _SECOND,
        stage_names=list(chunk.stage_times),
        stage_times=[float(time) for time in chunk.stage_times.values()],
    )
    _set_time(message.header.stamp, chunk.stamp)
    return message


def _set_time(field: object, nanoseconds: int) -> None:
    """Fill a builtin_interfaces Time or Duration."""
    field.sec, field.nanosec = divmod(nanoseconds, _SECOND)
