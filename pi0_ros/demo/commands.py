"""What a joint_trajectory_controller makes of the trajectories of a recording, cycle by cycle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pi0_ros.motion.limits import JointLimits
from pi0_ros.sim.controller import Controller
from pi0_ros.sim.points import Points

PERIOD = 10_000_000
"""Nanoseconds between two cycles."""

TOLERANCE = 1.05
"""Times the velocity limit that a step may be: the messages' times are those of their arrival."""


@dataclass(frozen=True)
class Commands:
    """Attributes:
    points: fewest and most points of a trajectory.
    step: largest step of a joint's command in a cycle, as a multiple of its velocity limit.
    joint: which one.
    """

    points: tuple[int, int]
    step: float
    joint: str

    @property
    def smooth(self) -> bool:
        """No command steps faster than the joint may move."""
        return self.step <= TOLERANCE


def commands_of(
    arrived: Sequence[tuple[int, Points]], limits: JointLimits, version: str
) -> Commands:
    """Execute trajectories by the emulated controller.

    Args:
        arrived: nanoseconds of the robot's time, and trajectories of the joints of `limits`.
        version: of the controller.
    """
    if not arrived:
        return Commands((0, 0), 0.0, "")
    controller = Controller(limits.names, version, PERIOD)
    waiting = list(arrived)
    begin, first = waiting[0][0] - PERIOD, waiting[0][1]
    end = max(time + int(points.times[-1]) for time, points in waiting)
    position = first.positions[0, [first.names.index(name) for name in limits.names]]
    commands = []
    for now in range(begin, end, PERIOD):
        while waiting and waiting[0][0] <= now:
            time, points = waiting.pop(0)
            controller.accept(points, time)
        position = controller.command(now, position, None)
        commands.append(position)
    speeds = np.abs(np.diff(commands, axis=0)).max(axis=0) / (PERIOD / 1e9)
    shares = speeds / limits.velocity
    counts = [len(points.times) for _, points in arrived]
    worst = int(shares.argmax())
    return Commands((min(counts), max(counts)), float(shares[worst]), limits.names[worst])
