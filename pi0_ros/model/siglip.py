"""The SigLIP vision tower (Zhai et al. 2023) and its projection into the prefix."""

import torch
from torch import Tensor, nn

from pi0_ros.model.config import Pi0Config
from pi0_ros.model.linear import Linear
from pi0_ros.model.ops import Ops

_EPS = 1e-6


class VisionLayer(nn.Module):
    """One pre-norm transformer layer; query, key and value come from one product."""

    def __init__(self, c: Pi0Config, ops: Ops) -> None:
        super().__init__()
        self.ops, self.heads = ops, c.vision_heads
        # Not from the weights: a backend may pad heads with zeros.
        self.scale = (c.vision_width // c.vision_heads) ** -0.5
        self.attention_norm = nn.LayerNorm(c.vision_width, _EPS)
        self.qkv = Linear(c.vision_width, 3 * c.vision_width, bias=True)
        self.out = Linear(c.vision_width, c.vision_width, bias=True)
        self.mlp_norm = nn.LayerNorm(c.vision_width, _EPS)
        self.up = Linear(c.vision_width, c.vision_mlp, bias=True)
        self.down = Linear(c.vision_mlp, c.vision_width, bias=True)

    def forward(self, h: Tensor) -> Tensor:
        """[images, patches, vision_width] -> same."""
        ops = self.ops
        q, kv = ops.qkv(self.attention_norm(h), self.qkv, self.heads, self.heads)
        h = ops.linear_add(ops.attention(q, kv, None, self.scale).flatten(2), self.out, h)
        return ops.linear_add(ops.linear_gelu(self.mlp_norm(h), self.up), self.down, h)


class VisionTower(nn.Module):
    """Images of all cameras, as one batch, to prefix embeddings."""

    def __init__(self, c: Pi0Config, ops: Ops) -> None:
        super().__init__()
        self.patch_size = c.patch_size
        self.patch = Linear(3 * c.patch_size**2, c.vision_width, bias=True)
        self.position = nn.Parameter(torch.empty(c.tokens_per_image, c.vision_width))
        self.layers = nn.ModuleList(VisionLayer(c, ops) for _ in range(c.vision_depth))
        self.norm = nn.LayerNorm(c.vision_width, _EPS)
        self.project = Linear(c.vision_width, c.prefix_width, bias=True)

    def forward(self, images: Tensor) -> Tensor:
        """[images, 3, image_size, image_size] in [-1, 1] -> [images, patches, prefix_width].

        The embeddings are not scaled: Gemma's sqrt(width) applies to text only.
        """
        # A convolution whose stride is its size is a product over unfolded patches.
        size = self.patch_size
        patches = images.to(self.position.dtype).unflatten(3, (-1, size))
        patches = patches.unflatten(2, (-1, size)).permute(0, 2, 4, 1, 3, 5)
        h = self.patch(patches.flatten(3).flatten(1, 2)) + self.position
        for layer in self.layers:
            h = layer(h)
        return self.project(self.norm(h))
