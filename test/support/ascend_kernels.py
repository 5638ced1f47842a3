"""The operators of torch_npu that the model uses, on the CPU, written from their documents.

What a document forbids is refused. Arithmetic is in float64: these are references. `OPERATORS` can
stand for `torch.ops.npu` where torch_npu is not installed; test/npu registers the same functions
for the real schemas.
"""

from types import SimpleNamespace

import torch
from torch import Tensor


def rms_norm(x: Tensor, gamma: Tensor, epsilon: float = 1e-6) -> tuple[Tensor, Tensor]:
    assert gamma.dtype == x.dtype, "gamma must have the dtype of x"
    wide = x.double()
    reciprocal = 1 / torch.sqrt((wide * wide).mean(-1, keepdim=True) + epsilon)
    return (wide * reciprocal * gamma.double()).to(x.dtype), reciprocal.float()


def add_rms_norm(
    x1: Tensor, x2: Tensor, gamma: Tensor, epsilon: float = 1e-6
) -> tuple[Tensor, Tensor, Tensor]:
    total = x1 + x2
    return *rms_norm(total, gamma, epsilon), total


def rotary_mul(
    x: Tensor, r1: Tensor, r2: Tensor, rotary_mode: str = "half", rotate: Tensor | None = None
) -> Tensor:
    assert rotate is None
    assert r1.dtype == r2.dtype == x.dtype, "one dtype"
    batch, tokens, heads, size = x.shape
    tables = [(rows, tokens, 1, size) for rows in (1, batch)] + [(batch, tokens, heads, size)]
    assert r1.shape == r2.shape and tuple(r1.shape) in tables, "table shape"
    wide = x.double()
    rotated = torch.empty_like(wide)
    if rotary_mode == "half":
        half = size // 2
        rotated[..., :half], rotated[..., half:] = -wide[..., half:], wide[..., :half]
    else:
        assert rotary_mode == "interleave"
        rotated[..., 0::2], rotated[..., 1::2] = -wide[..., 1::2], wide[..., 0::2]
    return (r1.double() * wide + r2.double() * rotated).to(x.dtype)


def geglu(
    x: Tensor, dim: int = -1, approximate: int = 1, activate_left: bool = False
) -> tuple[Tensor, Tensor]:
    assert approximate == 1, "tanh only"
    left, right = x.double().chunk(2, dim)
    gate, value = (left, right) if activate_left else (right, left)
    cubic = (2 / torch.pi) ** 0.5 * (gate + 0.044715 * gate**3)
    gelu = 0.5 * gate * (1 + torch.tanh(cubic))
    return (gelu * value).to(x.dtype), gelu.to(x.dtype)


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    heads: int,
    key_heads: int,
    scale: float,
    layout: str,
    pre_tokens: int,
    next_tokens: int,
) -> Tensor:
    assert layout == "BSND"
    batch, queries, n, size = query.shape
    assert all(t.is_contiguous() for t in (query, key, value)), "contiguous"
    assert query.dtype == key.dtype == value.dtype and key.shape == value.shape
    assert n == heads and key.shape[2] == (key_heads or heads) and size % 16 == 0
    keys = key.shape[1]
    banned = torch.zeros(1, 1, queries, keys, dtype=torch.bool)
    if mask is not None:
        assert mask.is_contiguous() and mask.dtype in (torch.bool, torch.int8, torch.uint8)
        rows = (batch,) if queries == 1 else (1, batch)
        assert mask.shape[0] in rows and tuple(mask.shape[1:3]) == (1, queries)
        assert mask.shape[3] in (keys, keys + -keys % 32), "as many columns as keys, or 32 bytes"
        banned = mask[..., :keys].bool()
        if queries > 1:  # with one query, the band is ignored
            ahead = torch.arange(keys)[None] - torch.arange(queries)[:, None]
            banned = banned | (ahead > next_tokens) | (-ahead > pre_tokens)
    assert not banned.all(-1).any(), "a query without a key is not supported"
    out = torch.empty(query.shape, dtype=torch.float64)
    for head in range(heads):
        shared = head * key.shape[2] // heads
        scores = query[:, :, head].double() @ key[:, :, shared].double().mT * scale
        scores = scores.masked_fill(banned[:, 0], -torch.inf)
        out[:, :, head] = torch.softmax(scores, -1) @ value[:, :, shared].double()
    return out.to(query.dtype)


