"""The matrix product that every part of pi0 shares."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pi0_ros.model.ops import onednn as cpu
from pi0_ros.model.ops import reference as ops


class Linear(nn.Module):
    """x @ weight + bias, with the weight as [in, out].

    This orientation multiplies without a transpose node in the graph. Which of the two axes is
    contiguous in memory is the loader's choice: on a CPU the weight is a transposed view of the
    checkpoint's [out, in], which needs no copy and is what its matrix kernels prefer.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(in_features, out_features))
        self.bias = nn.Parameter(torch.empty(out_features)) if bias else None
        # [out, in] weights for the fused kernels of a CPU, see `cpu.prepare`: of gate and up apart.
        self.rows: tuple[Tensor, ...] = ()

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """[..., in] -> [..., out].

        Args:
            bias: instead of the layer's own; broadcasts to the result.
        """
        bias = self.bias if bias is None else bias
        if self.rows and (bias is None or bias.numel() == bias.shape[-1]):
            return cpu.linear(x, self.rows[0], None if bias is None else bias.view(-1))
        if bias is None:
            return x @ self.weight
        if bias.numel() > bias.shape[-1]:
            return x @ self.weight + bias
        # One operator on every device, and one node in a graph.
        flat = torch.addmm(bias.view(-1), x.reshape(-1, x.shape[-1]), self.weight)
        return flat.view(*x.shape[:-1], -1)

    def gelu(self, x: Tensor) -> Tensor:
        """gelu_tanh(forward(x))."""
        if self.rows:
            return cpu.linear(x, self.rows[0], self.bias, "gelu")
        return F.gelu(self(x), approximate="tanh")

    def geglu(self, x: Tensor) -> Tensor:
        """`ops.geglu` of forward(x), whose columns are those of gate and up."""
        if self.rows:
            return cpu.geglu(x, *self.rows)
        return ops.geglu(self(x))

    def plus(self, x: Tensor, residual: Tensor) -> Tensor:
        """residual + forward(x)."""
        if self.rows:
            return cpu.linear_plus(x, self.rows[0], self.bias, residual)
        return residual + self(x)
