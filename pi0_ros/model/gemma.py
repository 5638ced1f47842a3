"""A stack of Gemma layers: one of the two experts of pi0."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pi0_ros.model.config import Pi0Config
from pi0_ros.model.layers import Linear
from pi0_ros.model.ops import KeysValues, add_rms_norm, attention, geglu, rms_norm, rotary

Rotary = tuple[Tensor, Tensor]
"""cos and sin of the tokens' positions, see `ops.rotary`.

Either one row for all heads, or one per head of a fused projection: those of queries and keys the
same, those of values an angle of zero.
"""


def join(first: KeysValues, second: KeysValues) -> KeysValues:
    """Keys and values of two runs of tokens as one."""
    return torch.cat((first[0], second[0]), dim=1), torch.cat((first[1], second[1]), dim=1)


class GemmaLayer(nn.Module):
    """One layer. Norm factors are float32 and hold `1 + w`; see `ops.rms_norm`."""

    def __init__(self, c: Pi0Config, width: int, mlp: int) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = c.heads, c.kv_heads, c.head_dim
        self.attention_norm = nn.Parameter(torch.ones(width))
        self.qkv = Linear(width, (c.heads + 2 * c.kv_heads) * c.head_dim)
        self.out = Linear(c.heads * c.head_dim, width)
        self.mlp_norm = nn.Parameter(torch.ones(width))
        self.gate_up = Linear(width, 2 * mlp)
        self.down = Linear(mlp, width)

    def queries_keys_values(self, x: Tensor, turn: Rotary) -> tuple[Tensor, Tensor, Tensor]:
        """Normed [batch, tokens, width] -> q, k, v [batch, tokens, heads or kv_heads, head_dim]."""
        qkv = self.qkv(x).unflatten(-1, (-1, self.head_dim))
        if turn[0].shape[2] > 1:
            return rotary(qkv, *turn).split((self.heads, self.kv_heads, self.kv_heads), dim=2)
        qk, v = qkv.split((self.heads + self.kv_heads, self.kv_heads), dim=2)
        q, k = rotary(qk, *turn).split((self.heads, self.kv_heads), dim=2)
        return q, k, v


class Gemma(nn.Module):
    """Layers of one width, and the norm after them.

    The residual stream is carried beside its norm, so that every residual sum happens together with
    the norm that follows it (`add_rms_norm`).
    """

    def __init__(self, c: Pi0Config, width: int, mlp: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(GemmaLayer(c, width, mlp) for _ in range(depth))
        self.norm = nn.Parameter(torch.ones(width))

    def forward(
        self,
        h: Tensor,
        turn: Rotary,
        masked: Tensor | None,
        context: Sequence[KeysValues] | None = None,
        depth: int | None = None,
        joined: bool = False,
    ) -> tuple[Tensor, list[KeysValues]]:
        """Run the first `depth` layers (all by default).

        Args:
            h: [batch, tokens, width].
            turn: rotary tables of the tokens.
            masked: see `ops.attention`.
            context: per layer, the keys and values that the tokens attend to besides their own.
            joined: join the context with the tokens' own keys and values, for whoever attends to
                all of them later.

        Returns:
            The stream after the last layer run, under the norm that follows it (the next layer's,
            or the final one) [batch, tokens, width]; and each layer's own keys and values, or the
            joined ones.
        """
        layers = list(self.layers)[:depth]
        norms = [layer.attention_norm for layer in self.layers] + [self.norm]
        keys_values: list[KeysValues] = []
        x = rms_norm(h, norms[0])
        for i, layer in enumerate(layers):
            q, k, v = layer.queries_keys_values(x, turn)
            before = None if context is None else context[i]
            if joined:
                k, v, before = *join(before, (k, v)), None
            keys_values.append((k, v))
            heads = attention(q, k, v, masked, layer.head_dim**-0.5, before)
            x, h = add_rms_norm(layer.out(heads.flatten(2)), h, layer.mlp_norm)
            x, h = add_rms_norm(layer.down(geglu(layer.gate_up(x))), h, norms[i + 1])
        return x, keys_values
