"""Muon for the matrices inside the transformers, AdamW for everything else.

With Muon (Jordan et al. 2024) this model needs about half the steps that it needs with AdamW.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from examples.touch_task.muon import Muon

_INSIDE = ("vision.layers.", "prefix.layers.", "expert.layers.")


class Optimiser:
    """Both optimisers as one, and an average of the weights over the last steps.

    Args:
        modules: what is trained.
        rate: the highest learning rate.
        decay: of the average, per step.
    """

    def __init__(self, modules: Iterable[nn.Module], rate: float, decay: float) -> None:
        named = [pair for module in modules for pair in module.named_parameters()]
        matrices = [p for name, p in named if name.startswith(_INSIDE) and p.dim() == 2]
        chosen = {id(p) for p in matrices}
        others = [p for _, p in named if id(p) not in chosen]
        self._parameters = matrices + others
        self._rate = rate
        self._decay = decay
        self._steps = 0
        self._muon = Muon(matrices)
        self._adamw = torch.optim.AdamW(others, rate, betas=(0.9, 0.95), weight_decay=0.01)
        self._average = [p.detach().clone() for p in self._parameters]

    def step(self, loss: Tensor, share: float) -> None:
        """One step down the gradient of a scalar.

        Args:
            share: of the learning rate; see `schedule`.
        """
        for parameter in self._parameters:
            parameter.grad = None
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self._muon.step(self._rate * share)
        self._adamw.param_groups[0]["lr"] = self._rate * share
        self._adamw.step()
        self._steps += 1
        # The average forgets where it began.
        decay = min(self._decay, 1 - 1 / (self._steps + 1) ** 0.9)
        with torch.no_grad():
            for average, parameter in zip(self._average, self._parameters, strict=True):
                average.lerp_(parameter, 1 - decay)

    @torch.no_grad()
    def swap_average(self) -> None:
        """Exchange weights and average; twice changes nothing."""
        for average, parameter in zip(self._average, self._parameters, strict=True):
            kept = parameter.clone()
            parameter.copy_(average)
            average.copy_(kept)


def schedule(step: int, steps: int, warm_up: int = 100) -> float:
    """Share of the learning rate: up, level, and from half way on down to nearly nothing."""
    done = step / max(steps, 1)
    return min(1.0, (step + 1) / warm_up) * (0.02 + 0.98 * min(1.0, 2 * (1 - done)))
