"""One of the two experts of pi0: a stack of Gemma layers."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pi0_ros.model.config import Pi0Config
from pi0_ros.model.linear import Linear
from pi0_ros.model.ops import KeysValues, Ops, Rope


class Norm(NamedTuple):
    """A norm, and what the block that reads it does with the flow time where norms are adaptive.

    Each is [width] or, where rows of a batch or their tokens differ in time, [1 or batch, 1 or
    tokens, width].

    Attributes:
        gain: for `Ops.rms_norm`.
        bias: of the block's first product: what a shift of the norm comes to there.
        gate: times the block's output, before it is added to the residual stream.
    """

    gain: Tensor
    bias: Tensor | None = None
    gate: Tensor | None = None


class GemmaLayer(nn.Module):
    """The parameters of one layer. Norm weights are float32 and hold Gemma's `1 + w`; adaptive
    norms have none.
    """

    def __init__(self, c: Pi0Config, width: int, mlp: int, adaptive: bool) -> None:
        super().__init__()
        if not adaptive:
            self.attention_norm = nn.Parameter(torch.ones(width))
        self.qkv = Linear(width, (c.heads + 2 * c.kv_heads) * c.head_dim)
        self.out = Linear(c.heads * c.head_dim, width)
        if not adaptive:
            self.mlp_norm = nn.Parameter(torch.ones(width))
        self.gate_up = Linear(width, 2 * mlp)
        self.down = Linear(mlp, width)


class Gemma(nn.Module):
    """Layers of one width, and the norm after them."""

    def __init__(
        self, c: Pi0Config, ops: Ops, width: int, mlp: int, depth: int, adaptive: bool = False
    ) -> None:
        super().__init__()
        self.config, self.ops = c, ops
        self.layers = nn.ModuleList(GemmaLayer(c, width, mlp, adaptive) for _ in range(depth))
        if not adaptive:
            self.norm = nn.Parameter(torch.ones(width))

    def forward(
        self,
        h: Tensor,
        rope: Rope,
        mask: Tensor | None,
        past: Sequence[KeysValues] | None = None,
        norms: Sequence[Norm] | None = None,
    ) -> tuple[Tensor, list[KeysValues]]:
        """Run all layers.

        Args:
            h: [batch, tokens, width].
            rope: tables of the tokens' positions.
            mask: see `Ops.attention`.
            past: per layer, keys and values of earlier tokens.
            norms: of an adaptive expert: two per layer, and the last one.

        Returns:
            The residual stream under the last norm [batch, tokens, width], and the tokens' keys and
            values per layer.
        """
        ops, c = self.ops, self.config
        if norms is None:
            gains = [g for layer in self.layers for g in (layer.attention_norm, layer.mlp_norm)]
            norms = [Norm(gain) for gain in (*gains, self.norm)]
        # The stream h is carried beside its norm x, so that each residual sum is one operator with
        # the norm that follows it: the next layer's, or the last.
        x, kvs = ops.rms_norm(h, norms[0].gain), []
        for i, layer in enumerate(self.layers):
            first, second, after = norms[2 * i : 2 * i + 3]
            q, kv = ops.qkv(x, layer.qkv, c.heads, c.kv_heads, rope, first.bias)
            kvs.append(kv)
            earlier = None if past is None else past[i]
            attended = ops.attention(q, kv, mask, c.head_dim**-0.5, earlier).flatten(2)
            x, h = ops.linear_add_rms_norm(attended, layer.out, h, second.gain, first.gate)
            hidden = ops.geglu(x, layer.gate_up, second.bias)
            x, h = ops.linear_add_rms_norm(hidden, layer.down, h, after.gain, second.gate)
        return x, kvs
