"""Attention as a Triton kernel: over past and own keys, with flags of the keys instead of a mask.

See `triton_kernels`.
"""

from functools import cache
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import triton_op, wrap_triton

_LOG2_E = 1.4426950408889634


@triton.jit
def _attend(
    query,
    keys,
    values,
    hidden,
    begin,
    end,
    stride,
    is_first,
    peak,
    weight,
    gathered,
    hidden_row,
    scale,
    MASKED: tl.constexpr,
    DIM: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """Online softmax (Milakov and Gimelshein 2018) of a block of rows over keys begin to end."""
    dims = tl.arange(0, DIM)
    for start in range(begin, end, BLOCK_N):
        number = start + tl.arange(0, BLOCK_N)
        inside = number < end
        key = tl.load(keys + number[None, :] * stride + dims[:, None], inside[None, :], 0.0)
        value = tl.load(values + number[:, None] * stride + dims[None, :], inside[:, None], 0.0)
        score = tl.dot(query, key, input_precision="ieee") * scale
        visible = inside[None, :]
        if MASKED:
            of_first = tl.load(hidden + number, inside, 1)
            of_rest = tl.load(hidden + hidden_row + number, inside, 1)
            visible = tl.where(is_first[:, None], of_first[None, :] == 0, of_rest[None, :] == 0)
        score = tl.where(visible, score, float("-inf"))
        new_peak = tl.maximum(peak, tl.max(score, 1))
        # A row that has seen no key yet has no peak to subtract.
        base = tl.where(new_peak == float("-inf"), 0.0, new_peak)
        shrink = tl.exp2(peak - base)
        part = tl.exp2(score - base[:, None])
        weight = weight * shrink + tl.sum(part, 1)
        gathered = gathered * shrink[:, None]
        gathered = tl.dot(part.to(value.dtype), value, gathered, input_precision="ieee")
        peak = new_peak
    return peak, weight, gathered


@triton.jit
def _attention_kernel(
    q,
    k,
    v,
    past_k,
    past_v,
    hidden,
    out,
    weights,
    scale,
    queries,
    own,
    past,
    hidden_stride,
    GROUP: tl.constexpr,
    KV_HEADS: tl.constexpr,
    DIM: tl.constexpr,
    MASKED: tl.constexpr,
    SPLIT: tl.constexpr,
    CHUNK: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """A program for each block of rows, chunk of keys, and key head of each batch row.

    A row is a query and a head of the group that shares a key head, so that a block multiplies as
    matrices do. Keys are numbered through the past and the own ones; a chunk may have both.
    """
    row = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    chunk, batch_head = tl.program_id(1), tl.program_id(2)
    batch, kv_head = batch_head // KV_HEADS, batch_head % KV_HEADS
    dims = tl.arange(0, DIM)
    present = row < queries * GROUP
    query_number = row // GROUP
    head = kv_head * GROUP + row % GROUP
    place = ((batch * queries + query_number) * KV_HEADS * GROUP + head) * DIM
    query = tl.load(q + place[:, None] + dims[None, :], present[:, None], 0.0)
    peak = tl.full([BLOCK_M], float("-inf"), tl.float32)
    weight = tl.zeros([BLOCK_M], tl.float32)
    gathered = tl.zeros([BLOCK_M, DIM], tl.float32)
    is_first = query_number == 0
    stride = KV_HEADS * DIM
    hidden += batch * hidden_stride
    begin, end = chunk * CHUNK, tl.minimum(chunk * CHUNK + CHUNK, past + own)
    peak, weight, gathered = _attend(
        query,
        past_k + (batch * past * KV_HEADS + kv_head) * DIM,
        past_v + (batch * past * KV_HEADS + kv_head) * DIM,
        hidden,
        begin,
        tl.minimum(end, past),
        stride,
        is_first,
        peak,
        weight,
        gathered,
        past + own,
        scale,
        MASKED,
        DIM,
        BLOCK_N,
    )
    peak, weight, gathered = _attend(
        query,
        k + (batch * own * KV_HEADS + kv_head) * DIM,
        v + (batch * own * KV_HEADS + kv_head) * DIM,
        hidden + past,
        tl.maximum(begin - past, 0),
        tl.maximum(end - past, 0),
        stride,
        is_first,
        peak,
        weight,
        gathered,
        past + own,
        scale,
        MASKED,
        DIM,
        BLOCK_N,
    )
    weight = tl.where(weight == 0.0, 1.0, weight)  # a row that saw no key: its peak is -inf
    gathered = gathered / weight[:, None]
    if SPLIT:
        rows = queries * GROUP
        part = (chunk * tl.num_programs(2) + batch_head) * rows + row
        # log2 of the part's sum of exponentials
        tl.store(weights + part, peak + tl.log2(weight), present)
        tl.store(out + part[:, None] * DIM + dims[None, :], gathered, present[:, None])
    else:
        tl.store(
            out + place[:, None] + dims[None, :],
            gathered.to(out.dtype.element_ty),
            present[:, None],
        )


@triton.jit
def _merge_kernel(
    parts,
    weights,
    out,
    queries,
    chunks,
    GROUP: tl.constexpr,
    KV_HEADS: tl.constexpr,
    DIM: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A program for each row and key head: the results of its chunks, by their weights."""
    row, batch_head = tl.program_id(0), tl.program_id(1)
    chunk, dims = tl.arange(0, BLOCK), tl.arange(0, DIM)
    known = chunk < chunks
    part = (chunk * tl.num_programs(1) + batch_head) * queries * GROUP + row
    weight = tl.load(weights + part, known, float("-inf"))
    weight = tl.exp2(weight - tl.max(weight, 0))
    found = tl.load(parts + part[:, None] * DIM + dims[None, :], known[:, None], 0.0)
    merged = tl.sum(found * weight[:, None], 0) / tl.sum(weight, 0)
    batch, kv_head = batch_head // KV_HEADS, batch_head % KV_HEADS
    head = kv_head * GROUP + row % GROUP
    place = ((batch * queries + row // GROUP) * KV_HEADS * GROUP + head) * DIM
    tl.store(out + place + dims, merged.to(out.dtype.element_ty))


class Tiles(NamedTuple):
    """How attention is cut: rows and keys of a block, warps, and tiles that are loaded ahead."""

    rows: int
    keys: int
    warps: int
    stages: int


LARGE, SMALL, FULL = Tiles(64, 32, 4, 3), Tiles(32, 64, 4, 2), Tiles(16, 32, 4, 1)
"""For 16-bit numbers where a program may have 160 KiB of shared memory (128 KiB of it are used),
where it may have 99 KiB (84 KiB), and for float32."""


@cache
def _gpu(index: int | None) -> tuple[int, int]:
    """Multiprocessors, and bytes of shared memory for a program; without it an H100's."""
    if index is None or not torch.cuda.is_available():
        return 132, 232_448
    of = torch.cuda.get_device_properties(index)
    return of.multi_processor_count, of.shared_memory_per_block_optin


def tiles(dtype: torch.dtype, index: int | None) -> Tiles:
    """The tiles for a GPU; none were measured, all were compiled."""
    if dtype.itemsize > 2:
        return FULL
    return LARGE if _gpu(index)[1] >= 160 * 1024 else SMALL


@triton_op("pi0_ros::attention", mutates_args=())
def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    past_k: Tensor | None,
    past_v: Tensor | None,
    hidden: Tensor | None,
    scale: float,
) -> Tensor:
    """softmax(scale * q k^T) v over past and own keys, which are not joined.

    Args:
        q: [batch, queries, heads, head_dim], head_dim a power of two.
        k, v: [batch, own keys, kv_heads, head_dim].
        past_k, past_v: [batch, past keys, kv_heads, head_dim].
        hidden: bool [1 or batch, 2, past + own keys], True = masked out: for the first query, and
            for all others.
    """
    q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    past = 0 if past_k is None else past_k.shape[1]
    past_k = k if past_k is None else past_k.contiguous()
    past_v = v if past_v is None else past_v.contiguous()
    batch, queries, heads, size = q.shape
    own, kv_heads = k.shape[1], k.shape[2]
    group, keys = heads // kv_heads, past + own
    cut = tiles(q.dtype, q.device.index)
    blocks, pairs = triton.cdiv(queries * group, cut.rows), batch * kv_heads
    # Few blocks of rows leave multiprocessors idle: then chunks of the keys go to them.
    wanted = min(triton.cdiv(keys, cut.keys), max(1, _gpu(q.device.index)[0] // (blocks * pairs)))
    chunk = triton.cdiv(triton.cdiv(keys, wanted), cut.keys) * cut.keys
    chunks = triton.cdiv(keys, chunk)
    out = torch.empty_like(q)
    parts = weights = out
    if chunks > 1:
        parts = q.new_empty(chunks, pairs, queries * group, size, dtype=torch.float32)
        weights = q.new_empty(chunks, pairs, queries * group, dtype=torch.float32)
    masked = hidden is not None
    flags = hidden.contiguous().view(torch.uint8) if hidden is not None else k
    wrap_triton(_attention_kernel)[(blocks, chunks, pairs)](
        q,
        k,
        v,
        past_k,
        past_v,
        flags,
        parts,
        weights,
        scale * _LOG2_E,
        queries,
        own,
        past,
        2 * keys if masked and flags.shape[0] > 1 else 0,
        GROUP=group,
        KV_HEADS=kv_heads,
        DIM=size,
        MASKED=masked,
        SPLIT=chunks > 1,
        CHUNK=chunk,
        BLOCK_M=cut.rows,
        BLOCK_N=cut.keys,
        num_warps=cut.warps,
        num_stages=cut.stages,
    )
    if chunks > 1:
        wrap_triton(_merge_kernel)[(queries * group, pairs)](
            parts,
            weights,
            out,
            queries,
            chunks,
            GROUP=group,
            KV_HEADS=kv_heads,
            DIM=size,
            BLOCK=triton.next_power_of_2(chunks),
            num_warps=4,
        )
    return out
