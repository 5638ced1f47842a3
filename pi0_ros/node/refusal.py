"""Why a tick led to nothing published, and the measured state that decisions rest on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

REASONS = (
    "missing",
    "stale",
    "skewed",
    "frozen",
    "malformed",
    "expired",
    "nonfinite",
    "limits",
    "failed",
    "timeout",
)
"""Why a tick led to no chunk; `Refusal.reason` is one of these.

missing: a stream or the instruction never came. stale: a part is too old, or from the future.
skewed: the parts are too far apart. frozen: a camera repeats one picture. malformed: a message
contradicts itself. expired: every step of the chunk is past. nonfinite: NaN or Inf in the chunk.
limits: the chunk exceeds a limit by more than may be clamped. failed: the policy raised or returned
something of a wrong shape. timeout: the inference took longer than `inference_timeout`.
"""


class Refusal(Exception):
    """No trajectory comes out of this tick.

    Attributes:
        reason: one of REASONS.
        detail: which stream or joint, what was expected, what came.
        stream: the input whose newest message only proved unusable when it was decoded, as
            /diagnostics names it; "" otherwise.
    """

    def __init__(self, reason: str, detail: str, stream: str = "") -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.stream = stream


@dataclass(frozen=True)
class Measured:
    """The newest joint state.

    Attributes:
        positions: [joints] float64, radians, in the policy's order.
        velocities: [joints] float64, radians per second.
        stamp: nanoseconds of the node's clock.
        since: stamp since which joint states came without a gap.
    """

    positions: np.ndarray
    velocities: np.ndarray
    stamp: int
    since: int = 0
