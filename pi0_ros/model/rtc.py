"""Real-time chunking (RTC): a chunk that agrees with actions that were decided before it.

A robot executes one chunk while the next is computed. Its first actions will have been executed
when the next chunk arrives, so that chunk should begin with them. Two ways to have it so:

* `Guided`: every denoise step is pulled towards the earlier actions; any policy can be guided
  (Black, Galliker, Levine 2025, "Real-Time Execution of Action Chunking Flow Policies"). The
  Jacobian of the network is taken for the identity, so nothing is differentiated.
* `Trained`: the earlier actions are given, clean, with flow time 0; for policies trained so (Black
  et al. 2025, "Training-Time Action Conditioning for Efficient Real-Time Chunking").

What depends on the delay are values of tensors, never shapes: one graph serves all delays.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

MODES = ("off", "guided", "trained")


class Guided(NamedTuple):
    """Pulls every denoise step towards earlier actions.

    Attributes:
        target: [batch, horizon, max_action_dim] float32, the earlier actions, normalised.
        gain, rate: float32 [num_steps, horizon, 1] each, from `guidance`; of one step [horizon, 1].
    """

    target: Tensor
    gain: Tensor
    rate: Tensor

    def steps(self) -> list["Guided"]:
        """What each denoise step takes."""
        steps = zip(self.gain.unbind(), self.rate.unbind(), strict=True)
        return [Guided(self.target, *step) for step in steps]


class Trained(NamedTuple):
    """Gives the first actions.

    Attributes:
        target: [batch, horizon, max_action_dim] float32, the earlier actions, normalised.
        given: bool [horizon, 1] or [batch, horizon, 1], True for the actions that are given.
        clean: the row of `Pi0.time_rows` at flow time 0.
    """

    target: Tensor
    given: Tensor
    clean: Tensor

    def restore(self, actions: Tensor) -> Tensor:
        """The actions [batch, horizon, max_action_dim], the given ones among them as given."""
        return torch.where(self.given, self.target, actions)

    def time(self, row: Tensor) -> Tensor:
        """A row of `Pi0.time_rows` per action: [..., horizon, ...], as `Pi0.velocity` takes it.

        Args:
            row: of the denoise step; or [batch, 1, ...], where rows of the batch differ in time.
        """
        return torch.where(self.given, self.clean, row)


KINDS = {"guided": Guided, "trained": Trained}
"""Mode -> what a model takes in it; all of them have three tensors."""


def guidance(
    weights: np.ndarray, times: np.ndarray, max_weight: float
) -> tuple[np.ndarray, np.ndarray]:
    """`gain` and `rate` of `Guided`.

    A step of guided flow is x - v' / n with v' = v - w W (Y - (x - t v)). Sorted by x, Y and v that
    is x + g (Y - x) - a v with the gain g = w W / n and the rate a = 1 / n - t g.

    Args:
        weights: [horizon], W: how much each action counts, 0 to 1.
        times: [num_steps] flow times t of the denoise steps, 1 = noise.
        max_weight: the most that w may be; w grows without a bound towards t = 1.
    """
    t = np.asarray(times, np.float64)
    with np.errstate(divide="ignore"):
        # With tau = 1 - t and 1 / r^2 = (tau^2 + (1 - tau)^2) / (1 - tau)^2 it is
        # (1 - tau) / tau / r^2.
        w = np.minimum(((1 - t) ** 2 + t**2) / (t * (1 - t)), max_weight)
    gain = w[:, None] * np.asarray(weights, np.float64) / len(t)
    rate = 1 / len(t) - t[:, None] * gain
    return gain[..., None].astype(np.float32), rate[..., None].astype(np.float32)
