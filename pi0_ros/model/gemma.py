"""One of the two experts of pi0: a stack of Gemma layers."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pi0_ros.model.config import Pi0Config
from pi0_ros.model.linear import Linear
from pi0_ros.model.ops import KeysValues, Ops, Rope

Modulation = Sequence[Tensor]
"""Of one adaptive norm: scale, shift and gate, each broadcast to [batch, tokens, width]."""


class GemmaLayer(nn.Module):
    """The parameters of one layer. Norm weights are float32 and hold Gemma's `1 + w`; those of
    adaptive norms are 1.
    """

    def __init__(self, c: Pi0Config, width: int, mlp: int) -> None:
        super().__init__()
        self.attention_norm = nn.Parameter(torch.ones(width))
        self.qkv = Linear(width, (c.heads + 2 * c.kv_heads) * c.head_dim)
        self.out = Linear(c.heads * c.head_dim, width)
        self.mlp_norm = nn.Parameter(torch.ones(width))
        self.gate_up = Linear(width, 2 * mlp)
        self.down = Linear(mlp, width)


class Gemma(nn.Module):
    """Layers of one width, and the norm after them."""

    def __init__(self, c: Pi0Config, ops: Ops, width: int, mlp: int, depth: int) -> None:
        super().__init__()
        self.config, self.ops = c, ops
        self.layers = nn.ModuleList(GemmaLayer(c, width, mlp) for _ in range(depth))
        self.norm = nn.Parameter(torch.ones(width))

    def forward(
        self,
        h: Tensor,
        rope: Rope,
        mask: Tensor | None,
        past: Sequence[KeysValues] | None = None,
        time: Sequence[Modulation] | None = None,
    ) -> tuple[Tensor, list[KeysValues]]:
        """Run all layers.

        Args:
            h: [batch, tokens, width].
            rope: tables of the tokens' positions.
            mask: see `Ops.attention`.
            past: per layer, keys and values of earlier tokens.
            time: what the flow time makes of each norm, in their order, where norms are adaptive:
                y = norm(h) * scale + shift, and the block that reads y adds gate * block(y) to the
                residual stream. The last norm's gate is not used.

        Returns:
            The residual stream under the last norm [batch, tokens, width], and the tokens' keys and
            values per layer.
        """
        ops, c = self.ops, self.config
        # The stream h is carried beside its norm x, so that each residual sum is one operator with
        # the norm that follows it: the next layer's, or the last.
        gains = [g for layer in self.layers for g in (layer.attention_norm, layer.mlp_norm)]
        gains.append(self.norm)

        def add_norm(x: Tensor, linear: nn.Module, h: Tensor, block: int) -> tuple[Tensor, Tensor]:
            """The end of a block, and the norm of the next."""
            if time is None:
                return ops.linear_add_rms_norm(x, linear, h, gains[block + 1])
            h = torch.addcmul(h, linear(x), time[block][2])
            return _modulated(ops.rms_norm(h, gains[block + 1]), time[block + 1]), h

        x, kvs = ops.rms_norm(h, gains[0]), []
        if time is not None:
            x = _modulated(x, time[0])
        for i, layer in enumerate(self.layers):
            q, kv = ops.qkv(x, layer.qkv, c.heads, c.kv_heads, rope)
            kvs.append(kv)
            earlier = None if past is None else past[i]
            attended = ops.attention(q, kv, mask, c.head_dim**-0.5, earlier).flatten(2)
            x, h = add_norm(attended, layer.out, h, 2 * i)
            x, h = add_norm(ops.geglu(x, layer.gate_up), layer.down, h, 2 * i + 1)
        return x, kvs


def _modulated(x: Tensor, modulation: Modulation) -> Tensor:
    scale, shift, _ = modulation
    return torch.addcmul(shift, x, scale)
