"""In what the versions of joint_trajectory_controller differ, and what its parameters say."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Replacement(Enum):
    """What a new trajectory does to the executing one."""

    AT_ONCE = "the old one is forgotten"
    WHEN_DUE = "a stamp in the future waits for its time, while the old one goes on"
    BLEND = "the old one goes on until the new one starts; a stamp in the past starts now"


@dataclass(frozen=True)
class Version:
    """In what the versions of the controller differ.

    Attributes:
        ahead: a cycle commands where the trajectory is one nominal period later.
        moving_end: the default of allow_nonzero_velocity_at_trajectory_end.
        past_first: of `points.Checks`.
        desired_now: with interpolate_from_desired_state the way to a first point begins at the time
            of this cycle, not of the last one.
        replacement: where allow_trajectory_replacement is true.
    """

    ahead: bool = True
    moving_end: bool = False
    past_first: bool = False
    desired_now: bool = False
    replacement: Replacement = Replacement.AT_ONCE


VERSIONS = {
    "humble": Version(ahead=False, moving_end=True, past_first=True, desired_now=True),
    "jazzy": Version(),
    "kilted": Version(),
    "6.9.0": Version(replacement=Replacement.WHEN_DUE),
    "master": Version(replacement=Replacement.BLEND),
}
"""Name -> rules. Branches of ros2_controllers, and its tag 6.9.0."""


@dataclass(frozen=True)
class Parameters:
    """Parameters of joint_trajectory_controller, by their names.

    Attributes:
        allow_trajectory_replacement: only 6.9.0 and master have it.
        interpolate_from_desired_state: the way to a first point that is still to come begins at the
            last command instead of the measured state; humble calls it open_loop_control.
        allow_nonzero_velocity_at_trajectory_end: None is the version's default.
        allow_partial_joints_goal: a trajectory may leave joints out. They hold their last command;
            where trajectories are blended they go on along the old one.
        path_tolerance, goal_tolerance: radians, of every joint; 0 is not checked.
        goal_time: seconds after the end until the goal tolerance is demanded; 0: never.
    """

    allow_trajectory_replacement: bool = True
    interpolate_from_desired_state: bool = False
    allow_nonzero_velocity_at_trajectory_end: bool | None = None
    allow_partial_joints_goal: bool = False
    path_tolerance: float = 0.0
    goal_tolerance: float = 0.0
    goal_time: float = 0.0
