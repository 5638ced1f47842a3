"""The fused operators of pi0, each a plain function on tensors.

Every function states what it computes in plain PyTorch and checks its own arguments, because fused
kernels accept wrong shapes silently. On an Ascend NPU it calls the fused kernel instead (`npu`),
which asks for norm factors and rotary tables in the dtype of the activations. All of them trace
into one graph: no data-dependent control flow, no change of an argument, no float64.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from pi0_ros.model.ops import ascend as npu

KeysValues = tuple[Tensor, ...]
"""Keys and values of one layer, each [batch, tokens, kv_heads, head_dim]; or both as one tensor
[batch, tokens, 2, kv_heads, head_dim], see `cpu.attention`."""


def on_npu(x: Tensor) -> bool:
    """Whether the fused kernels of Ascend compute with x."""
    return x.device.type == "npu"


def rms_norm(x: Tensor, gamma: Tensor, eps: float = 1e-6) -> Tensor:
    """x / rms(x) * gamma over the last axis, computed in float32.

    Args:
        x: [..., width] float32 or bfloat16.
        gamma: [width] float32. Gemma stores `w` and multiplies by `1 + w`: that sum is made when a
            checkpoint is loaded, and stays float32 because bfloat16 would round it.

    Returns:
        [..., width] in the dtype of x.
    """
    if on_npu(x):
        return npu.rms_norm(x, gamma, eps)
    if gamma.shape != x.shape[-1:] or gamma.dtype != torch.float32:
        raise ValueError(
            f"rms_norm: gamma must be float32 [{x.shape[-1]}], got {gamma.dtype} "
            f"{list(gamma.shape)}"
        )
    return F.rms_norm(x.float(), gamma.shape, gamma, eps).to(x.dtype)


def add_rms_norm(
    x: Tensor, residual: Tensor, gamma: Tensor, eps: float = 1e-6
) -> tuple[Tensor, Tensor]:
    """The end of one block and the beginning of the next: (rms_norm(x + residual), x + residual).

    Args:
        x, residual: [..., width], same shape and dtype.
        gamma: [width] float32, see `rms_norm`.
    """
    if x.shape != residual.shape or x.dtype != residual.dtype:
        raise ValueError(
            f"add_rms_norm: x and residual must agree, got {x.dtype} {list(x.shape)} and "
            f"{residual.dtype} {list(residual.shape)}"
        )
    if on_npu(x):
        return npu.add_rms_norm(x, residual, gamma, eps)
    total = x + residual
    return rms_norm(total, gamma, eps), total


def rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding in the half-split layout of Gemma, computed in float32.

    Element i and element i + head_dim / 2 of a head form a pair that is turned by the position's
    angle i (Su et al. 2021, "RoFormer"; layout of `transformers` Gemma and openpi).

    Args:
        x: [batch, tokens, heads, head_dim].
        cos, sin: [1 or batch, tokens, 1 or heads, head_dim] float32, both halves alike;
            `rotary_table`. With a row per head, heads may be turned differently, or not at all.

    Returns:
        [batch, tokens, heads, head_dim] in the dtype of x.
    """
    batch, tokens, heads, head_dim = x.shape
    for name, table in (("cos", cos), ("sin", sin)):
        if (
            table.dim() != 4
            or table.shape[0] not in (1, batch)
            or table.shape[2] not in (1, heads)
            or (table.shape[1], table.shape[3]) != (tokens, head_dim)
        ):
            raise ValueError(
                f"rotary: {name} must be [1 or {batch}, {tokens}, 1 or {heads}, {head_dim}], got "
                f"{list(table.shape)}"
            )
    if on_npu(x):
        return npu.rotary(x, cos, sin)
    if cos.dtype != torch.float32 or sin.dtype != torch.float32:
        raise ValueError(f"rotary: cos and sin must be float32, got {cos.dtype} and {sin.dtype}")
    first, second = x.chunk(2, dim=-1)
    turned = torch.cat((-second, first), dim=-1)
    return (x * cos + turned * sin).to(x.dtype)


