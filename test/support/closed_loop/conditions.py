"""What an episode is like: controller, arm, encoders, transport, policy, and what goes wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pi0_ros.sim.versions import Parameters


@dataclass(frozen=True)
class Form:
    """A controller, and the node's parameter `controller` that belongs to it."""

    version: str
    controller: str = "jtc"
    parameters: Parameters = field(default_factory=Parameters)

    @property
    def name(self) -> str:
        """What distinguishes it."""
        changed = {k: v for k, v in vars(self.parameters).items() if v != getattr(Parameters(), k)}
        return " ".join([self.version, *(f"{name}={value}" for name, value in changed.items())])


@dataclass(frozen=True)
class Incident:
    """Something that happens once.

    Attributes:
        at: seconds.
        kind: a method `_on_<kind>` of `episode.Episode`, which gets `value`.
    """

    at: float
    kind: str
    value: Any = None


@dataclass(frozen=True)
class Conditions:
    """Times in seconds, angles in radians.

    Attributes:
        form, rate, jitter: the controller, its cycles per second, and by which share of a period
            they are irregular.
        lower, upper, velocity, acceleration: [joints] limits.
        start: [joints] where the arm rests at first.
        wraps: [joints] bool, joints that turn without end and are measured within half a turn.
        dead_time, time_constant, top_speed, sag: of the arm: it follows a command so much later,
            with this time constant, no faster than this multiple of the velocity limit, and stands
            this much beside it.
        noise, velocity_told, state_rate, state_delay: of joint_states: standard deviation, whether
            velocities are told, messages per second, time to the node (shortest, longest).
        transport, loss: of trajectories: time to the controller, share that is lost.
        clock_offset: by which the controller's clock is ahead of the node's.
        splice_lead, emergency_acceleration_scale: the node's parameters.
        blur_on_return: radians by which a setpoint may be taken for the old one after the robot was
            away.
        policy, policy_rate, inference, dt, horizon: kind of policy, chunks per second at most, time
            that one takes, and the chunk.
        silent_after: no chunks from then on.
        seconds: length; the last TAIL are without chunks.
        incidents: what happens.
        latch: whether a fault latches: never, may, must.
        free: why the commands' bounds are not demanded; "" if they are.
    """

    form: Form
    rate: float
    jitter: float
    lower: np.ndarray
    upper: np.ndarray
    velocity: np.ndarray
    acceleration: np.ndarray
    start: np.ndarray
    wraps: np.ndarray
    dead_time: float = 0.0
    time_constant: float = 0.0
    top_speed: float = np.inf
    sag: float = 0.0
    noise: float = 0.0
    velocity_told: bool = True
    state_rate: float = 100.0
    state_delay: tuple[float, float] = (0.001, 0.003)
    transport: tuple[float, float] = (0.001, 0.003)
    loss: float = 0.0
    clock_offset: float = 0.0
    splice_lead: float = 0.04
    emergency_acceleration_scale: float = 1.0
    blur_on_return: float = 0.0
    policy: str = "wave"
    policy_rate: float = 10.0
    inference: tuple[float, float] = (0.03, 0.08)
    dt: float = 0.02
    horizon: int = 50
    silent_after: float = np.inf
    seconds: float = 4.4
    incidents: tuple[Incident, ...] = ()
    latch: str = "never"
    free: str = ""

    @property
    def blur(self) -> float:
        """Radians by which the setpoint of an arm at rest cannot be known from a second of samples.

        1 mrad for an arm that just came to rest, four standard errors of their mean, and how far
        the arm stands beside its setpoint.
        """
        return 1e-3 + abs(self.sag) + 4 * self.noise / np.sqrt(0.9 * self.state_rate)


TAIL = 1.6
"""Seconds without chunks at the end."""
