"""The operators of pi0 on Ascend: torch_npu's fused kernels, and their limits.

Every function means the same as its namesake in `ops`. The limits are those of the operator
documents of torch_npu 2.13 for Atlas A2 and A3; they are checked here because the operators' shape
functions, which are all that a compiler sees, let nearly everything pass.

Importing this module does not need torch_npu: whoever has tensors on an NPU has imported it.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from pi0_ros.model.pi0 import Pi0

NORM_DTYPES = (torch.float16, torch.bfloat16, torch.float32)
ATTENTION_DTYPES = (torch.float16, torch.bfloat16)
ATTENTION_KERNELS = ("fia", "pfa")
HEAD_DIM_MULTIPLE = 16
_FRACTAL_NZ = 29
ALL_TOKENS = 2**31 - 1
"""The width of the band around the diagonal that attention kernels keep: no band."""


@dataclass
class Settings:
    """How the kernels are called, for all models of this process; read when a graph is traced.

    Attributes:
        attention: `fia`, npu_fused_infer_attention_score, which reads a shared context where it
            lies; or `pfa`, npu_prompt_flash_attention, for which context and keys are joined.
        dense_views: whether a slice of a tensor is dense in memory, as it is in a GE graph, whose
            tensors have no strides. Otherwise slices are copied for kernels that take dense ones.
    """

    attention: str = "fia"
    dense_views: bool = False


settings = Settings()


def configure(*, attention: str = "fia", dense_views: bool = False) -> None:
    """Change `settings`, before anything is compiled."""
    if attention not in ATTENTION_KERNELS:
        raise ValueError(f"attention must be one of {ATTENTION_KERNELS}, got {attention!r}")
    settings.attention, settings.dense_views = attention, dense_views


def prepare(model: "Pi0") -> "Pi0":
    """Give a loaded model the parameters that the kernels ask for, in place; on any device.

    * Norm factors take the dtype of the activations: the norm kernels want one dtype. In bfloat16
      this rounds `1 + w` once, as every output of the norm is rounded anyway.
    * SigLIP's heads are padded with zeros to a multiple of 16 elements (72 to 80), which attention
      kernels ask for in float16 and bfloat16. Zero elements of queries and keys add nothing to a
      score, zero elements of values meet zero rows of the output product.

    Parameters stay parameters, so that a compiler may freeze them. A second call changes nothing.
    """
    dtype = model.prefix_last_kv.weight.dtype
    for name, parameter in list(model.named_parameters()):
        if name.startswith(("prefix.", "expert.")) and name.endswith("norm"):
            _replace(model, name, parameter.to(dtype))
    for i, layer in enumerate(model.vision.layers):
        heads, size = layer.heads, layer.out.weight.shape[0] // layer.heads
        padding = -size % HEAD_DIM_MULTIPLE
        if not padding:
            continue
        name = f"vision.layers.{i}"
        wider = {"qkv.weight": layer.qkv.weight, "qkv.bias": layer.qkv.bias}
        for leaf, parameter in wider.items():
            split = parameter.unflatten(-1, (3, heads, size))
            _replace(model, f"{name}.{leaf}", F.pad(split, (0, padding)).flatten(-3))
        rows = layer.out.weight.unflatten(0, (heads, size))
        rows = F.pad(rows, (0, 0, 0, padding)).flatten(0, 1)
        _replace(model, f"{name}.out.weight", rows)
    return model


def cast_nz(model: "Pi0") -> "Pi0":
    """Lay out the weights of the largest products in blocks (FRACTAL_NZ), in place.

    For the products whose time is the reading of weights: the prefix's down projection and the
    vision tower's feed-forward layers. Smaller ones are said to become slower. Before compilation.
    """
    names = [f"prefix.layers.{i}.down.weight" for i in range(len(model.prefix.layers))]
    for i in range(len(model.vision.layers)):
        names += [f"vision.layers.{i}.{part}.weight" for part in ("up", "down")]
    for name in names:
        cast = torch.ops.npu.npu_format_cast(model.get_parameter(name).detach(), _FRACTAL_NZ)
        _replace(model, name, cast)
    return model


def rms_norm(x: Tensor, gamma: Tensor, eps: float) -> Tensor:
    """npu_rms_norm; gamma is [width] in the dtype of x. See `ops.rms_norm`."""
    _check_norm("rms_norm", x, gamma)
    return torch.ops.npu.npu_rms_norm(x, gamma, eps)[0]


def add_rms_norm(x: Tensor, residual: Tensor, gamma: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """npu_add_rms_norm; gamma is [width] in the dtype of x. See `ops.add_rms_norm`."""
    _check_norm("add_rms_norm", x, gamma)
    normed, _, total = torch.ops.npu.npu_add_rms_norm(x, residual, gamma, eps)
    return normed, total


def rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """npu_rotary_mul in its half-split mode; the tables have the dtype of x. See `ops.rotary`."""
    batch, tokens, heads, head_dim = x.shape
    if head_dim % 2 or head_dim >= 896:
        raise ValueError(f"rotary on an NPU: head_dim must be even and < 896, got {head_dim}")
    if batch >= 1000 or heads >= 1000:
        raise ValueError(f"rotary on an NPU: batch and heads must be < 1000, got {batch}, {heads}")
    _check_dtype("rotary", x, NORM_DTYPES)
    for name, table in (("cos", cos), ("sin", sin)):
        if table.dtype != x.dtype:
            raise ValueError(f"rotary on an NPU: {name} must be {x.dtype}, got {table.dtype}")
    x, cos, sin = _dense(x, cos, sin)
    if cos.shape[2] == 1:
        return torch.ops.npu.npu_rotary_mul(x, cos, sin, "half")
    # The kernel has no tables of [1, tokens, heads, head_dim] for a batch: heads become tokens.
    rows = x.view(batch, tokens * heads, 1, head_dim)
    cos, sin = (t.view(t.shape[0], tokens * heads, 1, head_dim) for t in (cos, sin))
    return torch.ops.npu.npu_rotary_mul(rows, cos, sin, "half").view(x.shape)


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    masked: Tensor | None,
    scale: float,
    context: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """npu_fused_infer_attention_score, or what `settings` says. See `ops.attention`.

    The mask must be written out for every query: [1 or batch, 1, queries, all keys].
    """
    batch, queries, heads, _ = q.shape
    kernel = settings.attention
    shared = None
    # Only the kernel's branch for several queries knows a shared prefix, of one row for all.
    if context is not None and kernel == "fia" and queries > 1 and batch == 1:
        shared = context
    elif context is not None:
        k, v = torch.cat((context[0], k), dim=1), torch.cat((context[1], v), dim=1)
    _check_attention(q, k, v, masked, shared)
    q, k, v = _dense(q, k, v)
    if kernel == "pfa":
        return torch.ops.npu.npu_prompt_flash_attention(
            q,
            k,
            v,
            atten_mask=masked,
            num_heads=heads,
            num_key_value_heads=k.shape[2],
            scale_value=scale,
            input_layout="BSND",
            # The default of 0 makes attention causal as soon as there is a mask.
            next_tokens=ALL_TOKENS,
        )
    return torch.ops.npu.npu_fused_infer_attention_score(
        q,
        k,
        v,
        atten_mask=masked,
        key_shared_prefix=None if shared is None else shared[0],
        value_shared_prefix=None if shared is None else shared[1],
        num_heads=heads,
        num_key_value_heads=k.shape[2],
        scale=scale,
        input_layout="BSND",
        next_tokens=ALL_TOKENS,
    )[0]


def geglu(x: Tensor) -> Tensor:
    """npu_geglu with the tanh approximation on the first half. See `ops.geglu`."""
    _check_dtype("geglu", x, NORM_DTYPES)
    return torch.ops.npu.npu_geglu(x, -1, 1, True)[0]


def _replace(model: nn.Module, name: str, value: Tensor) -> None:
    owner, _, leaf = name.rpartition(".")
    module = model.get_submodule(owner)
    requires_grad = getattr(module, leaf).requires_grad
    setattr(module, leaf, nn.Parameter(value.detach(), requires_grad=requires_grad))


def _dense(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tensors if settings.dense_views else tuple(t.contiguous() for t in tensors)


def _check_dtype(op: str, x: Tensor, allowed: tuple[torch.dtype, ...]) -> None:
    if x.dtype not in allowed:
        names = " or ".join(str(dtype).removeprefix("torch.") for dtype in allowed)
        raise ValueError(f"{op} on an NPU takes {names}, got {x.dtype}: load the model with one")


def _check_contiguous(op: str, name: str, x: Tensor) -> None:
    if not x.is_contiguous():
        raise ValueError(
            f"{op} on an NPU: {name} must be contiguous, got strides {x.stride()} for {[*x.shape]}"
        )


def _check_norm(op: str, x: Tensor, gamma: Tensor) -> None:
    _check_dtype(op, x, NORM_DTYPES)
    if gamma.shape != x.shape[-1:] or gamma.dtype != x.dtype:
        raise ValueError(
            f"{op} on an NPU: gamma must be {x.dtype} [{x.shape[-1]}], got {gamma.dtype} "
            f"{list(gamma.shape)}; npu.prepare(model) converts the model's"
        )


def _check_attention(
    q: Tensor, k: Tensor, v: Tensor, masked: Tensor | None, shared: tuple[Tensor, Tensor] | None
) -> None:
    _check_dtype("attention", q, ATTENTION_DTYPES)
    batch, queries, heads, head_dim = q.shape
    kv_heads, keys = k.shape[2], k.shape[1]
    if head_dim > 512 or head_dim % HEAD_DIM_MULTIPLE:
        raise ValueError(
            f"attention on an NPU: head_dim must be at most 512 and a multiple of "
            f"{HEAD_DIM_MULTIPLE}, got {head_dim}; npu.prepare(model) pads the vision tower's"
        )
    if heads > 256 or heads // kv_heads > 64 or heads * head_dim >= 65535:
        raise ValueError(
            "attention on an NPU: at most 256 heads, 64 of them per key head, and heads * head_dim "
            f"< 65535, got {heads} heads, {kv_heads} key heads, head_dim {head_dim}"
        )
    if batch > 65536:
        raise ValueError(f"attention on an NPU: batch must be at most 65536, got {batch}")
    if shared is not None:
        keys += shared[0].shape[1]
        for name, part in (("context k", shared[0]), ("context v", shared[1])):
            _check_contiguous("attention", name, part)
    if masked is not None:
        # With one query another branch of the kernel runs, which wants a row of each batch.
        rows = (batch,) if queries == 1 else (1, batch)
        expected = (1, queries, keys)
        if masked.shape[0] not in rows or masked.shape[1:] != expected:
            raise ValueError(
                f"attention on an NPU: masked must be [{' or '.join(map(str, rows))}, 1, {queries},"
                f" {keys}], got {list(masked.shape)}"
            )
        if masked.dtype not in (torch.bool, torch.int8, torch.uint8):
            raise ValueError(f"attention on an NPU: masked must be bool, got {masked.dtype}")
        _check_contiguous("attention", "masked", masked)
