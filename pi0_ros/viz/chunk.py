"""A pi0_ros/ActionChunk message, checked before anything is drawn of it. No ROS."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

DRY_RUN, EXECUTED, REJECTED = 0, 1, 2
"""Verdicts, as msg/ActionChunk.msg numbers them."""

MOST_STEPS = 1000
MOST_JOINTS = 100
LONGEST_DT = 10.0
"""Seconds between two steps."""


class ChunkError(ValueError):
    """A message that is no drawable chunk; the text says why."""


@dataclass(frozen=True)
class Chunk:
    """One chunk.

    Attributes:
        positions: [steps, joints] float64, radians; step i is due at `stamp` + (i + 1) * `dt`.
            Finite, unless the chunk was rejected.
        joints: of the columns.
        dt: seconds between two steps.
        stamp: time of the observation, nanoseconds.
        sequence: number of the chunk.
        instruction: the prompt that it answers.
        verdict: DRY_RUN, EXECUTED or REJECTED.
        reason: why it was rejected.
    """

    positions: np.ndarray
    joints: tuple[str, ...]
    dt: float
    stamp: int
    sequence: int
    instruction: str
    verdict: int
    reason: str

    @property
    def duration(self) -> float:
        """Seconds from the stamp to the last step."""
        return len(self.positions) * self.dt

    @property
    def finite(self) -> np.ndarray:
        """[n, joints]: the steps whose positions are all finite."""
        return self.positions[np.isfinite(self.positions).all(axis=1)]


def read_chunk(message: Any) -> Chunk:
    """A pi0_ros/msg/ActionChunk as a chunk.

    Raises:
        ChunkError: names the field, what was expected and what came.
    """
    joints, steps, dt = tuple(message.joint_names), message.horizon, message.dt
    if not 0 < len(joints) <= MOST_JOINTS or len(set(joints)) < len(joints):
        raise ChunkError(
            f"joint_names: expected 1 to {MOST_JOINTS} different names, got {len(joints)}:"
            f" {', '.join(joints[:10])}"
        )
    if not 0 < steps <= MOST_STEPS:
        raise ChunkError(f"horizon: expected 1 to {MOST_STEPS} steps, got {steps}")
    if len(message.positions) != steps * len(joints):
        raise ChunkError(
            f"positions: expected {steps} steps x {len(joints)} joints, got"
            f" {len(message.positions)} numbers"
        )
    if not (math.isfinite(dt) and 0 < dt <= LONGEST_DT):
        raise ChunkError(f"dt: expected more than 0 and at most {LONGEST_DT:g} s, got {dt}")
    positions = np.array(message.positions, np.float64).reshape(steps, len(joints))
    if message.verdict not in (DRY_RUN, EXECUTED, REJECTED):
        raise ChunkError(f"verdict: expected 0, 1 or 2, got {message.verdict}")
    if message.verdict != REJECTED and not np.isfinite(positions).all():
        raise ChunkError("positions: expected finite numbers in a chunk that was not rejected")
    stamp = message.header.stamp
    return Chunk(
        positions,
        joints,
        dt,
        stamp.sec * 1_000_000_000 + stamp.nanosec,
        message.sequence,
        message.instruction,
        message.verdict,
        message.rejected_reason,
    )
