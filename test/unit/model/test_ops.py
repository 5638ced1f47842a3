"""The reference operators against other people's code and against the formula."""

import pytest
import torch
import torch.nn.functional as F
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm, apply_rotary_pos_emb

from pi0_ros.model.config import TINY
from pi0_ros.model.linear import Linear
from pi0_ros.model.ops.reference import Reference

OPS = Reference()
HEAD_DIM = TINY.head_dim


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def identity(width: int) -> Linear:
    """A product that gives back its input."""
    linear = Linear(width, width)
    linear.weight.data = torch.eye(width)
    return linear.requires_grad_(False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rms_norm_is_gemmas(dtype: torch.dtype) -> None:
    x, w = (3 * rand(2, 5, 64)).to(dtype), 0.3 * rand(64, seed=1)
    theirs = GemmaRMSNorm(64, eps=1e-6)
    theirs.weight.data = w
    torch.testing.assert_close(OPS.rms_norm(x, 1 + w), theirs(x).detach(), rtol=1e-6, atol=1e-6)


def test_linear_add_rms_norm_returns_norm_and_sum() -> None:
    x, residual, gain = rand(2, 5, 64), rand(2, 5, 64, seed=1), 1 + rand(64, seed=2)
    normed, total = OPS.linear_add_rms_norm(x, identity(64), residual, gain)
    torch.testing.assert_close(total, x + residual)
    torch.testing.assert_close(normed, OPS.rms_norm(x + residual, gain))


def test_rope_is_gemmas() -> None:
    x, positions = rand(2, 7, 3, HEAD_DIM), torch.tensor([0, 1, 5, 63, 64, 300, 610])
    inverse = 1.0 / 10000 ** (torch.arange(0, HEAD_DIM, 2).float() / HEAD_DIM)
    angles = positions[:, None] * inverse
    angles = torch.cat((angles, angles), -1)[None]
    expected, _ = apply_rotary_pos_emb(x, x, angles.cos(), angles.sin(), unsqueeze_dim=2)
    rope = OPS.rope_tables(positions[None], TINY, torch.float32)
    q, (k, v) = OPS.qkv(x.flatten(2), identity(3 * HEAD_DIM), 1, 1, rope)
    torch.testing.assert_close(torch.cat((q, k), 2), expected[:, :, :2], rtol=1e-5, atol=1e-5)
    assert torch.equal(v, x[:, :, 2:])


def test_rope_keeps_the_dtype_and_computes_in_float32() -> None:
    rope = OPS.rope_tables(torch.arange(600, 604)[None], TINY, torch.bfloat16)
    x, linear = rand(1, 4, 3 * HEAD_DIM).bfloat16(), identity(3 * HEAD_DIM)
    wide, _ = OPS.qkv(x.float(), linear, 1, 1, rope)
    got, _ = OPS.qkv(x, linear.bfloat16(), 1, 1, rope)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.float(), wide, rtol=0, atol=2e-2)


def naive_attention(q, k, v, mask, scale):
    """One query at a time, one head at a time, as the formula reads."""
    out = torch.empty_like(q)
    group = q.shape[2] // k.shape[2]
    for b in range(q.shape[0]):
        for s in range(q.shape[1]):
            for h in range(q.shape[2]):
                scores = (k[b, :, h // group] @ q[b, s, h]) * scale
                if mask is not None:
                    scores = scores.masked_fill(mask[b, 0, s], float("-inf"))
                out[b, s, h] = torch.softmax(scores, 0) @ v[b, :, h // group]
    return out


@pytest.mark.parametrize("heads,kv_heads", [(4, 4), (4, 1), (6, 2)])
@pytest.mark.parametrize("past_keys", [0, 9])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_the_formula(heads: int, kv_heads: int, past_keys: int, masked: bool) -> None:
    q = 3 * rand(2, 5, heads, 16)
    kv = rand(2, 5, kv_heads, 16, seed=1), rand(2, 5, kv_heads, 16, seed=2)
    past = rand(2, past_keys, kv_heads, 16, seed=3), rand(2, past_keys, kv_heads, 16, seed=5)
    k, v = (torch.cat(pair, 1) for pair in zip(past, kv, strict=True))
    mask = ours = None
    if masked:
        mask = rand(2, 1, 5, past_keys + 5, seed=4) > 0.5
        mask[..., 0] = False
        ours = OPS.attention_mask(mask, heads // kv_heads, torch.float32)
    expected = naive_attention(q, k, v, mask, 0.25)
    got = OPS.attention(q, kv, ours, 0.25, past if past_keys else None)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_attention_masks_out_where_the_mask_is_true() -> None:
    q, k, v = rand(1, 1, 1, 8), rand(1, 2, 1, 8, seed=1), rand(1, 2, 1, 8, seed=2)
    only_second = OPS.attention_mask(torch.tensor([[[[True, False]]]]), 1, torch.float32)
    torch.testing.assert_close(OPS.attention(q, (k, v), only_second, 1.0), v[:, 1:])


def test_geglu_gates_with_the_first_half() -> None:
    gate, up = rand(3, 8), rand(3, 8, seed=1)
    expected = F.gelu(gate, approximate="tanh") * up
    torch.testing.assert_close(OPS.geglu(torch.cat((gate, up), -1), identity(16)), expected)


def test_a_bias_of_its_own_takes_the_place_of_the_layers() -> None:
    linear = Linear(3, 2, bias=True).requires_grad_(False)
    linear.weight.data, linear.bias.data = rand(3, 2), rand(2, seed=1)
    x, other = rand(4, 5, 3), rand(4, 1, 2, seed=2)
    product = x @ linear.weight
    torch.testing.assert_close(linear(x), product + linear.bias)
    torch.testing.assert_close(linear(x, other[0, 0]), product + other[0, 0])
    torch.testing.assert_close(linear(x, other), product + other)