def prompt_flash_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    padding_mask: None = None,
    atten_mask: Tensor | None = None,
    pse_shift: None = None,
    actual_seq_lengths: None = None,
    deq_scale1: None = None,
    quant_scale1: None = None,
    deq_scale2: None = None,
    quant_scale2: None = None,
    quant_offset2: None = None,
    num_heads: int = 1,
    scale_value: float = 1.0,
    pre_tokens: int = 2147483647,
    next_tokens: int = 0,
    input_layout: str = "BSH",
    num_key_value_heads: int = 0,
    actual_seq_lengths_kv: None = None,
    sparse_mode: int = 0,
) -> Tensor:
    assert sparse_mode == 0
    return attention(
        query,
        key,
        value,
        atten_mask,
        num_heads,
        num_key_value_heads,
        scale_value,
        input_layout,
        pre_tokens,
        next_tokens,
    )


def fused_infer_attention_score(
    query: Tensor, key: Tensor, value: Tensor, **given: object
) -> tuple[Tensor, Tensor]:
    known = {"atten_mask", "num_heads", "num_key_value_heads", "scale", "input_layout"}
    known |= {"pre_tokens", "next_tokens", "key_shared_prefix", "value_shared_prefix"}
    assert not {k for k, v in given.items() if v is not None} - known, "not covered here"
    shared = given.get("key_shared_prefix"), given.get("value_shared_prefix")
    assert (shared[0] is None) == (shared[1] is None)
    if shared[0] is not None:
        assert query.shape[1] > 1, "a shared prefix is documented for several queries"
        assert shared[0].shape[0] == shared[1].shape[0] == 1
        assert shared[0].is_contiguous() and shared[1].is_contiguous()
        key, value = (
            torch.cat((prefix.expand(key.shape[0], -1, -1, -1), own), 1)
            for prefix, own in zip(shared, (key, value), strict=True)
        )
    out = attention(
        query,
        key,
        value,
        given.get("atten_mask"),
        given.get("num_heads", 1),
        given.get("num_key_value_heads", 0),
        given.get("scale", 1.0),
        given.get("input_layout", "BSH"),
        given.get("pre_tokens", 2147483647),
        given.get("next_tokens", 2147483647),
    )
    return out, torch.zeros(1)


def dynamic_quant(x: Tensor) -> tuple[Tensor, Tensor]:
    assert x.dtype in (torch.float16, torch.bfloat16) and x.dim() > 1, "half floats, two axes"
    return _rows(x.double())


def _rows(wide: Tensor) -> tuple[Tensor, Tensor]:
    largest = wide.abs().max(-1, keepdim=True).values
    scale = torch.where(largest == 0, 1.0, largest / 127)
    return torch.round(wide / scale).to(torch.int8), scale[..., 0].float()


def add_rms_norm_dynamic_quant(
    x1: Tensor,
    x2: Tensor,
    gamma: Tensor,
    *,
    smooth_scale1: None = None,
    smooth_scale2: None = None,
    beta: None = None,
    epsilon: float = 1e-6,
    output_mask: tuple[bool, bool] | None = None,
    y_dtype: None = None,
) -> tuple[Tensor, ...]:
    """The norm is not rounded on its way to int8."""
    assert list(output_mask or ()) == [True, False], "one output"
    assert x1.dtype == x2.dtype == gamma.dtype and gamma.dtype != torch.float32, "half floats"
    total = x1 + x2
    wide = total.double()
    normed = wide / torch.sqrt((wide * wide).mean(-1, keepdim=True) + epsilon) * gamma.double()
    values, scale = _rows(normed)
    return values, values.new_empty(0), total, scale, scale.new_empty(0)


def quant_matmul(
    x1: Tensor,
    x2: Tensor,
    scale: Tensor,
    *,
    pertoken_scale: Tensor,
    bias: Tensor | None = None,
    output_dtype: int,
    **given: object,
) -> Tensor:
    assert not any(value is not None for value in given.values()), "not covered here"
    assert x1.dtype == x2.dtype == torch.int8 and max(x1.shape[-1], x2.shape[-1]) <= 65535
    assert scale.dtype in (torch.float32, torch.bfloat16) and scale.shape == x2.shape[1:]
    assert pertoken_scale.dtype == torch.float32 and pertoken_scale.shape == x1.shape[:1]
    assert output_dtype in (15, torch.bfloat16), "bfloat16 here; float32 there is not"
    out = (x1.double() @ x2.double()) * pertoken_scale.double()[:, None] * scale.double()
    if bias is not None:
        assert bias.shape == scale.shape and bias.dtype in (torch.bfloat16, torch.float32)
        out = out + bias.double()
    return out.to(torch.bfloat16)


OPERATORS = SimpleNamespace(
    npu_rms_norm=rms_norm,
    npu_add_rms_norm=add_rms_norm,
    npu_rotary_mul=rotary_mul,
    npu_geglu=geglu,
    npu_prompt_flash_attention=prompt_flash_attention,
    npu_fused_infer_attention_score=fused_infer_attention_score,
    npu_dynamic_quant=dynamic_quant,
    npu_add_rms_norm_dynamic_quant=add_rms_norm_dynamic_quant,
    npu_quant_matmul=quant_matmul,
)