def rotary_table(positions: int, head_dim: int, device: torch.device | None = None) -> Tensor:
    """[2, positions, head_dim] float32: cos and sin of position * 10000^(-2i / head_dim).

    Kept in float32: rounding the frequencies to bfloat16, as some ports do, turns the pairs of
    position 610 by up to 0.85 rad.
    """
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32, device=device) / head_dim
    angles = torch.arange(positions, dtype=torch.float32, device=device)[:, None] * torch.pow(
        10000.0, -exponents
    )
    angles = torch.cat((angles, angles), dim=-1)
    return torch.stack((angles.cos(), angles.sin()))


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    masked: Tensor | None,
    scale: float,
    context: KeysValues | None = None,
) -> Tensor:
    """softmax(scale * q k^T) v, the softmax in float32, with grouped heads and a shared context.

    With a `context`, queries attend to the context's keys followed by their own. The two sets are
    never joined in memory: the context is constant over the denoise steps.

    Args:
        q: [batch, queries, heads, head_dim].
        k, v: [batch, keys, kv_heads, head_dim]; heads is a multiple of kv_heads.
        masked: None, or bool [1 or batch, 1, 1 or queries, context keys + keys]; True = masked
            OUT (the convention of Ascend's fused kernels, the inverse of PyTorch's). At least one
            key of every query must be free.
        scale: factor of the scores, 1 / sqrt(head_dim) for pi0.
        context: None, or keys and values [batch, context keys, kv_heads, head_dim].

    Returns:
        [batch, queries, heads, head_dim] in the dtype of q.
    """
    _check_attention(q, k, v, masked, context)
    if on_npu(q):
        return npu.attention(q, k, v, masked, scale, context)
    batch, queries, heads, head_dim = q.shape
    kv_heads = k.shape[2]
    if context is None and heads == kv_heads:
        allowed = None if masked is None else ~masked
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed, scale=scale)
        return out.transpose(1, 2)

    # Heads that share keys become rows of one matrix, so that keys are not repeated per head.
    group = heads // kv_heads
    rows = (q * scale).view(batch, queries, kv_heads, group, head_dim)
    rows = rows.permute(0, 2, 3, 1, 4).reshape(batch, kv_heads, group * queries, head_dim)
    sets = [(k, v)] if context is None else [context, (k, v)]
    scores = [rows @ keys.permute(0, 2, 3, 1) for keys, _ in sets]
    joined = scores[0] if len(scores) == 1 else torch.cat(scores, dim=-1)
    if masked is not None:
        joined = joined.view(batch, kv_heads, group, queries, -1)
        joined = joined.masked_fill(masked[:, :, None], float("-inf")).flatten(2, 3)
    weights = torch.softmax(joined, dim=-1, dtype=torch.float32).to(q.dtype)
    parts = weights.split([score.shape[-1] for score in scores], dim=-1)
    out = parts[0] @ sets[0][1].transpose(1, 2)
    for part, (_, values) in zip(parts[1:], sets[1:], strict=True):
        out = out + part @ values.transpose(1, 2)
    out = out.view(batch, kv_heads, group, queries, head_dim)
    return out.permute(0, 3, 1, 2, 4).reshape(batch, queries, heads, head_dim)


def geglu(x: Tensor) -> Tensor:
    """gelu_tanh(gate) * up for x = [gate | up] (Shazeer 2020, "GLU Variants").

    Args:
        x: [..., 2 * hidden], the gate first.

    Returns:
        [..., hidden].
    """
    if x.shape[-1] % 2:
        raise ValueError(f"geglu: the last axis must hold gate and up, got {list(x.shape)}")
    if on_npu(x):
        return npu.geglu(x)
    gate, up = x.chunk(2, dim=-1)
    return F.gelu(gate, approximate="tanh") * up


def _check_attention(
    q: Tensor, k: Tensor, v: Tensor, masked: Tensor | None, context: KeysValues | None
) -> None:
    batch, queries, heads, head_dim = q.shape
    named = {"k": k, "v": v}
    if context is not None:
        named |= {"context k": context[0], "context v": context[1]}
    for name, t in named.items():
        if (
            t.dim() != 4
            or t.shape[0] != batch
            or t.shape[2:] != k.shape[2:]
            or t.shape[3] != head_dim
            or t.dtype != q.dtype
        ):
            raise ValueError(
                f"attention: {name} must be {q.dtype} [{batch}, keys, {k.shape[2]}, {head_dim}], "
                f"got {t.dtype} {list(t.shape)}"
            )
    keys = k.shape[1]
    if v.shape[1] != keys or (context is not None and context[0].shape != context[1].shape):
        raise ValueError("attention: keys and values must have the same number of tokens")
    if heads % k.shape[2]:
        raise ValueError(f"attention: {heads} heads cannot share {k.shape[2]} key heads")
    if masked is None:
        return
    total = keys + (0 if context is None else context[0].shape[1])
    if (
        masked.dtype != torch.bool
        or masked.dim() != 4
        or masked.shape[0] not in (1, batch)
        or masked.shape[1] != 1
        or masked.shape[2] not in (1, queries)
        or masked.shape[3] != total
    ):
        raise ValueError(
            f"attention: masked must be bool [1 or {batch}, 1, 1 or {queries}, {total}], got "
            f"{masked.dtype} {list(masked.shape)}"
        )
