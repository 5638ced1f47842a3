"""The operators of pi0 in plain PyTorch: what every other backend is held to.

For any device, with or without a compiler; and the one to train with. The contract stands in
`pi0_ros.model.ops`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from pi0_ros.model.config import Pi0Config
from pi0_ros.model.linear import Linear
from pi0_ros.model.quantised import Calibration, Model, quantise

EPS = 1e-6
Pair = tuple[Tensor, Tensor]


class Reference:
    """RoPE tables are cos and sin [1 or batch, tokens, 1, head_dim] in float32; keys and values
    are [batch, tokens, kv_heads, head_dim] each; gains are float32; masks are True for keys that
    are attended to, with a row per query and head of a group.
    """

    def __init__(self, precision: str = "full", calibration: Calibration | None = None) -> None:
        """
        Args:
            precision: of the products of vision and prefix, see `quantised.PRECISIONS`.
            calibration: for `float8`.
        """
        self.precision, self.calibration = precision, calibration

    def prepare(self, model: Model) -> Model:
        return quantise(model, self.precision, self.calibration)

    def rope_tables(self, positions: Tensor, config: Pi0Config, dtype: torch.dtype) -> Pair:
        size = config.head_dim
        exponent = torch.arange(0, size, 2, dtype=torch.float32, device=positions.device) / size
        angle = positions[..., None].float() * torch.pow(10000.0, -exponent)
        angle = torch.cat((angle, angle), dim=-1)[:, :, None]
        return angle.cos(), angle.sin()

    def attention_mask(self, mask: Tensor, group: int, dtype: torch.dtype) -> Tensor:
        return ~mask.repeat_interleave(group, dim=2)

    def linear(self, x: Tensor, linear: Linear) -> Tensor:
        return linear(x)

    def qkv(
        self,
        x: Tensor,
        linear: Linear,
        heads: int,
        kv_heads: int,
        rope: Pair | None = None,
        bias: Tensor | None = None,
    ) -> tuple[Tensor, Pair]:
        qkv = linear(x, bias).unflatten(-1, (heads + 2 * kv_heads, -1))
        qk, v = qkv.split((heads + kv_heads, kv_heads), dim=2)
        if rope is not None:
            qk = _rotate(qk, *rope)
        q, k = qk.split((heads, kv_heads), dim=2)
        return q, (k, v)

    def attention(
        self, q: Tensor, kv: Pair, mask: Tensor | None, scale: float, past: Pair | None = None
    ) -> Tensor:
        if past is not None:
            kv = torch.cat((past[0], kv[0]), dim=1), torch.cat((past[1], kv[1]), dim=1)
        k, v = (t.transpose(1, 2) for t in kv)
        return grouped_attention(q, k, v, mask, scale)

    def gain(self, gain: Tensor) -> Tensor:
        return gain

    def rms_norm(self, x: Tensor, gain: Tensor) -> Tensor:
        if gain.dim() > 1:  # tokens differ in time
            return (F.rms_norm(x.float(), x.shape[-1:], None, EPS) * gain).to(x.dtype)
        return F.rms_norm(x.float(), gain.shape, gain.float(), EPS).to(x.dtype)

    def linear_add_rms_norm(
        self,
        x: Tensor,
        linear: Linear,
        residual: Tensor,
        gain: Tensor,
        gate: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        y = linear(x)
        total = residual + (y if gate is None else gate * y)
        return self.rms_norm(total, gain), total

    def linear_add(self, x: Tensor, linear: Linear, residual: Tensor) -> Tensor:
        return residual + linear(x)

    def linear_gelu(self, x: Tensor, linear: Linear) -> Tensor:
        return F.gelu(linear(x), approximate="tanh")

    def geglu(self, x: Tensor, linear: Linear, bias: Tensor | None = None) -> Tensor:
        gate, up = linear(x, bias).chunk(2, dim=-1)
        return F.gelu(gate, approximate="tanh") * up


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return (x * cos + torch.cat((-second, first), dim=-1) * sin).to(x.dtype)


def grouped_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """`Ops.attention` with keys and values [batch, kv_heads, tokens, head_dim] each."""
    group = q.shape[2] // k.shape[1]
    # Heads that share keys become rows of one matrix, so that keys are not repeated per head.
    rows = q.unflatten(2, (-1, group)).transpose(1, 2).flatten(2, 3)
    out = F.scaled_dot_product_attention(rows, k, v, attn_mask=mask, scale=scale)
    return out.unflatten(2, (-1, group)).transpose(1, 2).flatten(2, 3)
