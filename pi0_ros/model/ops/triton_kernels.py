"""Triton kernels for what lies between the products of pi0, as operators of torch; attention is in
`triton_attention`.

Each is a `triton_op`: a compiler sees into it, a capture and an eager call launch it. Sizes decide
the launch, no value does, and nothing waits for the device. Sums, exponentials and rotations are
float32, and a result is rounded once. Tensors are dense; the operators make them so.

Nothing here ran on a GPU: the tests run the kernels in Triton's interpreter and compile them for
GPUs that are not there.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import triton_op, wrap_triton

# ---- a residual sum and its norm -----------------------------------------------------------------


@triton.jit
def _add_rms_norm_kernel(
    y, residual, gate, gain, normed, total, width, eps, GATED: tl.constexpr, BLOCK: tl.constexpr
):
    """A program for each row."""
    columns = tl.arange(0, BLOCK)
    inside = columns < width
    at = tl.program_id(0) * width + columns
    row = tl.load(y + at, inside, 0.0).to(tl.float32)
    if GATED:
        row *= tl.load(gate + columns, inside, 0.0).to(tl.float32)
    row += tl.load(residual + at, inside, 0.0).to(tl.float32)
    rounded = row.to(total.dtype.element_ty)
    tl.store(total + at, rounded, inside)
    row = rounded.to(tl.float32)  # the norm is that of the stream as the next block reads it
    mean = tl.sum(row * row, 0) / width
    row *= tl.rsqrt(mean + eps) * tl.load(gain + columns, inside, 0.0).to(tl.float32)
    tl.store(normed + at, row.to(normed.dtype.element_ty), inside)


@triton_op("pi0_ros::add_rms_norm", mutates_args=())
def add_rms_norm(
    y: Tensor, residual: Tensor, gain: Tensor, gate: Tensor | None, eps: float
) -> tuple[Tensor, Tensor]:
    """(rms_norm(total, gain), total) with total = residual + gate * y.

    Args:
        y, residual: [..., width].
        gain, gate: [width].
    """
    y, residual = y.contiguous(), residual.contiguous()
    normed, total = torch.empty_like(residual), torch.empty_like(residual)
    width = y.shape[-1]
    block = triton.next_power_of_2(width)
    wrap_triton(_add_rms_norm_kernel)[(y.numel() // width,)](
        y,
        residual,
        gain if gate is None else gate,
        gain,
        normed,
        total,
        width,
        eps,
        GATED=gate is not None,
        BLOCK=block,
        num_warps=max(1, min(8, block // 256)),
    )
    return normed, total


# ---- queries, keys and values of one product, rotated --------------------------------------------


@triton.jit
def _split_rope_kernel(
    qkv,
    cos,
    sin,
    q,
    k,
    v,
    table_rows,
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    HALF: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A program for each head of each token; heads are those of queries, keys, values."""
    token, head = tl.program_id(0), tl.program_id(1)
    pairs = tl.arange(0, BLOCK)
    inside = pairs < HALF
    source = qkv + (token * (HEADS + 2 * KV_HEADS) + head) * 2 * HALF + pairs
    first = tl.load(source, inside, 0.0).to(tl.float32)
    second = tl.load(source + HALF, inside, 0.0).to(tl.float32)
    if head < HEADS + KV_HEADS:
        # Both halves of a row of the tables are alike.
        angle = (token % table_rows) * 2 * HALF + pairs
        c, s = tl.load(cos + angle, inside, 0.0), tl.load(sin + angle, inside, 0.0)
        rotated = first * c - second * s
        second = second * c + first * s
        first = rotated
    if head < HEADS:
        target = q + (token * HEADS + head) * 2 * HALF + pairs
    elif head < HEADS + KV_HEADS:
        target = k + (token * KV_HEADS + head - HEADS) * 2 * HALF + pairs
    else:
        target = v + (token * KV_HEADS + head - HEADS - KV_HEADS) * 2 * HALF + pairs
    tl.store(target, first.to(v.dtype.element_ty), inside)
    tl.store(target + HALF, second.to(v.dtype.element_ty), inside)


@triton_op("pi0_ros::split_rope", mutates_args=())
def split_rope(
    qkv: Tensor, cos: Tensor, sin: Tensor, heads: int, kv_heads: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values [batch, tokens, heads or kv_heads, head_dim] each.

    Args:
        qkv: [batch, tokens, (heads + 2 * kv_heads) * head_dim].
        cos, sin: [1 or batch, tokens, 1, head_dim] float32.
    """
    qkv, cos, sin = qkv.contiguous(), cos.contiguous(), sin.contiguous()
    batch, tokens, size = qkv.shape[0], qkv.shape[1], cos.shape[-1]
    q, k, v = (qkv.new_empty(batch, tokens, n, size) for n in (heads, kv_heads, kv_heads))
    wrap_triton(_split_rope_kernel)[(batch * tokens, heads + 2 * kv_heads)](
        qkv,
        cos,
        sin,
        q,
        k,
        v,
        cos.shape[0] * cos.shape[1],
        HEADS=heads,
        KV_HEADS=kv_heads,
        HALF=size // 2,
        BLOCK=triton.next_power_of_2(size // 2),
        num_warps=1,
    )
    return q, k, v


# ---- the gate of a feed-forward layer ------------------------------------------------------------


@triton.jit
def _geglu_kernel(x, out, width, BLOCK: tl.constexpr):
    """A program for each part of each row."""
    row = tl.program_id(0)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < width
    gate = tl.load(x + row * 2 * width + columns, inside, 0.0).to(tl.float32)
    up = tl.load(x + row * 2 * width + width + columns, inside, 0.0).to(tl.float32)
    # tanh(z) is 2 sigmoid(2 z) - 1, and 2 sqrt(2 / pi) is 1.5957...
    gelu = gate * tl.sigmoid(1.5957691216057308 * (gate + 0.044715 * gate * gate * gate))
    tl.store(out + row * width + columns, (gelu * up).to(out.dtype.element_ty), inside)


@triton_op("pi0_ros::geglu", mutates_args=())
def geglu(x: Tensor) -> Tensor:
    """[..., 2 * width] of [gate | up] -> gelu(gate) * up, by the tanh formula."""
    x = x.contiguous()
    width = x.shape[-1] // 2
    out = x.new_empty(*x.shape[:-1], width)
    block = min(1024, triton.next_power_of_2(width))
    wrap_triton(_geglu_kernel)[(out.numel() // width, triton.cdiv(width, block))](
        x, out, width, BLOCK=block, num_warps=4
    )
    return out
