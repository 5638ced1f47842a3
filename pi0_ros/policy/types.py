"""Input and output of the policy: numpy only, no ROS, no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Observation:
    """Images, joint positions and the task at one time.

    Attributes:
        images: camera name -> [H, W, 3] uint8 RGB, any size. Never written to.
        state: [joints] float, in the policy's joint order, radians.
        instruction: the task in words.
        stamp: time of the observation in nanoseconds of the caller's clock (header stamps in ROS).
    """

    images: Mapping[str, np.ndarray]
    state: np.ndarray
    instruction: str
    stamp: int = 0


@dataclass(frozen=True)
class ActionChunk:
    """The joint positions that the policy predicts after an observation.

    Attributes:
        positions: [horizon, joints] float32, in the policy's joint order, radians, absolute.
            Step i is due at `stamp` + (i + 1) * `dt`.
        dt: seconds between two steps.
        stamp: the observation's time in nanoseconds.
        sequence: number of this chunk since the policy was loaded or reset, from 0.
        seed: with `sequence` it gives the noise that this chunk started from.
        stage_times: stage name -> seconds of wall time, in order of execution.
    """

    positions: np.ndarray
    dt: float
    stamp: int
    sequence: int
    seed: int
    stage_times: Mapping[str, float] = field(default_factory=dict)

    @property
    def inference_time(self) -> float:
        """Seconds of wall time from observation to positions: the sum of the stages."""
        return sum(self.stage_times.values())
