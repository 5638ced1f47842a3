"""The operators against other people's code, and their refusals of wrong arguments."""

import pytest
import torch
import torch.nn.functional as F
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm, apply_rotary_pos_emb

from pi0_ros.model.ops.reference import (
    add_rms_norm,
    attention,
    geglu,
    rms_norm,
    rotary,
    rotary_table,
)


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rms_norm_is_gemmas(dtype: torch.dtype) -> None:
    x, w = (3 * rand(2, 5, 64)).to(dtype), 0.3 * rand(64, seed=1)
    theirs = GemmaRMSNorm(64, eps=1e-6)
    theirs.weight.data = w
    torch.testing.assert_close(rms_norm(x, 1 + w), theirs(x).detach(), rtol=1e-6, atol=1e-6)


def test_add_rms_norm_returns_norm_and_sum() -> None:
    x, residual, gamma = rand(2, 5, 64), rand(2, 5, 64, seed=1), 1 + rand(64, seed=2)
    normed, total = add_rms_norm(x, residual, gamma)
    torch.testing.assert_close(total, x + residual)
    torch.testing.assert_close(normed, rms_norm(x + residual, gamma))


def test_rotary_is_gemmas() -> None:
    x, positions = rand(2, 7, 3, 16), torch.tensor([0, 1, 5, 63, 64, 300, 610])
    inverse = 1.0 / 10000 ** (torch.arange(0, 16, 2).float() / 16)
    angles = positions[:, None] * inverse
    angles = torch.cat((angles, angles), -1)[None]
    expected, _ = apply_rotary_pos_emb(x, x, angles.cos(), angles.sin(), unsqueeze_dim=2)
    cos, sin = rotary_table(611, 16)[:, positions][:, None, :, None]
    torch.testing.assert_close(rotary(x, cos, sin), expected, rtol=1e-5, atol=1e-5)


def test_rotary_keeps_the_dtype_and_computes_in_float32() -> None:
    x = rand(1, 4, 2, 16)
    cos, sin = rotary_table(700, 16)[:, 600:604][:, None, :, None]
    out = rotary(x.bfloat16(), cos, sin)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(
        out.float(), rotary(x.bfloat16().float(), cos, sin), rtol=0, atol=2e-2
    )


def naive_attention(q, k, v, masked, scale):
    """One query at a time, one head at a time, as the formula reads."""
    out = torch.empty_like(q)
    group = q.shape[2] // k.shape[2]
    for b in range(q.shape[0]):
        for s in range(q.shape[1]):
            for h in range(q.shape[2]):
                scores = (k[b, :, h // group] @ q[b, s, h]) * scale
                if masked is not None:
                    row = masked.expand(q.shape[0], 1, q.shape[1], -1)[b, 0, s]
                    scores = scores.masked_fill(row, float("-inf"))
                out[b, s, h] = torch.softmax(scores, 0) @ v[b, :, h // group]
    return out


@pytest.mark.parametrize("heads,kv_heads", [(4, 4), (4, 1), (6, 2)])
@pytest.mark.parametrize("context_keys", [0, 9])
@pytest.mark.parametrize("mask", ["none", "keys", "pairs"])
def test_attention_is_the_formula(heads: int, kv_heads: int, context_keys: int, mask: str) -> None:
    q = 3 * rand(2, 5, heads, 16)
    k, v = rand(2, 5, kv_heads, 16, seed=1), rand(2, 5, kv_heads, 16, seed=2)
    context = None
    all_k, all_v = k, v
    if context_keys:
        context = rand(2, context_keys, kv_heads, 16, seed=3), rand(2, context_keys, kv_heads, 16)
        all_k, all_v = torch.cat((context[0], k), 1), torch.cat((context[1], v), 1)
    total = context_keys + 5
    masked = {
        "none": None,
        "keys": rand(2, 1, 1, total, seed=4) > 0.5,
        "pairs": rand(2, 1, 5, total, seed=4) > 0.5,
    }[mask]
    if masked is not None:
        masked[..., 0] = False
    expected = naive_attention(q, all_k, all_v, masked, 0.25)
    got = attention(q, k, v, masked, 0.25, context)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_attention_masks_out_where_the_mask_is_true() -> None:
    q, k, v = rand(1, 1, 1, 8), rand(1, 2, 1, 8, seed=1), rand(1, 2, 1, 8, seed=2)
    only_second = torch.tensor([True, False])[None, None, None]
    torch.testing.assert_close(attention(q, k, v, only_second, 1.0), v[:, 1:])


def test_geglu_gates_with_the_first_half() -> None:
    gate, up = rand(3, 8), rand(3, 8, seed=1)
    expected = F.gelu(gate, approximate="tanh") * up
    torch.testing.assert_close(geglu(torch.cat((gate, up), -1)), expected)


K = rand(1, 5, 1, 16)
WRONG = {
    "gamma of another width": lambda: rms_norm(rand(1, 64), rand(32)),
    "gamma in bfloat16": lambda: rms_norm(rand(1, 64), rand(64).bfloat16()),
    "residual of another shape": lambda: add_rms_norm(rand(1, 64), rand(2, 64), rand(64)),
    "residual of another dtype": lambda: add_rms_norm(rand(1, 8), rand(1, 8).bfloat16(), rand(8)),
    "table of other positions": lambda: rotary(rand(1, 5, 1, 16), *rotary_table(4, 16)),
    "half tables": lambda: rotary(rand(1, 5, 1, 16), rand(1, 5, 1, 8), rand(1, 5, 1, 8)),
    "bfloat16 tables": lambda: rotary(K, *(rand(1, 5, 1, 16).bfloat16(),) * 2),
    "keys of another head_dim": lambda: attention(rand(1, 5, 1, 8), K, K, None, 1.0),
    "values shorter than keys": lambda: attention(K, K, K[:, :4], None, 1.0),
    "float mask": lambda: attention(K, K, K, torch.zeros(1, 1, 1, 5), 1.0),
    "mask without the context": lambda: attention(
        K, K, K, torch.zeros(1, 1, 1, 5, dtype=torch.bool), 1.0, (K, K)
    ),
    "heads that do not divide": lambda: attention(
        rand(1, 5, 3, 16), rand(1, 5, 2, 16), rand(1, 5, 2, 16), None, 1.0
    ),
    "context of another dtype": lambda: attention(K, K, K, None, 1.0, (K.bfloat16(),) * 2),
    "odd width": lambda: geglu(rand(2, 7)),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_arguments_are_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"(rms_norm|rotary|attention|geglu): "):
        WRONG[wrong]()
