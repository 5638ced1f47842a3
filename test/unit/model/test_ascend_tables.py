"""The RoPE tables of the Ascend backend, and the kernel that takes them."""

import pytest
import torch
from support.ascend_kernels import OPERATORS

from pi0_ros.model.config import TINY
from pi0_ros.model.linear import Linear
from pi0_ros.model.ops.ascend import Ascend
from pi0_ros.model.ops.reference import Reference

F32 = torch.float32


@pytest.mark.parametrize("heads", [TINY.heads, 0])
@pytest.mark.parametrize("batch", [1, 2])
def test_a_row_per_head_rotates_a_fused_projection(
    monkeypatch: pytest.MonkeyPatch, batch: int, heads: int
) -> None:
    monkeypatch.setattr(torch.ops, "npu", OPERATORS, raising=False)
    generator = torch.Generator().manual_seed(1)
    positions = torch.randint(0, 600, (batch, 20), generator=generator)
    linear = Linear(TINY.prefix_width, (heads + 2 * TINY.kv_heads) * TINY.head_dim)
    linear.weight.data.normal_(generator=generator)
    x = torch.randn(batch, 20, TINY.prefix_width, generator=generator)
    results = []
    for ops in (Reference(), Ascend()):
        rope = ops.rope_tables(positions, TINY, F32)
        q, (k, v) = ops.qkv(x, linear, heads, TINY.kv_heads, rope)
        results.append((q, k, v))
    assert results[1][0].shape == (batch, 20, heads, TINY.head_dim)
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_values_are_not_rotated() -> None:
    cos, sin = Ascend().rope_tables(torch.arange(5)[None], TINY, F32)
    heads = TINY.heads + 2 * TINY.kv_heads
    assert cos.shape == sin.shape == (1, 5 * heads, 1, TINY.head_dim)
    values = slice(heads - TINY.kv_heads, None, heads)
    assert (cos[:, values] == 1).all() and (sin[:, values] == 0).all()
