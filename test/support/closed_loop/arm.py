"""An arm that follows its commands late, as fast as it can, and the encoders that tell of it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from support.closed_loop.conditions import Conditions


class Arm:
    """Joints that follow commands after a dead time, with a time constant and a top speed.

    Attributes:
        positions, velocities: [joints] where it really is after the last cycle.
        history: the real positions after every cycle.
    """

    def __init__(self, conditions: Conditions, rng: np.random.Generator) -> None:
        self._conditions, self._rng = conditions, rng
        self._wraps = conditions.wraps
        self._period = 1 / conditions.rate
        self.positions = conditions.start.copy()
        self.velocities = np.zeros_like(self.positions)
        self._fastest = conditions.top_speed * conditions.velocity
        self._late = round(conditions.dead_time / self._period)
        self._queue = [self.positions] * self._late
        self.history: list[np.ndarray] = []
        self._glitches = 0
        self._glitch = np.zeros_like(self.positions)

    def slow_down(self, joints: Sequence[int], share: float) -> None:
        """Joints move no faster from now on than this share of their limit; 0: they are stuck."""
        self._fastest = self._fastest.copy()
        self._fastest[list(joints)] = share * self._conditions.velocity[list(joints)]

    def glitch(self, joint: int, by: float, count: int) -> None:
        """The next samples of a joint are wrong; by NaN: they are 0."""
        self._glitches = count
        self._glitch = np.zeros_like(self.positions)
        self._glitch[joint] = by

    def follow(self, seconds: np.ndarray, commands: np.ndarray) -> None:
        """Successive cycles: [n] their lengths, [n, joints] what was commanded."""
        wraps, tau, fastest = self._wraps, self._conditions.time_constant, self._fastest
        limited, wrapped = bool(np.isfinite(fastest).any()), bool(wraps.any())
        here = self.positions
        for length, command in zip(seconds, commands, strict=True):
            if self._late:
                self._queue.append(command)
                command = self._queue.pop(0)
            way = command - here
            if wrapped:  # a drive whose encoder wraps goes the shorter way round
                way = np.where(wraps, _within_a_turn(way), way)
            if tau:
                way = way * (1 - math.exp(-length / tau))
            if limited:
                way = np.clip(way, -fastest * length, fastest * length)
            here = here + way
            self.history.append(here)
            self.velocities = way / length
        self.positions = here

    def sensed(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions and velocities as the controller's state interfaces have them."""
        positions = self.positions + self._conditions.sag
        if self._conditions.noise:
            positions = positions + self._rng.normal(0, self._conditions.noise, len(positions))
        return np.where(self._wraps, _within_a_turn(positions), positions), self.velocities

    def measured(self) -> tuple[np.ndarray, np.ndarray | None]:
        """A sample of joint_states."""
        positions, velocities = self.sensed()
        if self._glitches:
            self._glitches -= 1
            wrong = np.isnan(self._glitch)
            positions = np.where(wrong, 0.0, positions + np.nan_to_num(self._glitch))
        return positions, velocities if self._conditions.velocity_told else None


def _within_a_turn(angles: np.ndarray) -> np.ndarray:
    return (angles + np.pi) % (2 * np.pi) - np.pi
