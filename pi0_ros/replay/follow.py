"""The node's own `Mover` in a deterministic replay: limits kept, trajectories made, no ROS graph.

Its node is a stand-in whose clock is the recording's and whose publisher is a list. The gate is
open from the beginning if trajectories are wanted: no emergency stop and no deadman are looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pi0_ros.motion.enable import Gate
from pi0_ros.motion.executor import Mover
from pi0_ros.motion.limits import JointLimits
from pi0_ros.node.diagnostics import Counts
from pi0_ros.node.observation import ObservationBuffer
from pi0_ros.node.parameters import NodeParameters


@dataclass
class StandIn:
    """What `Mover` asks of a node.

    Attributes:
        now: nanoseconds of the recording's clock.
        counts: the node's counters, all of them.
        published: trajectory_msgs/JointTrajectory that nobody took yet.
        said: what the node would log.
    """

    now: Callable[[], int]
    parameters: NodeParameters
    limits: JointLimits | None
    gate: Gate = field(default_factory=Gate)
    counts: Counts = field(default_factory=Counts)
    published: list[Any] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    @property
    def trajectories(self) -> StandIn:
        """The publisher of trajectories."""
        return self

    @property
    def controls(self) -> StandIn:
        """Who hears of the gate."""
        return self

    def publish(self, message: Any) -> None:
        self.published.append(message)

    def gate_changed(self, text: str) -> None:
        self.said.append(text)

    def log_throttled(self, key: str, text: str, warn: bool = True) -> None:
        self.said.append(text)


def make_mover(
    parameters: NodeParameters,
    limits: JointLimits | None,
    buffer: ObservationBuffer,
    now: Callable[[], int],
    enable: bool,
) -> tuple[StandIn, Mover]:
    """A mover and its node, enabled or in a dry run, which judges chunks only."""
    node = StandIn(now, parameters, limits)
    if enable:
        node.gate.enable(0.0)
    return node, Mover(node, buffer)
