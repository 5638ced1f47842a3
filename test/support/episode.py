"""A fixed sequence of chunks, joint states and events for an executor; formulas only, no chance."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from pi0_ros.motion.limits import JointLimits
from pi0_ros.policy.types import ActionChunk

MS = 1_000_000
SECOND = 1_000_000_000
BEGIN = 1_790_000_000_123_456_789
JOINTS = ("pan", "lift", "grip")
DT = 0.02
SETTINGS = {
    "velocity_scale": 1.0,
    "acceleration_scale": 1.0,
    "max_jump": 0.3,
    "clamp_position": 0.05,
    "clamp_velocity": 1.5,
    "clamp_acceleration": 20.0,
    "reject_latch": 3,
    "blend": 0.1,
    "starve_timeout": 0.35,
}


def limits() -> JointLimits:
    return JointLimits(
        JOINTS,
        np.array([-1.0, -0.8, -np.inf]),
        np.array([1.0, 0.62, np.inf]),
        np.array([1.5, 1.2, 2.0]),
        np.array([8.0, 6.0, np.inf]),
    )


class Event(NamedTuple):
    """What happens at `time` (ns).

    Attributes:
        kind: chunk, tick, enable, disable, jump (of the clock) or change (of settings).
        value: the chunk, or the settings that change.
        positions, velocities: [joints] of the newest joint state, taken at `stamp`; None without.
    """

    time: int
    kind: str
    value: Any
    stamp: int
    positions: np.ndarray | None
    velocities: np.ndarray | None


def path(seconds: np.ndarray | float) -> np.ndarray:
    """[..., joints] radians: where the policy wants the arm to be."""
    t = np.asarray(seconds, dtype=np.float64)[..., None]
    return np.array([0.5, 0.6, 0.9]) * np.sin(np.array([1.1, 1.6, 0.7]) * t)


def chunk_at(seconds: float, seen: float, number: int) -> ActionChunk:
    """50 steps after the observation of `seen` seconds, each chunk a little beside the last."""
    steps = seen + DT * np.arange(1, 51)
    beside = 0.02 * np.sin(np.array([1.0, 2.0, 3.0]) * number)
    wave = 0.001 * np.sin(40 * steps + number)[:, None]
    positions = path(steps) + beside + wave
    if number in (22, 40, 41, 42, 43):
        positions[7:, 1] += 0.7  # far beyond limits; three in a row latch
    if number == 25:
        positions[3, 2] = np.nan
    if number in (30, 31):
        positions[20:] += 0.03  # a step that is clamped
    stamp = BEGIN + round(seen * SECOND) - (900 * MS if number == 27 else 0)
    return ActionChunk(positions.astype(np.float32), DT, stamp, number, 0)


def events() -> Iterator[Event]:
    """Eight seconds: chunks at 10 Hz, ticks at 50 Hz, and what may go wrong."""
    yield Event(BEGIN, "enable", None, BEGIN, None, None)
    number = 0
    for k in range(400):
        seconds = 0.02 * k
        time = BEGIN + 20 * MS * k + 3 * MS
        measured = max(0.0, seconds - 0.012)
        lagging = max(0.0, measured - 0.06)
        positions = path(lagging) + 0.001 * np.cos(np.arange(3) + k)
        if 330 <= k < 340:
            positions = positions + np.array([0.0, 0.2, 0.0])  # one joint was moved by hand
        velocities = (path(lagging + 1e-3) - path(lagging)) / 1e-3
        state = BEGIN + round(measured * SECOND), positions, velocities
        if 130 <= k < 134:
            state = 0, None, None
        happens = {
            60: ("disable", None),
            75: ("enable", None),
            240: ("enable", None),
            260: ("change", {"velocity_scale": 0.6, "acceleration_scale": 0.5}),
            285: ("change", {"velocity_scale": 1.0, "acceleration_scale": 1.0}),
            300: ("jump", None),
        }.get(k)
        if happens:
            yield Event(time, *happens, *state)
        # None from 90 to 125 and from 360 on: what executes is not followed by anything.
        if k % 5 == 0 and k >= 5 and not 90 <= k < 125 and k < 360:
            yield Event(time, "chunk", chunk_at(seconds, seconds - 0.08, number), *state)
            number += 1
        yield Event(time, "tick", None, *state)


def digest(trajectory: Any) -> list[Any]:
    """Stamp, number of points, times, and three points of a trajectory."""
    some = [0, len(trajectory.times) // 3, -1]
    return [
        trajectory.stamp,
        len(trajectory.times),
        [trajectory.times[i] for i in some],
        np.round(trajectory.positions[some], 9).tolist(),
        np.round(trajectory.velocities[some], 9).tolist(),
    ]
