"""The operators of pi0 on a CPU, fused by oneDNN, which PyTorch brings for its own compiler.

For inference without a graph: the operators can be neither traced nor differentiated. They round
less than the reference does: oneDNN adds residuals and applies GELU before a product is rounded.

Three things make them fast. GELU, gating and residual sums happen inside of the products. The
weights of the action expert, which products of 51 rows read ten times per inference, are kept in
the blocks that oneDNN works on, so that it does not lay them out anew each time. And the elements
that RoPE rotates as a pair lie side by side, so that a rotation is one complex product.
"""

import math
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pi0_ros.model.config import Pi0Config
from pi0_ros.model.linear import Linear, replace
from pi0_ros.model.ops.reference import EPS, Reference, grouped_attention
from pi0_ros.model.quantised import Model

# PyTorch's own compiler uses them, but no documentation promises them.
_OPERATORS = ("_linear_pointwise", "_reorder_linear_weight", "_is_mkldnn_bf16_supported")


@cache
def supported(dtype: torch.dtype) -> bool:
    """Whether this CPU and this PyTorch have the kernels for a dtype."""
    if not torch.backends.mkldnn.is_available():
        return False
    if not all(hasattr(torch.ops.mkldnn, name) for name in _OPERATORS):
        return False
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype == torch.float32


class Rows(nn.Module):
    """A `Linear` with its weight as [out, in] rows, dense or packed; several for [gate | up]."""

    def __init__(self, linear: Linear, parts: int, tokens: int | None) -> None:
        """
        Args:
            parts: of the columns, each with rows of its own.
            tokens: pack the rows for products of so many tokens; None: they stay a view.
        """
        super().__init__()
        self.bias = linear.bias
        rows = linear.weight.detach().t().chunk(parts)
        if tokens is not None:
            pack: Any = torch.ops.mkldnn._reorder_linear_weight
            rows = tuple(pack(part.contiguous(), tokens) for part in rows)
        self.rows = rows

    def forward(
        self, x: Tensor, bias: Tensor | None = None, activation: str = "none", part: int = 0
    ) -> Tensor:
        """activation(x @ rows^T + bias), rounded once; see `Linear`."""
        formula = "tanh" if activation == "gelu" else ""
        bias = self.bias if bias is None else bias
        rows = self.rows[part]
        if bias is not None and bias.dim() > 1:  # the operator takes one bias for all tokens
            product = torch.ops.mkldnn._linear_pointwise(x, rows, None, "none", [], "") + bias
            return F.gelu(product, approximate="tanh") if formula else product
        return torch.ops.mkldnn._linear_pointwise(x, rows, bias, activation, [], formula)

    def combine(
        self, x: Tensor, other: Tensor, operation: str, part: int = 0, bias: Tensor | None = None
    ) -> Tensor:
        """x @ rows^T + bias, added to or multiplied by another tensor, rounded once."""
        binary = torch.ops.mkldnn._linear_pointwise.binary
        bias = self.bias if bias is None else bias
        return binary(x, other, self.rows[part], bias, operation)


