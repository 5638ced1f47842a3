"""The operators of pi0 on Ascend: torch_npu's fused kernels, and their limits.

The limits are those of the operator documents of torch_npu 2.13 for Atlas A2 and A3. `prepare`
checks a model against them, because the operators' shape functions, which are all that a compiler
sees, let nearly everything pass.

Importing this module does not need torch_npu: whoever has tensors on an NPU has imported it.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pi0_ros.errors import UserError
from pi0_ros.model.config import Pi0Config
from pi0_ros.model.linear import Linear, replace
from pi0_ros.model.ops.reference import EPS, Reference
from pi0_ros.model.quantised import Int8Linear, Model, swap

Pair = tuple[Tensor, Tensor]

DTYPES = (torch.float16, torch.bfloat16)
ATTENTION_KERNELS = ("fia", "pfa")
ROTARY_FORMS = ("per-head", "broadcast")
PRECISIONS = ("full", "int8")
HEAD_DIM_MULTIPLE = 16
MASK_MULTIPLE = 32
"""Bytes, of which a row of a mask should have a multiple, says the documentation, for speed."""

ALL_TOKENS = 2**31 - 1
"""The width of the band around the diagonal that attention kernels keep: no band."""
_FRACTAL_NZ = 29


class AscendError(UserError, ValueError):
    """A model cannot run on an NPU; the message lists everything that is beyond its kernels."""


@dataclass(frozen=True)
class Ascend(Reference):
    """Tables and gains have the activations' dtype.

    Attributes:
        attention_kernel: `fia`, npu_fused_infer_attention_score, which reads a shared past where
            it lies; or `pfa`, npu_prompt_flash_attention, for which past and keys are joined.
        dense_views: whether a slice of a tensor is dense in memory, as in a GE graph, whose
            tensors have no strides. Otherwise slices are copied for kernels that take dense ones.
        weights_nz: keep the weights of the largest products in blocks (FRACTAL_NZ): those whose
            time is the reading of weights. Smaller ones are said to become slower.
        rotary: what RoPE tables are. `per-head`: a row per head of a fused projection, [1 or
            batch, tokens * heads, 1, head_dim]; those of queries and keys are alike, values are
            rotated by an angle of zero, so one kernel rotates a projection before it is split.
            `broadcast`: [1 or batch, tokens, 1, head_dim], which the kernel broadcasts over the
            heads of queries and keys: one split more per layer. Huawei's published pi0 has this
            form; of the other its documents do not say clearly that the kernel takes it.
        padded_masks: make masks wider than there are keys, to a multiple of `MASK_MULTIPLE` bytes.
        precision: of the products of vision and prefix, see `pi0_ros.model.quantised`.
    """

    attention_kernel: str = "fia"
    dense_views: bool = False
    weights_nz: bool = False
    rotary: str = "per-head"
    padded_masks: bool = False
    precision: str = "full"

    def __post_init__(self) -> None:
        for name, value, known in (
            ("attention", self.attention_kernel, ATTENTION_KERNELS),
            ("rotary", self.rotary, ROTARY_FORMS),
            ("precision on an NPU", self.precision, PRECISIONS),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")

    def prepare(self, model: Model) -> Model:
        """Cast gains to the model's dtype, pad SigLIP's heads, lay out weights in blocks.

        The norm kernels want one dtype: in bfloat16 this rounds `1 + w` once, as every output of
        the norm is rounded anyway. Attention kernels want heads of a multiple of 16 elements:
        SigLIP's 72 are padded with zeros to 80. Zero elements of queries and keys add nothing to
        a score, zero elements of values meet zero rows of the output product.

        Parameters stay parameters, so that a compiler may freeze them.
        """
        m: Any = model
        check_limits(m.config, m.dtype)
        for stack in (m.prefix, m.expert):
            for name, gain in list(stack.named_parameters()):
                if name.endswith("norm"):
                    replace(stack, name, gain.to(m.dtype))
        if m.config.pi05:
            unit = nn.Parameter(m.action_out.weight.new_ones(m.config.expert_width), False)
            for layer in m.expert.layers:  # a constant in each of them would be made anew
                layer.out.unit_gain = layer.down.unit_gain = unit
        for layer in m.vision.layers:
            _pad_heads(layer, -(layer.out.weight.shape[0] // layer.heads) % HEAD_DIM_MULTIPLE)
        if self.precision == "int8":
            swap(model, lambda name, linear: NpuInt8Linear(linear))
        if self.weights_nz:
            large = [layer.down for layer in m.prefix.layers]
            large += [part for layer in m.vision.layers for part in (layer.up, layer.down)]
            for linear in large:
                cast = torch.ops.npu.npu_format_cast(linear.weight.detach(), _FRACTAL_NZ)
                replace(linear, "weight", cast)
        return model

    def rope_tables(self, positions: Tensor, config: Pi0Config, dtype: torch.dtype) -> Pair:
        cos, sin = super().rope_tables(positions, config, dtype)
        if self.rotary == "broadcast":
            return cos.to(dtype), sin.to(dtype)
        rotated, kept = config.heads + config.kv_heads, config.kv_heads

        def rows(table: Tensor, still: float) -> Tensor:
            values = torch.full_like(table, still).expand(-1, -1, kept, -1)
            table = torch.cat((table.expand(-1, -1, rotated, -1), values), dim=2)
            return table.to(dtype).flatten(1, 2)[:, :, None]

        return rows(cos, 1.0), rows(sin, 0.0)

    def attention_mask(self, mask: Tensor, group: int, dtype: torch.dtype) -> Tensor:
        missing = -mask.shape[-1] % MASK_MULTIPLE if self.padded_masks else 0
        return F.pad(mask, (0, missing), value=True) if missing else mask

    def qkv(
        self,
        x: Tensor,
        linear: Linear,
        heads: int,
        kv_heads: int,
        rope: Pair | None = None,
        bias: Tensor | None = None,
    ) -> tuple[Tensor, Pair]:
        y = linear(x, bias).unflatten(-1, (heads + 2 * kv_heads, -1))
        if rope is None:
            q, k, v = self._dense(*y.split((heads, kv_heads, kv_heads), dim=2))
        elif self.rotary == "broadcast":
            qk, v = self._dense(*y.split((heads + kv_heads, kv_heads), dim=2))
            qk = torch.ops.npu.npu_rotary_mul(qk, *rope, "half")
            q, k = self._dense(*qk.split((heads, kv_heads), dim=2)) if heads else (qk[:, :, :0], qk)
        elif heads:
            rotated = torch.ops.npu.npu_rotary_mul(y.flatten(1, 2)[:, :, None], *rope, "half")
            q, k, v = rotated.view(y.shape).split((heads, kv_heads, kv_heads), dim=2)
            q, k, v = self._dense(q, k, v)
        else:
            q = y[:, :, :0]
            k, v = self._dense(*y.split((kv_heads, kv_heads), dim=2))
            # The row of the first query head rotates keys as well.
            tables = (t.view(t.shape[0], y.shape[1], -1, y.shape[3])[:, :, :1] for t in rope)
            cos, sin = self._dense(*tables)
            k = torch.ops.npu.npu_rotary_mul(k, cos, sin, "half")
        return q, (k, v)

    def attention(
        self, q: Tensor, kv: Pair, mask: Tensor | None, scale: float, past: Pair | None = None
    ) -> Tensor:
        (k, v), shared = kv, (None, None)
        # FIA takes a shared past of one row for all.
        if past is not None and self.attention_kernel == "fia" and q.shape[0] == 1:
            shared = past
        elif past is not None:
            k, v = torch.cat((past[0], k), dim=1), torch.cat((past[1], v), dim=1)
        # Both kernels: the default of next_tokens is causal as soon as there is a mask, or may be.
        if self.attention_kernel == "pfa":
            return torch.ops.npu.npu_prompt_flash_attention(
                q,
                k,
                v,
                atten_mask=mask,
                num_heads=q.shape[2],
                num_key_value_heads=k.shape[2],
                scale_value=scale,
                input_layout="BSND",
                next_tokens=ALL_TOKENS,
            )
        return torch.ops.npu.npu_fused_infer_attention_score(
            q,
            k,
            v,
            atten_mask=mask,
            key_shared_prefix=shared[0],
            value_shared_prefix=shared[1],
            num_heads=q.shape[2],
            num_key_value_heads=k.shape[2],
            scale=scale,
            input_layout="BSND",
            next_tokens=ALL_TOKENS,
        )[0]

    def rms_norm(self, x: Tensor, gain: Tensor) -> Tensor:
        if gain.dim() > 1:  # tokens differ in time; the kernel takes one gain for all
            return torch.ops.npu.npu_rms_norm(x, x.new_ones(x.shape[-1]), EPS)[0] * gain
        return torch.ops.npu.npu_rms_norm(x, gain, EPS)[0]

    def linear_add_rms_norm(
        self,
        x: Tensor,
        linear: Linear,
        residual: Tensor,
        gain: Tensor,
        gate: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        y = linear(x) if gate is None else linear(x) * gate
        if gain.dim() > 1:  # see `rms_norm`
            normed, _, total = torch.ops.npu.npu_add_rms_norm(y, residual, linear.unit_gain, EPS)
            return normed * gain, total
        if isinstance(linear, NpuInt8Linear):  # what reads this norm is quantised as well
            rows, _, total, scale, _ = torch.ops.npu.npu_add_rms_norm_dynamic_quant(
                y, residual, gain, epsilon=EPS, output_mask=(True, False)
            )
            return Rows(rows, scale), total
        normed, _, total = torch.ops.npu.npu_add_rms_norm(y, residual, gain, EPS)
        return normed, total

    def geglu(self, x: Tensor, linear: Linear, bias: Tensor | None = None) -> Tensor:
        # Approximate (tanh) GELU, of the left half.
        return torch.ops.npu.npu_geglu(linear(x, bias), -1, 1, True)[0]

    def _dense(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tensors if self.dense_views else tuple(t.contiguous() for t in tensors)


class Rows(NamedTuple):
    """What a norm gives to products of int8.

    Attributes:
        values: int8 [batch, tokens, width].
        scale: float32 [batch, tokens]; times values it is the norm.
    """

    values: Tensor
    scale: Tensor


class NpuInt8Linear(Int8Linear):
    """By npu_quant_matmul; after npu_dynamic_quant, where a norm has not done that already."""

    def forward(self, x: Tensor | Rows, bias: Tensor | None = None) -> Tensor:
        bias = self.bias if bias is None else bias
        values, scale = x if isinstance(x, tuple) else torch.ops.npu.npu_dynamic_quant(x)
        # A scale per token is documented for one axis of tokens.
        out = torch.ops.npu.npu_quant_matmul(
            values.flatten(0, -2),
            self.weight,
            self.scale,
            pertoken_scale=scale.flatten(),
            bias=bias,
            output_dtype=self.dtype,
        )
        return out.unflatten(0, values.shape[:-1])


def check_limits(c: Pi0Config, dtype: torch.dtype) -> None:
    """Hold a model against the documented limits of the attention and RoPE kernels.

    Raises:
        AscendError: lists everything that is beyond them.
    """
    problems = []
    if dtype not in DTYPES:
        names = " or ".join(str(known).removeprefix("torch.") for known in DTYPES)
        problems.append(f"the kernels take {names}, got {dtype}: load the model with one")
    if c.head_dim > 512 or c.head_dim % HEAD_DIM_MULTIPLE:
        problems.append(
            f"head_dim must be at most 512 and a multiple of {HEAD_DIM_MULTIPLE}, got {c.head_dim}"
        )
    vision_dim = c.vision_width // c.vision_heads
    vision_dim += -vision_dim % HEAD_DIM_MULTIPLE
    for part, heads, kv_heads, size in (
        ("the experts", c.heads, c.kv_heads, c.head_dim),
        ("the vision tower", c.vision_heads, c.vision_heads, vision_dim),
    ):
        if heads > 256 or heads // kv_heads > 64 or heads * size >= 65535:
            problems.append(
                f"attention of {part}: at most 256 heads, 64 of them per key head, and heads * "
                f"head_dim < 65535, got {heads} heads, {kv_heads} key heads, head_dim {size}"
            )
    if problems:
        raise AscendError("the model cannot run on an NPU:\n  - " + "\n  - ".join(problems))


def _pad_heads(layer: Any, padding: int) -> None:
    """Widen every head of a layer of the vision tower by so many zeros."""
    if not padding:
        return
    heads = layer.heads
    for leaf in ("weight", "bias"):
        split = getattr(layer.qkv, leaf).unflatten(-1, (3, heads, -1))
        replace(layer.qkv, leaf, F.pad(split, (0, padding)).flatten(-3))
    rows = layer.out.weight.unflatten(0, (heads, -1))
    replace(layer.out, "weight", F.pad(rows, (0, 0, 0, padding)).flatten(0, 1))
