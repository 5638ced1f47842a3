"""Input and output of the policy: numpy only, no ROS, no torch."""

import math
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
class ActionPrefix:
    """Where the robot will go while a chunk is computed, for the chunk to agree with (real-time
    chunking).

    Attributes:
        positions: [horizon, joints] float32, in the policy's joint order, radians, absolute: where
            the executing trajectory is when each step of the chunk is due, and where it ends for
            the steps after its end.
        weights: [horizon] float32 from 0 to 1: how much each of them counts (guided).
        delay: how many steps will have been executed when the chunk arrives: that many count fully
            and the policy is given them (trained).
        max_weight: the most that guidance may weigh, whatever the flow time is.
    """

    positions: np.ndarray
    weights: np.ndarray
    delay: int
    max_weight: float = 10.0

    def check(self, horizon: int, joints: int) -> None:
        """Raises ValueError where a shape, a number or the delay is wrong."""
        shapes = np.shape(self.positions), np.shape(self.weights)
        if shapes != ((horizon, joints), (horizon,)):
            raise ValueError(
                f"a prefix needs positions [{horizon}, {joints}] and weights [{horizon}], got"
                f" {list(shapes[0])} and {list(shapes[1])}"
            )
        if not (np.isfinite(self.positions).all() and np.isfinite(self.weights).all()):
            raise ValueError("a prefix must be finite numbers, its positions or weights are not")
        if not (0 <= self.delay <= horizon and 0 < self.max_weight < math.inf):
            raise ValueError(
                f"a prefix needs a delay from 0 to {horizon} steps and a finite max_weight above 0,"
                f" got {self.delay} and {self.max_weight}"
            )


@dataclass(frozen=True)
class ChunkRequest:
    """What one chunk is computed from.

    Attributes:
        sequence: number of the chunk in its episode.
        prefix: what the chunk is to agree with, for a policy loaded for real-time chunking.
        noise: [horizon, max_action_dim] float32 to start the flow from; by default drawn from the
            policy's seed and `sequence`.
    """

    observation: Observation
    sequence: int = 0
    prefix: ActionPrefix | None = None
    noise: np.ndarray | None = None


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