class OneDnn:
    """RoPE tables are one complex tensor [1 or batch, tokens, 1, head_dim / 2]; keys and values
    are one tensor [batch, 2, kv_heads, tokens, head_dim]; gains hold another sqrt(width); masks
    are what is added to the scores.
    """

    def prepare(self, model: Model) -> Model:
        """Swap every product of an inference for `Rows`.

        Queries and keys are reordered within each head, so that the elements i and
        i + head_dim / 2 become 2 i and 2 i + 1. Scores do not depend on the order. Gains are
        multiplied by sqrt(width), since `rms_norm` divides by a sum instead of a mean.
        """
        m: Any = model
        c: Pi0Config = m.config
        for stack in (m.prefix, m.expert):
            for layer in stack.layers:
                _interleave(layer.qkv, c.heads + c.kv_heads, c.head_dim)
            for name, gain in list(stack.named_parameters()):
                if name.endswith("norm"):
                    replace(stack, name, self.gain(gain))
        _interleave(m.prefix_last_kv, c.kv_heads, c.head_dim)
        # By name: a list of modules would keep every weight until the last one is packed.
        names = [name for name, module in model.named_modules() if isinstance(module, Linear)]
        for name in names:
            packed = c.horizon + (not c.pi05) if name.startswith("expert.") else None
            if not name.startswith("time_in"):
                parts = 2 if name.endswith("gate_up") else 1
                replace(model, name, Rows(model.get_submodule(name), parts, packed))
        return model

    def rope_tables(
        self, positions: Tensor, config: Pi0Config, dtype: torch.dtype
    ) -> tuple[Tensor]:
        cos, sin = Reference().rope_tables(positions, config, dtype)
        half = config.head_dim // 2
        return (torch.complex(cos[..., :half].contiguous(), sin[..., :half].contiguous()),)

    def attention_mask(self, mask: Tensor, group: int, dtype: torch.dtype) -> Tensor:
        added = torch.zeros(mask.shape, dtype=dtype).masked_fill(mask, float("-inf"))
        return added.repeat_interleave(group, dim=2)

    def linear(self, x: Tensor, linear: Rows) -> Tensor:
        parts = range(len(linear.rows))
        return torch.cat([linear(x, part=part) for part in parts], dim=-1)

    def qkv(
        self,
        x: Tensor,
        linear: Rows,
        heads: int,
        kv_heads: int,
        rope: tuple[Tensor] | None = None,
        bias: Tensor | None = None,
    ) -> tuple[Tensor, tuple[Tensor]]:
        y = linear(x, bias).unflatten(-1, (heads + 2 * kv_heads, -1))
        if rope is None:
            return y[:, :, :heads], (_keys_values(y[:, :, heads:]),)
        y = y.float()
        pairs = torch.view_as_complex(y[:, :, : heads + kv_heads].unflatten(-1, (-1, 2)))
        pairs.mul_(rope[0])  # in place: y is the product of this function
        dense = {"copy": True, "memory_format": torch.contiguous_format}
        q = y[:, :, :heads]
        q = q.to(x.dtype, **dense) if heads else q
        return q, (_keys_values(y[:, :, heads:]).to(x.dtype, **dense),)

    def attention(
        self,
        q: Tensor,
        kv: tuple[Tensor],
        mask: Tensor | None,
        scale: float,
        past: tuple[Tensor] | None = None,
    ) -> Tensor:
        k, v = (kv[0] if past is None else torch.cat((past[0], kv[0]), dim=3)).unbind(1)
        return grouped_attention(q, k, v, mask, scale)

    def gain(self, gain: Tensor) -> Tensor:
        return gain * math.sqrt(gain.shape[-1])

    def rms_norm(self, x: Tensor, gain: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        norm = torch.hypot(norm, _constant(math.sqrt(x.shape[-1] * EPS)))
        # Written as it is rounded, which saves a pass over the memory.
        return torch.mul(torch.div(x, norm), gain, out=torch.empty_like(x))

    def linear_add_rms_norm(
        self,
        x: Tensor,
        linear: Rows,
        residual: Tensor,
        gain: Tensor,
        gate: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        if gate is None:
            total = linear.combine(x, residual, "add")
        else:
            total = torch.addcmul(residual, linear(x), gate)
        return self.rms_norm(total, gain), total

    def linear_add(self, x: Tensor, linear: Rows, residual: Tensor) -> Tensor:
        return linear.combine(x, residual, "add")

    def linear_gelu(self, x: Tensor, linear: Rows) -> Tensor:
        return linear(x, activation="gelu")

    def geglu(self, x: Tensor, linear: Rows, bias: Tensor | None = None) -> Tensor:
        gate, up = (None, None) if bias is None else bias.chunk(2, dim=-1)
        if up is not None and up.dim() > 1:
            return linear(x, gate, "gelu") * linear(x, up, part=1)
        return linear.combine(x, linear(x, gate, "gelu"), "mul", part=1, bias=up)


def _keys_values(y: Tensor) -> Tensor:
    """[batch, tokens, 2 * kv_heads, head_dim] -> [batch, 2, kv_heads, tokens, head_dim]."""
    return y.unflatten(2, (2, -1)).permute(0, 2, 3, 1, 4)


@cache
def _constant(value: float) -> Tensor:
    return torch.tensor(value)


def _interleave(linear: Linear, heads: int, head_dim: int) -> None:
    """Bring the halves of the first heads' columns side by side."""
    half = torch.arange(head_dim).view(2, -1).t().flatten()
    order = torch.arange(linear.weight.shape[1])
    order[: heads * head_dim] = (torch.arange(heads)[:, None] * head_dim + half).flatten()
    # Rows of [out, in] are contiguous in memory: that axis is reordered, and read back as a view.
    replace(linear, "weight", linear.weight.detach().t()[order].t())
