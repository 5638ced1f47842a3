"""The operators of pi0 on a CPU, fused by oneDNN, which PyTorch brings for its own compiler.

`prepare` rearranges a loaded model for them, in place; from then on the model infers with them and
cannot be trained or traced. What a prepared model computes is what `ops.reference` computes,
with fewer roundings: oneDNN adds residuals and applies GELU before a product is rounded.

Three things make it fast. GELU, gating and residual sums happen inside of the products. The
weights of the action expert, which products of 50 rows read ten times per inference, are kept in
the blocks that oneDNN works on, so that it does not lay them out anew each time. And pairs of
elements that rotary embedding turns lie side by side, so that turning is one complex product.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from pi0_ros.model.gemma import GemmaLayer
    from pi0_ros.model.linear import Linear
    from pi0_ros.model.pi0 import Pi0

_OPERATORS = ("_linear_pointwise", "_reorder_linear_weight", "_is_mkldnn_bf16_supported")


@cache
def supported(dtype: torch.dtype) -> bool:
    """Whether this CPU and this PyTorch have the kernels for a dtype."""
    if not torch.backends.mkldnn.is_available():
        return False
    # PyTorch's own compiler uses them, but no documentation promises them.
    if not all(hasattr(torch.ops.mkldnn, name) for name in _OPERATORS):
        return False
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype == torch.float32


def prepare(model: "Pi0") -> "Pi0":
    """Rearrange a loaded model for the functions of this module, in place.

    * Every product gets its weight as [out, in] rows, `Linear.rows`: a view of the weight, except
      for the expert's layers, whose weights are replaced by packed ones.
    * Queries and keys are reordered within each head, so that the elements i and i + head_dim / 2,
      which `ops.rotary` turns together, become 2 i and 2 i + 1. Scores do not depend on the order.
    * Norm factors are multiplied by sqrt(width), since `rms_norm` divides by a sum, not a mean.

    A model without support for its dtype stays as it is; a second call changes nothing.
    """
    if model.is_prepared or not supported(model.prefix_last_kv.weight.dtype):
        return model
    c = model.config
    for stack in (model.prefix, model.expert):
        stack.norm = _frozen(stack.norm * math.sqrt(stack.norm.numel()))
        for layer in stack.layers:
            _interleave(layer.qkv, c.heads + c.kv_heads, c.head_dim)
            for name in ("attention_norm", "mlp_norm"):
                gamma = getattr(layer, name)
                setattr(layer, name, _frozen(gamma * math.sqrt(gamma.numel())))
    _interleave(model.prefix_last_kv, c.kv_heads, c.head_dim)
    for name, linear in model.named_modules():
        if hasattr(linear, "rows"):
            parts = 2 if name.endswith("gate_up") else 1
            linear.rows = linear.weight.detach().t().chunk(parts)
            if name.startswith("expert."):
                _pack(linear, c.horizon)
    model.is_prepared = True
    return model


def linear(x: Tensor, rows: Tensor, bias: Tensor | None, activation: str = "none") -> Tensor:
    """activation(x @ rows^T + bias), rounded once.

    Args:
        x: [..., in] float32 or bfloat16.
        rows: [out, in] in the dtype of x, dense or packed.
        bias: None or [out].
        activation: `none`, or `gelu`, by its tanh formula.
    """
    formula = "tanh" if activation == "gelu" else ""
    return torch.ops.mkldnn._linear_pointwise(x, rows, bias, activation, [], formula)


def linear_plus(x: Tensor, rows: Tensor, bias: Tensor | None, residual: Tensor) -> Tensor:
    """x @ rows^T + bias + residual, rounded once; see `linear`."""
    return torch.ops.mkldnn._linear_pointwise.binary(x, residual, rows, bias, "add")


def geglu(x: Tensor, gate: Tensor, up: Tensor) -> Tensor:
    """gelu_tanh(x @ gate^T) * (x @ up^T); see `linear` and `ops.geglu`."""
    gate = linear(x, gate, None, "gelu")
    return torch.ops.mkldnn._linear_pointwise.binary(x, gate, up, None, "mul")


def rms_norm(x: Tensor, gamma: Tensor, out: Tensor | None = None, eps: float = 1e-6) -> Tensor:
    """`ops.rms_norm` with a factor that holds another sqrt(width); see `prepare`.

    Args:
        out: takes the result, in the shape and dtype of x; by default memory of its own.
    """
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
    norm = torch.hypot(norm, _constant(math.sqrt(x.shape[-1] * eps)))
    if out is None:
        return torch.div(x, norm).mul_(gamma).to(x.dtype)
    return torch.mul(torch.div(x, norm), gamma, out=out)


def turn(cos: Tensor, sin: Tensor) -> tuple[Tensor]:
    """The tables of `ops.rotary` as one, see `turned`."""
    half = cos.shape[-1] // 2
    return (torch.complex(cos[..., :half].contiguous(), sin[..., :half].contiguous()),)


def turned(x: Tensor, table: Tensor, heads: int) -> Tensor:
    """float32 copy of x, its first heads turned by rotary position embedding.

    Args:
        x: [batch, tokens, heads or more, head_dim], pairs side by side; overwritten if float32.
        table: complex64 [1 or batch, tokens, 1, head_dim / 2], cos + i sin of the angles.
    """
    y = x.float()
    torch.view_as_complex(y[:, :, :heads].unflatten(-1, (-1, 2))).mul_(table)
    return y


def queries_keys_values(layer: "GemmaLayer", x: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
    """Normed [batch, tokens, width] -> queries; keys and values as one.

    Returns:
        [batch, tokens, heads, head_dim] and [batch, tokens, 2, kv_heads, head_dim].
    """
    y = layer.qkv(x).unflatten(-1, (-1, layer.head_dim))
    y = turned(y, table, layer.heads + layer.kv_heads)
    q = y[:, :, : layer.heads].to(x.dtype, copy=True, memory_format=torch.contiguous_format)
    return q, y[:, :, layer.heads :].to(x.dtype).unflatten(2, (2, layer.kv_heads))


def attention(q: Tensor, keys_values: Tensor, masked: Tensor | None, scale: float) -> Tensor:
    """`ops.attention` with keys and values as one; q is dense.

    Args:
        keys_values: [batch, keys, 2, kv_heads, head_dim].
    """
    batch, queries, heads, _ = q.shape
    k, v = (t.transpose(1, 2) for t in keys_values.unbind(2))
    group = heads // k.shape[1]
    # Heads that share keys become rows of one matrix, so that keys are not repeated per head.
    rows = q.unflatten(2, (-1, group)).transpose(1, 2).flatten(2, 3)
    allowed = None
    if masked is not None:
        allowed = ~masked.expand(batch, 1, queries, -1).repeat_interleave(group, dim=2)
    out = F.scaled_dot_product_attention(rows, k, v, attn_mask=allowed, scale=scale)
    return out.unflatten(2, (queries, group)).transpose(1, 2).reshape(q.shape)


@cache
def _constant(value: float) -> Tensor:
    return torch.tensor(value)


def _frozen(value: Tensor) -> nn.Parameter:
    return nn.Parameter(value.detach(), requires_grad=False)


def _interleave(linear: "Linear", heads: int, head_dim: int) -> None:
    """Bring the halves of the first heads' columns side by side."""
    half = torch.arange(head_dim).view(2, -1).t().flatten()
    order = torch.arange(linear.weight.shape[1])
    turned = torch.arange(heads)[:, None] * head_dim + half
    order[: heads * head_dim] = turned.flatten()
    # Rows of [out, in] are contiguous in memory: that axis is reordered, and read back as a view.
    linear.weight = _frozen(linear.weight.detach().t()[order].t())


def _pack(linear: "Linear", tokens: int) -> None:
    """Replace the weight by its packed rows, for products of so many tokens."""
    pack: Callable[..., Tensor] = torch.ops.mkldnn._reorder_linear_weight
    linear.rows = tuple(pack(part.contiguous(), tokens) for part in linear.rows)
    linear.weight = None
