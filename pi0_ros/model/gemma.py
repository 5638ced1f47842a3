"""A stack of Gemma layers: one of the two experts of pi0."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pi0_ros.model.config import Pi0Config
from pi0_ros.model.linear import Linear
from pi0_ros.model.ops import onednn as cpu
from pi0_ros.model.ops.reference import (
    KeysValues,
    add_rms_norm,
    attention,
    rms_norm,
    rotary,
)

Rotary = tuple[Tensor, ...]
"""cos and sin of the tokens' positions, see `ops.rotary`; or both as one, see `cpu.turned`.

Either one row for all heads, or one per head of a fused projection: those of queries and keys the
same, those of values an angle of zero.
"""


def join(first: KeysValues, second: KeysValues) -> KeysValues:
    """Keys and values of two runs of tokens as one."""
    return tuple(torch.cat(pair, dim=1) for pair in zip(first, second, strict=True))


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

    def project(self, x: Tensor, turn: Rotary) -> tuple[Tensor, KeysValues]:
        """Normed [batch, tokens, width] -> queries, and what is attended to."""
        if self.qkv.rows:
            q, keys_values = cpu.queries_keys_values(self, x, turn[0])
            return q, (keys_values,)
        q, k, v = self.queries_keys_values(x, turn)
        return q, (k, v)

    def attend(
        self, q: Tensor, own: KeysValues, masked: Tensor | None, before: KeysValues | None
    ) -> Tensor:
        """`ops.attention` to a context, if there is one, and the tokens' own keys and values."""
        scale = self.head_dim**-0.5
        if self.qkv.rows:
            (keys_values,) = own if before is None else join(before, own)
            return cpu.attention(q, keys_values, masked, scale)
        return attention(q, *own, masked, scale, before)


def normed(x: Tensor, gamma: Tensor, linear: Linear) -> Tensor:
    """The norm of what goes into a product; see `ops.rms_norm`."""
    return cpu.rms_norm(x, gamma) if linear.rows else rms_norm(x, gamma)


def plus_normed(linear: Linear, x: Tensor, h: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor]:
    """The end of one block and the beginning of the next: a residual sum, and its norm.

    Returns:
        The norm of linear(x) + h, for which a prepared model reuses the memory of h; and the sum.
    """
    if linear.rows:
        total = linear.plus(x, h)
        return cpu.rms_norm(total, gamma, out=h), total
    return add_rms_norm(linear(x), h, gamma)


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
        x = normed(h, norms[0], layers[0].qkv)
        for i, layer in enumerate(layers):
            q, own = layer.project(x, turn)
            before = None if context is None else context[i]
            if joined:
                own, before = join(before, own), None
            keys_values.append(own)
            heads = layer.attend(q, own, masked, before)
            x, h = plus_normed(layer.out, heads.flatten(2), h, layer.mlp_norm)
            x, h = plus_normed(layer.down, layer.gate_up.geglu(x), h, norms[i + 1])
        return x, keys_values
