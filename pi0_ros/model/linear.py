"""The matrix product that every part of pi0 shares, and putting other parts in its place."""

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


def frozen(value: Tensor) -> nn.Parameter:
    """A parameter that is not trained: a compiler may take it for a constant."""
    return nn.Parameter(value.detach(), requires_grad=False)


def replace(model: nn.Module, name: str, value: nn.Module | Tensor) -> None:
    """Put a module, or a tensor as a frozen parameter, in the place of the one of that name."""
    owner, _, leaf = name.rpartition(".")
    new = frozen(value) if isinstance(value, Tensor) else value
    setattr(model.get_submodule(owner), leaf, new)
