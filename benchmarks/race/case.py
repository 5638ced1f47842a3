"""What the race runs: sizes, one checkpoint for every contestant, one observation, the work."""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from pi0_ros.checkpoint.random import random_weights
from pi0_ros.checkpoint.save import save_checkpoint
from pi0_ros.model.config import Pi0Config

TINY = Pi0Config(
    image_size=56,
    vision_width=48,
    vision_mlp=96,
    vision_heads=4,
    vocab_size=512,
    prefix_width=64,
    prefix_mlp=128,
    expert_width=32,
    expert_mlp=64,
    head_dim=16,
)
MEDIUM = Pi0Config(
    vision_width=432,
    vision_mlp=1616,
    vocab_size=8192,
    prefix_width=768,
    prefix_mlp=3072,
    expert_width=384,
    expert_mlp=1536,
    head_dim=96,
)
SIZES = {"tiny": TINY, "medium": MEDIUM, "full": Pi0Config()}
SIZES |= {
    f"{name}-pi05": replace(size, variant="pi05", prompt_length=200) for name, size in SIZES.items()
}
"""All of the published depth, so that the number of operator calls is that of the full model."""

STAGES = ("vision", "prefix", "denoise", "rest")
IMAGE_SIZE = (480, 480)
"""Square, so that it fills the model's input: LeRobot 0.4 pads with another value."""


@dataclass(frozen=True)
class Case:
    """One setting of the benchmark.

    Attributes:
        size: a key of `SIZES`.
        dtype: `bfloat16` or `float32`, of the computation; weights are stored in bfloat16.
        prompt: number of tokens of the instruction.
    """

    size: str
    cameras: int
    steps: int
    prompt: int
    dtype: str
    threads: int

    @property
    def config(self) -> Pi0Config:
        return replace(SIZES[self.size], num_steps=self.steps)


@dataclass(frozen=True)
class Product:
    """A matrix product [m, k] x [k, n], or `count` of them; with or without a weight."""

    stage: str
    m: int
    k: int
    n: int
    count: int
    weight: bool = True

    @property
    def flops(self) -> int:
        return 2 * self.m * self.k * self.n * self.count


def products(c: Pi0Config, cameras: int, prompt: int) -> Iterator[Product]:
    """The arithmetic that an inference cannot do without: nothing that nobody reads.

    Of the last prefix layer only keys and values, no padding.
    """
    image, tokens = cameras * c.tokens_per_image, cameras * c.tokens_per_image + prompt
    vision, kv = c.vision_width, c.kv_heads * c.head_dim
    head = vision // c.vision_heads
    yield Product("vision", image, 3 * c.patch_size**2, vision, 1)
    for n, k in ((3 * vision, vision), (vision, vision), (c.vision_mlp, vision)):
        yield Product("vision", image, k, n, c.vision_depth)
    yield Product("vision", image, c.vision_mlp, vision, c.vision_depth)
    batch, patches = cameras * c.vision_heads * c.vision_depth, c.tokens_per_image
    yield Product("vision", patches, head, patches, batch, weight=False)
    yield Product("vision", patches, patches, head, batch, weight=False)
    yield Product("vision", image, vision, c.prefix_width, 1)
    yield from _layers("prefix", c, c.prefix_width, c.prefix_mlp, tokens, tokens, c.depth - 1)
    yield Product("prefix", tokens, c.prefix_width, 2 * kv, 1)
    width = c.expert_width
    h, steps = c.horizon, c.num_steps
    yield Product("denoise", h, c.max_action_dim, width, steps)
    suffix = h
    if not c.pi05:
        yield Product("prefix", 1, c.max_state_dim, width, 1)
        yield Product("denoise", h, width, width, steps)
        suffix = 1 + h  # the state token and the actions
    keys = tokens + suffix
    yield from _layers("denoise", c, width, c.expert_mlp, suffix, keys, c.depth * steps)
    yield Product("denoise", h, width, c.max_action_dim, steps)


def _layers(
    stage: str, c: Pi0Config, width: int, mlp: int, tokens: int, keys: int, count: int
) -> Iterator[Product]:
    heads, kv = c.heads * c.head_dim, c.kv_heads * c.head_dim
    yield Product(stage, tokens, width, heads + 2 * kv, count)
    yield Product(stage, tokens * c.heads, c.head_dim, keys, count, weight=False)
    yield Product(stage, tokens * c.heads, keys, c.head_dim, count, weight=False)
    yield Product(stage, tokens, heads, width, count)
    yield Product(stage, tokens, width, mlp, 2 * count)
    yield Product(stage, tokens, mlp, width, count)


def weight_bytes(c: Pi0Config, item: int) -> int:
    """Bytes of the weights that an inference reads, each counted once, without the token table.

    Args:
        item: bytes of an element.
    """
    found = [p for p in products(replace(c, num_steps=1), 1, 1) if p.weight]
    return item * sum(p.k * p.n * p.count for p in found)


def write_case(directory: Path, size: str, cameras: int) -> Path:
    """The checkpoint of a size with random weights in bfloat16, unless it is there already.

    Statistics are 0 and 1, so that actions are the model's own.
    """
    config = SIZES[size]
    path = directory / f"{size}-{cameras}-cameras"
    mark = path / "complete.json"
    facts = asdict(config)
    if mark.is_file() and json.loads(mark.read_text()) == facts:
        return path
    print(f"writing a checkpoint with random weights: {path}", file=sys.stderr)
    unit = {"mean": np.zeros(config.max_state_dim), "std": np.ones(config.max_state_dim)}
    names = [f"camera{i}" for i in range(cameras)]
    weights = random_weights(config, 0, torch.bfloat16)
    save_checkpoint(path, config, weights, cameras=names, state=unit, action=unit)
    mark.write_text(json.dumps(facts))
    return path


def write_inputs(file: Path, case: Case) -> None:
    """The observation and the noise that every contestant gets.

    image.<i> [H, W, 3] uint8; state [max_state_dim] normalised; tokens [prompt_length] int64, of
    which the first `case.prompt` are valid; noise [1, horizon, max_action_dim].
    """
    c, g = case.config, torch.Generator().manual_seed(1)
    tensors = {
        f"image.{i}": torch.randint(0, 256, (*IMAGE_SIZE, 3), generator=g, dtype=torch.uint8)
        for i in range(case.cameras)
    }
    tensors["state"] = torch.randn(c.max_state_dim, generator=g)
    tokens = torch.randint(3, c.vocab_size, (c.prompt_length,), generator=g)
    tokens[case.prompt :] = 0
    tensors["tokens"] = tokens
    tensors["noise"] = torch.randn(1, c.horizon, c.max_action_dim, generator=g)
    save_file(tensors, file)
