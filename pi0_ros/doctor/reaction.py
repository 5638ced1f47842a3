"""When a controller goes over to a new trajectory, and how the arm lags, by what it publishes.

The node's trajectories repeat the executing one up to the splice point, so a controller that got a
message in time cannot be told from one that did not until then. After it the two differ, and the
reference of the controller shows which one it follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pi0_ros.motion.spline import Motion
from pi0_ros.node.observation import stamp_of

_DIFFERENT = 0.002  # radians between two trajectories that can be told apart
_LONGEST_LAG = 0.3  # seconds
_MOVED = 0.02  # radians that a joint has to move for its lag to be told
_NEAR = 0.25  # share of their distance within which the reference follows one of them


@dataclass(frozen=True)
class Sent:
    """A trajectory_msgs/JointTrajectory: when it came (ns), its joints, and what it says."""

    arrival: int
    joints: tuple[str, ...]
    motion: Motion


@dataclass(frozen=True)
class Reference:
    """A command of the controller: its time (ns, of the node's clock), joints and radians.

    Attributes:
        measured: radians of the joints at that time; empty where the controller does not tell.
    """

    time: int
    joints: tuple[str, ...]
    positions: tuple[float, ...]
    measured: tuple[float, ...] = ()


@dataclass(frozen=True)
class Reaction:
    """How a controller went over to new trajectories.

    Attributes:
        messages: that could be told from the one before while they executed.
        late: of those, whose predecessor was still followed after the splice point.
        longest: seconds after the arrival of a message at which its predecessor was still followed.
    """

    messages: int
    late: int
    longest: float


def sent_of(message: Any, arrival: int) -> Sent | None:
    """What a trajectory_msgs/JointTrajectory says; None where it is of no use here."""
    stamp, points = stamp_of(message), message.points
    shapes = {(len(p.positions), len(p.velocities)) for p in points}
    if not stamp or shapes != {(len(message.joint_names),) * 2}:
        return None
    times = [p.time_from_start.sec * 1_000_000_000 + p.time_from_start.nanosec for p in points]
    motion = Motion(
        stamp + np.array(times, np.int64),
        np.array([p.positions for p in points]),
        np.array([p.velocities for p in points]),
    )
    return Sent(arrival, tuple(message.joint_names), motion)


def reference_of(message: Any) -> Reference | None:
    """The command in a control_msgs/JointTrajectoryControllerState; older ones call it desired."""
    joints = tuple(message.joint_names)
    for field, measured in (("reference", "feedback"), ("desired", "actual")):
        if positions := _positions(message, field, joints):
            found = _positions(message, measured, joints)
            return Reference(stamp_of(message), joints, positions, found)
    return None


def _positions(message: Any, field: str, joints: tuple[str, ...]) -> tuple[float, ...]:
    positions = tuple(getattr(getattr(message, field, None), "positions", ()))
    return positions if len(positions) == len(joints) else ()


def lag_of(references: Sequence[Reference]) -> float | None:
    """Seconds by which the slowest joint lags behind its command; None where too little moved.

    The lag at which command and measurement of one controller are nearest to each other.
    """
    told = [reference for reference in references if reference.measured]
    if len(told) < 10:
        return None
    times = np.array([reference.time - told[0].time for reference in told]) / 1e9
    commanded = np.array([reference.positions for reference in told])
    measured = np.array([reference.measured for reference in told])
    moved = np.flatnonzero(np.ptp(commanded, axis=0) > _MOVED)
    late = times >= times[0] + _LONGEST_LAG
    if not len(moved) or late.sum() < 10:
        return None
    lags = np.arange(0.0, _LONGEST_LAG, 0.002)

    def lag(joint: int) -> float:
        off = [
            np.abs(np.interp(times[late] - lag, times, commanded[:, joint]) - measured[late, joint])
            for lag in lags
        ]
        return float(lags[np.argmin(np.mean(off, axis=1))])

    return max(map(lag, moved))


def measure(sent: Sequence[Sent], references: Sequence[Reference]) -> Reaction | None:
    """How long messages were not followed yet; None where nothing can be told."""
    times = np.array([reference.time for reference in references], np.int64)
    known = late = 0
    longest = 0.0
    for before, message, after in zip(sent, sent[1:], [*sent[2:], None], strict=False):
        end = after.arrival if after is not None else np.iinfo(np.int64).max
        first, last = np.searchsorted(times, (message.arrival, end)).tolist()
        told = [_follows(before, message, reference) for reference in references[first:last]]
        old = [int(times[first + i]) for i, new in enumerate(told) if new is False]
        known += any(new is not None for new in told)
        late += bool(old)
        if old:
            longest = max(longest, (max(old) - message.arrival) / 1e9)
    return Reaction(known, late, longest) if known else None


def _follows(before: Sent, message: Sent, reference: Reference) -> bool | None:
    """Whether the reference follows the message rather than the one before; None: not known."""
    if not set(message.joints) == set(before.joints) <= set(reference.joints):
        return None
    columns = [before.joints.index(joint) for joint in message.joints]
    old = before.motion.sample(reference.time)[0][columns]
    new = message.motion.sample(reference.time)[0]
    found = np.array([reference.positions[reference.joints.index(j)] for j in message.joints])
    joint = int(np.argmax(np.abs(new - old)))
    apart = abs(new[joint] - old[joint])
    if apart < _DIFFERENT:
        return None
    if abs(found[joint] - new[joint]) < _NEAR * apart:
        return True
    return False if abs(found[joint] - old[joint]) < _NEAR * apart else None
