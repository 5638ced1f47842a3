"""When a controller goes over to a new trajectory, seen in what it publishes of its own command.

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

_DIFFERENT = 0.002  # radians between two trajectories that can be told apart
_NEAR = 0.25  # share of their distance within which the reference follows one of them


@dataclass(frozen=True)
class Sent:
    """A trajectory_msgs/JointTrajectory: when it came (ns), its joints, and what it says."""

    arrival: int
    joints: tuple[str, ...]
    motion: Motion


@dataclass(frozen=True)
class Reference:
    """A command of the controller: its time (ns, of the node's clock), joints and radians."""

    time: int
    joints: tuple[str, ...]
    positions: tuple[float, ...]


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
    stamp = message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec
    points = message.points
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
    for field in ("reference", "desired"):
        positions = tuple(getattr(getattr(message, field, None), "positions", ()))
        if positions and len(positions) == len(message.joint_names):
            time = message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec
            return Reference(time, tuple(message.joint_names), positions)
    return None


def measure(sent: Sequence[Sent], references: Sequence[Reference]) -> Reaction | None:
    """How long messages were not followed yet; None where nothing can be told.

    Args:
        sent: by arrival.
        references: by time.
    """
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
