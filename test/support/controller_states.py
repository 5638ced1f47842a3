"""A node's trajectories and what a controller commands of them, for the doctor's tests."""

from __future__ import annotations

import numpy as np

from pi0_ros.doctor.reaction import Reference, Sent
from pi0_ros.motion.spline import Motion

MS = 1_000_000
START = 1_800_000_000_000_000_000
JOINTS = ("pan", "lift")
LEAD = 40 * MS


def trajectories(number: int, every: int = 100 * MS) -> list[Sent]:
    """Each repeats the one before until `LEAD` after its arrival, and accelerates the other way."""
    sent: list[Sent] = []
    acceleration = -10.0
    for k in range(number):
        arrival = START + k * every
        splice = arrival + LEAD
        past = Motion(np.array([START]), np.zeros((1, 2)), np.full((1, 2), 0.5))
        position, velocity = np.array([0.02, 0.02]), np.array([0.5, 0.5])
        if sent:
            before = sent[-1].motion
            past = before.points(slice(int(np.searchsorted(before.times, splice))))
            position, velocity = before.sample(splice)
        ahead = np.arange(0, 1000 * MS, 20 * MS, dtype=np.int64)
        t = ahead[:, None] / 1e9
        motion = Motion(
            np.concatenate([past.times, splice + ahead]),
            np.concatenate([past.positions, position + velocity * t + acceleration * t**2 / 2]),
            np.concatenate([past.velocities, velocity + acceleration * t]),
        )
        sent.append(Sent(arrival, JOINTS, motion))
        acceleration = -acceleration
    return sent


def references(sent: list[Sent], way: int, ahead: int = 0) -> list[Reference]:
    """Of a controller at 500 Hz that gets each message `way` after it came here."""
    found = []
    for time in range(START, sent[-1].arrival + 200 * MS, 2 * MS):
        got = [s for s in sent if s.arrival + way <= time]
        if got:
            positions = got[-1].motion.sample(time + ahead)[0][::-1]  # in another order
            found.append(Reference(time, JOINTS[::-1], tuple(positions)))
    return found
