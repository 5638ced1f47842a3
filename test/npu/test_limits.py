"""What the operators' documents forbid is refused before any kernel is called.

None of this needs torch_npu: a call that gets past the checks fails on the missing operator.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pi0_ros.model.config import TINY
from pi0_ros.model.ops import ascend as npu
from pi0_ros.model.pi0 import Pi0


def half(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.bfloat16)


def attend(
    heads: int = 4,
    kv_heads: int = 1,
    head_dim: int = 32,
    batch: int = 1,
    queries: int = 5,
    dtype: torch.dtype = torch.bfloat16,
    mask: Tensor | None = None,
    context: tuple[Tensor, Tensor] | None = None,
) -> None:
    q = torch.zeros(batch, queries, heads, head_dim, dtype=dtype)
    k = torch.zeros(batch, queries, kv_heads, head_dim, dtype=dtype)
    npu.attention(q, k, k, mask, 1.0, context)


def mask(*shape: int, dtype: torch.dtype = torch.bool) -> Tensor:
    return torch.zeros(shape, dtype=dtype)


def turn(x: Tensor, dtype: torch.dtype = torch.bfloat16) -> None:
    table = torch.zeros(1, x.shape[1], 1, x.shape[3], dtype=dtype)
    npu.rotary(x, table, table)


SHARED = (half(1, 3, 1, 32), half(1, 3, 1, 32))
LIMITS: dict[str, tuple[Callable[[], object], str]] = {
    "norm in float64": (lambda: npu.rms_norm(half(1, 8).double(), half(8), 1e-6), "float64"),
    "gamma in float32": (lambda: npu.rms_norm(half(1, 8), torch.ones(8), 1e-6), "npu.prepare"),
    "gamma of another width": (
        lambda: npu.add_rms_norm(half(1, 8), half(1, 8), half(4), 1e-6),
        r"bfloat16 \[8\], got torch.bfloat16 \[4\]",
    ),
    "rotary of an odd head": (lambda: turn(half(1, 5, 2, 15)), "even and < 896, got 15"),
    "rotary of a wide head": (lambda: turn(half(1, 5, 2, 896)), "even and < 896, got 896"),
    "rotary of many heads": (lambda: turn(half(1, 1, 1000, 2)), "< 1000"),
    "rotary of a large batch": (lambda: turn(half(1000, 1, 1, 2)), "< 1000"),
    "rotary in float64": (lambda: turn(half(1, 5, 2, 16).double()), "float64"),
    "tables in float32": (lambda: turn(half(1, 5, 2, 16), torch.float32), "cos must be"),
    "geglu in int8": (lambda: npu.geglu(half(1, 8).to(torch.int8)), "int8"),
    "attention in float32": (lambda: attend(dtype=torch.float32), "float16 or bfloat16"),
    "head_dim beyond 512": (lambda: attend(head_dim=528), "at most 512"),
    "head_dim of 72": (lambda: attend(head_dim=72), "multiple of 16, got 72"),
    "more than 64 heads per key head": (lambda: attend(heads=65), "64 of them"),
    "more than 256 heads": (lambda: attend(heads=257, kv_heads=257), "at most 256 heads"),
    "a wide row": (lambda: attend(heads=256, kv_heads=256, head_dim=256), "< 65535"),
    "a large batch": (lambda: attend(batch=65537, queries=1, heads=1, head_dim=16), "65536"),
    "mask broadcast over queries": (lambda: attend(mask=mask(1, 1, 1, 5)), r"1, 5, 5\], got"),
    "mask of one row for a batch": (
        lambda: attend(batch=2, queries=1, mask=mask(1, 1, 1, 1)),
        r"must be \[2, 1, 1, 1\], got \[1, 1, 1, 1\]",
    ),
    "mask without the context": (
        lambda: attend(mask=mask(1, 1, 5, 5), context=SHARED),
        r"1, 5, 8\], got",
    ),
    "mask in bfloat16": (lambda: attend(mask=half(1, 1, 5, 5)), "must be bool"),
    "mask in strides": (lambda: attend(mask=mask(1, 1, 5, 5).mT), "masked must be contiguous"),
    "context in strides": (
        lambda: attend(context=(half(1, 6, 1, 32)[:, ::2], SHARED[1])),
        "context k must be contiguous",
    ),
    "unknown kernel": (lambda: npu.configure(attention="sdpa"), "fia.*pfa.*got 'sdpa'"),
}


@pytest.fixture(autouse=True)
def default_settings() -> Iterator[None]:
    npu.configure()
    yield
    npu.configure()


@pytest.mark.parametrize("limit", LIMITS)
def test_is_refused(limit: str) -> None:
    call, message = LIMITS[limit]
    with pytest.raises(ValueError, match=message):
        call()


def test_the_models_own_calls_are_not_refused() -> None:
    """They get as far as the operator, which is not there."""
    allowed: list[Callable[[], object]] = [
        lambda: npu.rms_norm(half(1, 8), half(8), 1e-6),
        lambda: npu.add_rms_norm(half(1, 8), half(1, 8), half(8), 1e-6),
        lambda: turn(half(1, 5, 2, 16)),
        lambda: npu.geglu(half(1, 8)),
        lambda: attend(heads=8, head_dim=256, mask=mask(1, 1, 5, 5)),
        lambda: attend(heads=16, kv_heads=16, head_dim=80, batch=2),
        lambda: attend(queries=1, mask=mask(1, 1, 1, 1)),
        lambda: attend(context=SHARED, mask=mask(1, 1, 5, 8)),
    ]
    for call in allowed:
        with pytest.raises(AttributeError, match="npu_"):
            call()


def test_prepare_pads_the_heads_of_the_vision_tower() -> None:
    model = Pi0(replace(TINY, vision_width=48, depth=2)).requires_grad_(False)
    for parameter in model.parameters():
        parameter.normal_()
    before = copy.deepcopy(model)
    npu.prepare(model)
    old, new = before.vision.layers[0], model.vision.layers[0]
    x = torch.randn(3, 48, generator=torch.Generator().manual_seed(0))
    expected = old.qkv(x).view(3, 3, 4, 12)
    got = new.qkv(x).view(3, 3, 4, 16)
    torch.testing.assert_close(got[..., :12], expected)
    assert not got[..., 12:].any()
    values = torch.nn.functional.pad(expected[:, 2], (0, 4)).flatten(1)
    torch.testing.assert_close(new.out(values), old.out(expected[:, 2].flatten(1)))
    assert all(isinstance(p, torch.nn.Parameter) and not p.requires_grad for p in new.parameters())
    once = {name: p.clone() for name, p in model.named_parameters()}
    npu.prepare(model)
    assert all(torch.equal(p, once[name]) for name, p in model.named_parameters())


def test_prepare_brings_norm_factors_to_the_dtype_of_the_activations() -> None:
    model = Pi0(replace(TINY, depth=2)).to(torch.bfloat16)
    for stack in (model.prefix, model.expert):
        stack.norm.data = 1.0 + torch.rand(64)
        for layer in stack.layers:
            layer.attention_norm.data = torch.ones(64)
    npu.prepare(model)
    norms = [p for n, p in model.named_parameters() if n.endswith("norm")]
    assert norms and {p.dtype for p in norms} == {torch.bfloat16}
