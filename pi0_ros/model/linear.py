"""The matrix product that every part of pi0 shares."""

import torch
from torch import Tensor, nn


class Linear(nn.Module):
    """x @ weight + bias, with the weight as [in, out].

    This orientation multiplies without a transpose node in the graph. Which of the two axes is
    contiguous in memory is the loader's choice: on a CPU the weight is a transposed view of the
    checkpoint's [out, in], which is what its matrix kernels prefer.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(in_features, out_features))
        self.bias = nn.Parameter(torch.empty(out_features)) if bias else None

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """[..., in] -> [..., out].

        Args:
            bias: instead of the layer's own; [out], or broadcast to the result.
        """
        bias = self.bias if bias is None else bias
        if bias is None:
            return x @ self.weight
        if bias.dim() > 1:
            return x @ self.weight + bias
        # One operator on every device, and one node in a graph.
        return torch.addmm(bias, x.flatten(0, -2), self.weight).unflatten(0, x.shape[:-1])
