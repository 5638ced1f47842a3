"""Why a tick leads to no trajectory, and the measured state that decisions rest on."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np


class Reason(str, Enum):
    """Why a tick led to no trajectory; each member is also the string that /diagnostics shows."""

    MISSING = "missing"
    """A stream or the instruction never came."""

    STALE = "stale"
    """A part of the observation is too old, or stamped in the future."""

    SKEWED = "skewed"
    """The parts of the observation are too far apart in time."""

    FROZEN = "frozen"
    """A camera repeats one image."""

    MALFORMED = "malformed"
    """A message contradicts itself or cannot be decoded."""

    EXPIRED = "expired"
    """No step of the chunk lies after the splice point."""

    NONFINITE = "nonfinite"
    """The chunk holds NaN or Inf."""

    LIMITS = "limits"
    """The chunk exceeds a limit by more than may be clamped."""

    MOVING = "moving"
    """Nothing executes that this node knows of, but the arm moves: no trajectory can begin."""

    COLLISION = "collision"
    """Links of the robot would hit each other."""

    WORKSPACE = "workspace"
    """The tool would leave its box."""

    FAILED = "failed"
    """The policy raised, or returned an array of a wrong shape."""

    TIMEOUT = "timeout"
    """The inference took longer than `inference_timeout`."""

    UNSERVED = "unserved"
    """An output has no subscriber, so nothing is sent to any; or its message could not be sent."""

    # The value in every Python: 3.12 changed what format() makes of a member.
    __str__ = str.__str__
    __format__ = str.__format__


REJECTIONS = frozenset({Reason.NONFINITE, Reason.LIMITS, Reason.COLLISION, Reason.WORKSPACE})
"""Reasons that lie in what the policy asks of the arm; `reject_latch` of them in a row latch."""


class Refusal(Exception):
    """No trajectory comes out of this tick.

    Attributes:
        reason: see Reason.
        detail: which stream or joint, what was expected, what came.
        stream: the input whose newest message only proved unusable when it was decoded, as
            /diagnostics names it; "" otherwise.
    """

    def __init__(self, reason: Reason | str, detail: str, stream: str = "") -> None:
        self.reason = Reason(reason)
        super().__init__(f"{self.reason}: {detail}")
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
        jumps: how often the joint state has jumped (`node.joint_evidence`).
        fault: what jumped last; "" if nothing did.
    """

    positions: np.ndarray
    velocities: np.ndarray
    stamp: int
    since: int = 0
    jumps: int = 0
    fault: str = ""
