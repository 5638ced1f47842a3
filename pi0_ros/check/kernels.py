"""Each kernel of a backend, at the model's real shapes, against float32 on the CPU.

Kernels are called through the operators that the layers are written in, on modules that the backend
has prepared, in pieces whose inputs and outputs have one form on all backends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from pi0_ros.check.runner import Result, Row
from pi0_ros.check.subject import Subject, cosine, slice_of
from pi0_ros.checkpoint.random import random_checkpoint
from pi0_ros.model.ops import Ops
from pi0_ros.model.ops.reference import Reference
from pi0_ros.model.pi0 import Layout, Pi0

# Largest difference as a share of the largest value, and least cosine. In bfloat16 a value has
# eight bits, and a piece rounds a few times.
TOLERANCE = {torch.float32: (1e-4, 0.9999999), torch.bfloat16: (2.0**-6, 0.9999)}
MASKED_OUT = 7
"""So many of the prompt's last tokens are padding."""


@dataclass(frozen=True)
class Bench:
    """A model of one layer of each kind on one backend.

    Attributes:
        rounded: dtype of the device that is checked, to which all inputs are rounded.
    """

    model: Pi0
    cameras: int
    rounded: torch.dtype

    @property
    def ops(self) -> Ops:
        return self.model.ops

    @property
    def prefix_tokens(self) -> int:
        c = self.model.config
        return self.cameras * c.tokens_per_image + c.prompt_length

    @property
    def suffix_tokens(self) -> int:
        c = self.model.config
        return c.horizon + (not c.pi05)

    def layout(self) -> Layout:
        valid = torch.ones(1, self.prefix_tokens, dtype=torch.bool, device=self.model.device)
        valid[:, -MASKED_OUT:] = False
        return self.model.layout(valid, always_masked=True)

    @torch.inference_mode()
    def compute(self, piece: Piece) -> Tensor:
        """A piece's result, on the host in float32."""
        generator = torch.Generator().manual_seed(0)

        def draw(*shape: int) -> Tensor:
            numbers = torch.randn(shape, generator=generator).to(self.rounded)
            return numbers.to(self.model.device, self.model.dtype)

        return piece(self, draw).float().cpu()


Draw = Callable[..., Tensor]
"""Standard normal numbers of a shape: the same on all backends."""

Piece = Callable[[Bench, Draw], Tensor]


def _vision_attention(b: Bench, draw: Draw) -> Tensor:
    c, layer = b.model.config, b.model.vision.layers[0]
    x = draw(b.cameras, c.tokens_per_image, c.vision_width)
    q, kv = b.ops.qkv(x, layer.qkv, c.vision_heads, c.vision_heads)
    return b.ops.linear_add(b.ops.attention(q, kv, None, layer.scale).flatten(2), layer.out, x)


def _vision_mlp(b: Bench, draw: Draw) -> Tensor:
    c, layer = b.model.config, b.model.vision.layers[0]
    x = draw(b.cameras, c.tokens_per_image, c.vision_width)
    return b.ops.linear_add(b.ops.linear_gelu(x, layer.up), layer.down, x)


def _prefix_attention(b: Bench, draw: Draw) -> Tensor:
    c, layout = b.model.config, b.layout()
    x = draw(1, b.prefix_tokens, c.prefix_width)
    qkv = b.model.prefix.layers[0].qkv
    q, kv = b.ops.qkv(x, qkv, c.heads, c.kv_heads, layout.prefix_rope)
    out = b.ops.attention(q, kv, layout.prefix_mask, c.head_dim**-0.5)
    # What padding attends to does not matter.
    return out.flatten(2)[:, :-MASKED_OUT]


def _suffix_attention(b: Bench, draw: Draw) -> Tensor:
    c, layout = b.model.config, b.layout()
    prefix = draw(1, b.prefix_tokens, c.prefix_width)
    _, past = b.ops.qkv(prefix, b.model.prefix_last_kv, 0, c.kv_heads, layout.prefix_rope)
    x = draw(1, b.suffix_tokens, c.expert_width)
    qkv = b.model.expert.layers[0].qkv
    q, kv = b.ops.qkv(x, qkv, c.heads, c.kv_heads, layout.suffix_rope)
    return b.ops.attention(q, kv, layout.suffix_mask, c.head_dim**-0.5, past).flatten(2)


def _gemma_piece(stack: str, part: str) -> Piece:
    def piece(b: Bench, draw: Draw) -> Tensor:
        c, layer = b.model.config, getattr(b.model, stack).layers[0]
        prefix = stack == "prefix"
        tokens, width = (
            (b.prefix_tokens, c.prefix_width) if prefix else (b.suffix_tokens, c.expert_width)
        )
        x = draw(1, tokens, width)
        gate = None
        if prefix or not c.pi05:
            gain = layer.mlp_norm
        else:
            gain, gate = b.ops.gain(draw(width).float()).to(b.model.dtype), draw(width)
        if part == "norm":
            return b.ops.rms_norm(x, gain)
        if part == "geglu":
            return b.ops.geglu(x, layer.gate_up)
        attended = draw(1, tokens, c.heads * c.head_dim)
        pair = b.ops.linear_add_rms_norm(attended, layer.out, x, gain, gate)
        return torch.stack(pair)

    return piece


PIECES: dict[str, Piece] = {
    "suffix attention on prefix": _suffix_attention,
    "prefix attention, RoPE": _prefix_attention,
    "vision attention": _vision_attention,
    "vision MLP": _vision_mlp,
    "prefix norm": _gemma_piece("prefix", "norm"),
    "prefix product, sum, norm": _gemma_piece("prefix", "sum"),
    "prefix GeGLU": _gemma_piece("prefix", "geglu"),
    "suffix norm": _gemma_piece("expert", "norm"),
    "suffix product, sum, norm": _gemma_piece("expert", "sum"),
    "suffix GeGLU": _gemma_piece("expert", "geglu"),
}


def kernel_rows(subject: Subject, ops: Ops, suffix: str = "") -> Iterator[Row]:
    """A row per piece of the model.

    Args:
        suffix: behind each row's name, where several backends are tried.
    """

    @cache
    def bench() -> Bench:
        return make_bench(subject, ops, subject.dtype, subject.device)

    for name, piece in PIECES.items():

        def measure(left: float, piece: Piece = piece) -> Result:
            expected = make_reference(subject).compute(piece)
            return compare(bench().compute(piece), expected, subject.dtype)

        yield Row("kernels", name + suffix, measure, seconds=5)


@cache
def make_reference(subject: Subject) -> Bench:
    """The pieces in float32 on the CPU."""
    return make_bench(subject, Reference(), torch.float32, torch.device("cpu"))


def make_bench(subject: Subject, ops: Ops, dtype: torch.dtype, device: torch.device) -> Bench:
    """The pieces on a backend; weights are random, and rounded to the device's dtype everywhere."""
    weights = random_checkpoint(slice_of(subject.config), dtype=subject.dtype)
    return Bench(weights.load_model(dtype, device, ops), subject.cameras, subject.dtype)


def compare(got: Tensor, expected: Tensor, dtype: torch.dtype) -> Result:
    """Whether a kernel is right; both on the host in float32."""
    difference, largest = (got - expected).abs().max().item(), expected.abs().max().item()
    share, alike = difference / largest, cosine(got, expected)
    most, least = TOLERANCE[dtype]
    return Result(
        f"cosine {alike:.7f}, largest difference {difference:.1e} ({share:.1e} of the range)",
        {"largest_difference": difference, "largest_value": largest, "cosine": alike},
        # A difference that is not a number is not at most anything.
        share <= most and alike >= least,
    )
