"""The operators that the layers of pi0 are written in: one contract, one file per backend.

A backend is chosen once, by `select`, before a model is loaded; `prepare` then gives the model's
modules the form that the backend computes with (packed, padded, cast). RoPE tables, keys and
values, and attention masks are made by a backend and handed back to it: layers do not look into
them. No operator changes an argument. All of them trace into one graph without data-dependent
control flow and without float64, except those of `onednn`, which is for inference without a graph.
"""

from typing import Any, Protocol

import torch
from torch import Tensor

from pi0_ros.model.config import Pi0Config
from pi0_ros.model.linear import Linear
from pi0_ros.model.ops import cuda, onednn
from pi0_ros.model.ops.ascend import Ascend
from pi0_ros.model.ops.cuda import Cuda
from pi0_ros.model.ops.onednn import OneDnn
from pi0_ros.model.ops.reference import Reference
from pi0_ros.model.quantised import Calibration, Model

Rope = tuple[Tensor, ...]
"""RoPE tables of some tokens, from `Ops.rope_tables`."""

KeysValues = tuple[Tensor, ...]
"""Keys and values of one layer, from `Ops.qkv`; each tensor is [batch, ...]."""


class Ops(Protocol):
    """What a backend offers.

    x is [batch, tokens, width] in the model's dtype, float32 or bfloat16. Softmax, norms and RoPE
    are computed in float32 and rounded to that dtype.
    """

    def prepare(self, model: Model) -> Model:
        """Give a loaded `Pi0` the parameters that this backend computes with, in place, once.

        Raises:
            ValueError: the model's sizes or its dtype are beyond the backend's limits.
        """

    def rope_tables(self, positions: Tensor, config: Pi0Config, dtype: torch.dtype) -> Rope:
        """Tables of the rotary position embedding (Su et al. 2021, "RoFormer").

        Elements i and i + head_dim / 2 of a head form a pair, which is rotated by the angle
        position * 10000^(-2i / head_dim): the half-split layout of Gemma. Angles are float32:
        frequencies rounded to bfloat16, as some ports have them, are wrong by up to 0.85 rad at
        position 610.

        Args:
            positions: [1 or batch, tokens] int64.
            dtype: of the activations.
        """

    def attention_mask(self, mask: Tensor, group: int, dtype: torch.dtype) -> Tensor:
        """The mask as `attention` takes it.

        Args:
            mask: bool [1 or batch, 1, queries, keys], contiguous; True = masked out. At least one
                key of every query is not. All queries but the first have the same row.
            group: query heads per key head.
            dtype: of the activations.
        """

    def linear(self, x: Tensor, linear: Linear) -> Tensor:
        """linear(x), whatever form `prepare` gave it: [..., in] -> [..., out].

        The columns are in the order that `qkv` and `geglu` want of a bias.
        """

    def qkv(
        self,
        x: Tensor,
        linear: Linear,
        heads: int,
        kv_heads: int,
        rope: Rope | None = None,
        bias: Tensor | None = None,
    ) -> tuple[Tensor, KeysValues]:
        """Queries [batch, tokens, heads, head_dim], and keys and values, from one product.

        Args:
            linear: its columns are those of all query heads, then key heads, then value heads.
            heads: may be 0, for keys and values only.
            rope: rotates queries and keys; None: nothing is rotated.
            bias: instead of the layer's own, see `Linear`; in the order of columns of `linear`.
        """

    def attention(
        self,
        q: Tensor,
        kv: KeysValues,
        mask: Tensor | None,
        scale: float,
        past: KeysValues | None = None,
    ) -> Tensor:
        """softmax(scale * q k^T) v with grouped heads: [batch, queries, heads, head_dim].

        Args:
            mask: from `attention_mask`, over the keys of `past` and then those of `kv`; None:
                every query attends to every key.
            past: keys and values of earlier tokens, to which the queries attend as well.
        """

    def gain(self, gain: Tensor) -> Tensor:
        """What `rms_norm` takes for a gain that is no parameter: [..., width], in float32."""

    def rms_norm(self, x: Tensor, gain: Tensor) -> Tensor:
        """x / sqrt(mean(x^2) + 1e-6) * gain over the last axis.

        Args:
            gain: [width], a parameter of a prepared model, or from `gain`, also [1 or batch, 1 or
                tokens, width]. Gemma stores `w` and multiplies by `1 + w`: a checkpoint's loader
                makes that sum.
        """

    def linear_add_rms_norm(
        self,
        x: Tensor,
        linear: Linear,
        residual: Tensor,
        gain: Tensor,
        gate: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The end of a block and the norm of the next: (rms_norm(total), total).

        total = residual + gate * linear(x), the residual stream; without a gate it is 1.
        """

    def linear_add(self, x: Tensor, linear: Linear, residual: Tensor) -> Tensor:
        """residual + linear(x)."""

    def linear_gelu(self, x: Tensor, linear: Linear) -> Tensor:
        """gelu(linear(x)), by the tanh formula."""

    def geglu(self, x: Tensor, linear: Linear, bias: Tensor | None = None) -> Tensor:
        """gelu(gate) * up, where [gate | up] = linear(x) (Shazeer 2020, "GLU Variants").

        Args:
            bias: instead of the layer's own, see `Linear`.
        """


def select(
    device: torch.device,
    dtype: torch.dtype,
    graph: str = "eager",
    *,
    attention: str = "fia",
    weights_nz: bool = False,
    rotary: str = "per-head",
    padded_masks: bool = False,
    kernels: str = "auto",
    precision: str = "full",
    calibration: Calibration | None = None,
) -> Ops:
    """The backend for a model.

    Args:
        graph: how the model is compiled, see `policy.compile.GraphOptions`; `eager`: not at all.
        attention, weights_nz, rotary, padded_masks: see `Ascend`; without a meaning on other
            devices.
        kernels: see `Cuda`; likewise.
        precision, calibration: see `Reference`.
    """
    if device.type == "npu":
        # GE tensors have no strides: a slice is dense in a GE graph and nowhere else.
        return Ascend(attention, graph == "torchair", weights_nz, rotary, padded_masks, precision)
    eight_bits: dict[str, Any] = {"precision": precision, "calibration": calibration}
    if cuda.supported(device):
        return Cuda(kernels, compiled="inductor" in graph, **eight_bits)
    if device.type == "cpu" and graph == "eager" and precision == "full":
        return OneDnn() if onednn.supported(dtype) else Reference()
    return Reference(**eight_bits)
