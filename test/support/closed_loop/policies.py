"""Policies by formula: what a chunk asks for, given where the arm was seen."""

from __future__ import annotations

import numpy as np

from support.closed_loop.conditions import Conditions


class Policy:
    """Gives chunks of positions. Kinds:

    - wave: oscillates about the start, whatever the arm does; each chunk a little beside the last;
    - walk: wanders from where the arm was seen;
    - step: heads for a goal that jumps now and then, from where the arm was seen;
    - edge: the same to the position limits and a little beyond, faster than the joints may.
    """

    def __init__(self, conditions: Conditions, rng: np.random.Generator) -> None:
        self._conditions, self._rng = conditions, rng
        c = conditions
        joints = len(c.start)
        self._frequency = rng.uniform(1.0, 5.0, joints)
        self._phase = rng.uniform(-np.pi, np.pi, joints)
        room = np.minimum(np.minimum(c.upper - c.start, c.start - c.lower), 1.5)
        speed = rng.uniform(0.2, 0.9) * c.velocity
        brisk = 0.5 * c.acceleration
        limit = np.minimum(speed / self._frequency, brisk / self._frequency**2)
        self._amplitude = np.minimum(np.maximum(0.7 * room, 0), limit)
        self._goal = c.start
        self._goal_until = 0.0
        self._speed = speed

    def chunk(self, seconds: float, seen: np.ndarray) -> np.ndarray:
        """[horizon, joints] radians for an observation at `seconds` that saw the arm there."""
        c, rng = self._conditions, self._rng
        ahead = c.dt * np.arange(1, c.horizon + 1)[:, None]
        if c.policy == "wave":
            beside = rng.normal(0, 0.004, len(seen)) + 0.001 * rng.normal(0, 1, (len(ahead), 1))
            # It grows from rest within the first second.
            grown = np.minimum(np.maximum(seconds - 0.3, 0) + ahead, 1.0) ** 2
            angle = self._frequency * (seconds + ahead) + self._phase
            return c.start + grown * self._amplitude * np.sin(angle) + beside
        if c.policy == "walk":
            pushes = rng.normal(0, 0.3, (len(ahead) // 10 + 1, len(seen))) * c.acceleration
            velocity = np.cumsum(np.repeat(pushes, 10, axis=0)[: len(ahead)] * c.dt, axis=0)
            velocity += rng.normal(0, 0.2, len(seen)) * self._speed
            velocity = np.clip(velocity, -self._speed, self._speed)
            return np.clip(seen + np.cumsum(velocity * c.dt, axis=0), c.lower, c.upper)
        if seconds >= self._goal_until:
            self._goal_until = seconds + rng.uniform(0.4, 1.2)
            away = rng.uniform(-1, 1, len(seen)) * 0.8
            self._goal = np.clip(c.start + away, c.lower + 0.02, c.upper - 0.02)
            if c.policy == "edge":
                edge = np.where(rng.random(len(seen)) < 0.5, c.lower - 0.03, c.upper + 0.03)
                self._goal = np.clip(edge, c.start - 2, c.start + 2)
        speed = self._speed * (1.5 if c.policy == "edge" else 1.0)
        way = self._goal - seen
        return seen + np.sign(way) * np.minimum(np.abs(way), speed * ahead)
