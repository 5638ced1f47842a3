"""Muon (Jordan et al. 2024): steps of matrices whose singular values are all alike.

PyTorch has brought an implementation since 2.9. It computes in bfloat16, which processors without
instructions for that emulate twenty times slower than the float32 used here.
"""

from __future__ import annotations

import torch
from torch import Tensor

# The quintic iteration that drives singular values to about 1 (Jordan et al. 2024).
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


class Muon:
    """Momentum, orthogonalised, with a step as large as AdamW's would be.

    Args:
        matrices: parameters of two axes.
        momentum: decay per step of the running gradient.
        weight_decay: share of the weights lost per step and unit of rate.
    """

    def __init__(
        self, matrices: list[Tensor], *, momentum: float = 0.95, weight_decay: float = 0.01
    ) -> None:
        self._momentum, self._weight_decay = momentum, weight_decay
        # Matrices of one shape are turned together.
        shapes: dict[torch.Size, list[Tensor]] = {}
        for matrix in matrices:
            shapes.setdefault(matrix.shape, []).append(matrix)
        self._groups = [(group, [torch.zeros_like(m) for m in group]) for group in shapes.values()]

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Move every matrix that has a gradient."""
        for matrices, momenta in self._groups:
            moving = [(m, b) for m, b in zip(matrices, momenta, strict=True) if m.grad is not None]
            if not moving:
                continue
            updates = []
            for matrix, momentum in moving:
                momentum.lerp_(matrix.grad, 1 - self._momentum)
                updates.append(matrix.grad.lerp(momentum, self._momentum))  # Nesterov's look ahead
            size = 0.2 * max(updates[0].shape) ** 0.5  # the usual root mean square of AdamW's steps
            turned = orthogonalised(torch.stack(updates))
            for (matrix, _), update in zip(moving, turned, strict=True):
                matrix.mul_(1 - rate * self._weight_decay).sub_(update, alpha=rate * size)


def orthogonalised(matrices: Tensor) -> Tensor:
    """[n, rows, columns] float32 -> same: nearly U V^T of each matrix U S V^T.

    What was not tiny among S becomes something between 0.7 and 1.2.
    """
    a, b, c = _COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.transpose(1, 2) if tall else matrices
    x = x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    for _ in range(_ITERATIONS):
        square = x @ x.transpose(1, 2)
        x = a * x + (b * square + c * square @ square) @ x
    return x.transpose(1, 2) if tall else x
