"""The flow time of the denoise steps, and what it does to the adaptive norms of pi0.5."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pi0_ros.model.config import Pi0Config
from pi0_ros.model.linear import Linear


def flow_times(num_steps: int, accumulated: bool = False) -> np.ndarray:
    """[num_steps] float32 times of the denoise steps, from 1 (noise) towards 0.

    Args:
        accumulated: subtract 1 / num_steps again and again in float32, as openpi and LeRobot 0.3
            do, instead of taking 1 - i / num_steps, as LeRobot 0.4 does. The last bits of a time
            change an action by 1e-4, by way of the sinusoids, and more where attention is sharp.
    """
    if not accumulated:
        return (1.0 - np.arange(num_steps) / num_steps).astype(np.float32)
    steps = np.full(num_steps - 1, -1.0 / num_steps, np.float32)
    return np.cumsum(np.concatenate((np.ones(1, np.float32), steps)), dtype=np.float32)


def sinusoids(times: np.ndarray, c: Pi0Config) -> Tensor:
    """[n] flow times -> [n, expert_width] float32: sines, then cosines."""
    # Angles reach 1570 rad, where float32 is off by 1e-4 rad: they are taken in double on the
    # host, which no graph sees.
    fraction = np.linspace(0.0, 1.0, c.expert_width // 2)
    period = c.min_period * (c.max_period / c.min_period) ** fraction
    angle = 2.0 * np.pi * np.asarray(times, dtype=np.float64)[:, None] / period
    return torch.from_numpy(
        np.concatenate((np.sin(angle), np.cos(angle)), axis=1).astype(np.float32)
    )


class TimeModulation(nn.Module):
    """Time MLP of pi0.5, and the projections of all adaptive norms of its action expert.

    At the published size these are 118 million parameters that depend on nothing but the time:
    inference keeps their results for its few times instead.
    """

    def __init__(self, c: Pi0Config) -> None:
        super().__init__()
        width, norms = c.expert_width, 2 * c.depth + 1
        self.mlp = nn.ModuleList(Linear(width, width, bias=True) for _ in range(2))
        self.norms = nn.ModuleList(Linear(width, 3 * width, bias=True) for _ in range(norms))

    def forward(self, embedding: Tensor) -> Tensor:
        """[n, expert_width] of `sinusoids` -> [n, norms, 3, expert_width]: scale, shift and gate.

        Of an adaptive norm: y = norm(h) * (1 + scale) + shift, h = h + gate * block(y).
        """
        for linear in self.mlp:
            embedding = F.silu(linear(embedding))
        return torch.stack([norm(embedding) for norm in self.norms], dim=1).unflatten(2, (3, -1))
