"""What is checked: a model's sizes and weights, and the device that computes it."""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pi0_ros.checkpoint.checkpoint import Checkpoint
from pi0_ros.checkpoint.formats import read_checkpoint
from pi0_ros.checkpoint.random import random_checkpoint
from pi0_ros.checkpoint.weights import checkpoint_shapes
from pi0_ros.errors import UserError
from pi0_ros.model.config import PI05, TINY, TINY_PI05, Pi0Config
from pi0_ros.model.quantised import observed
from pi0_ros.policy.compile import GraphOptions, Prompt
from pi0_ros.policy.device import resolve_device
from pi0_ros.policy.graphs import Eager, Graphs, load_graphs
from pi0_ros.policy.policy import DTYPES

KINDS = ("cpu", "cuda", "npu")
SIZES = {"pi0": {"tiny": TINY, "full": Pi0Config()}, "pi05": {"tiny": TINY_PI05, "full": PI05}}
# A prompt of this share of its longest, so that masks have something to mask out.
_PROMPT_SHARE = 0.8


@dataclass(frozen=True)
class Subject:
    """A device and the model for it.

    Attributes:
        raw: folder for logs and profiles; made by who writes there.
        checkpoint: None: random weights.
        model, size: of the random weights.
        config: sizes of the model.
    """

    device: torch.device
    dtype: torch.dtype
    cameras: int
    raw: Path
    checkpoint: Path | None
    model: str
    size: str
    config: Pi0Config

    @property
    def kind(self) -> str:
        return self.device.type

    @property
    def parameters(self) -> int:
        """Number of weights, about."""
        return sum(math.prod(shape) for shape in checkpoint_shapes(self.config).values())

    def described(self) -> dict[str, Any]:
        """For the JSON."""
        return {
            "device": str(self.device),
            "kind": self.kind,
            "dtype": str(self.dtype).removeprefix("torch."),
            "model": self.config.variant,
            "size": self.size if self.checkpoint is None else "",
            "cameras": self.cameras,
            "checkpoint": None if self.checkpoint is None else str(self.checkpoint),
        }

    def weights(self, drawn_on: torch.device | None = None) -> Checkpoint:
        """The checkpoint, or random weights, drawn on the host or, faster, on the device."""
        if self.checkpoint is not None:
            return read_checkpoint(self.checkpoint)
        return random_checkpoint(self.config, dtype=torch.bfloat16, device=drawn_on)

    def graphs(self, options: GraphOptions, drawn_on: torch.device | None = None) -> Graphs:
        """The model on its device, compiled as asked; float8 with scales of the inputs."""
        weights = self.weights(drawn_on)
        of = (self.dtype, self.device, self.cameras)
        calibration = None
        if options.precision == "float8":
            full = load_graphs(weights, GraphOptions("eager", kernels="none"), *of)
            with observed(full.model) as scales:
                Inference(full, self.cameras).infer()
                calibration = scales()
            del full, scales  # its memory goes back before the next one is loaded
        return load_graphs(weights, options, *of, calibration)


def find_subject(args: argparse.Namespace, raw: Path) -> Subject:
    """What the command line asks for.

    Args:
        args: of `pi0 check`.
        raw: see `Subject`.

    Raises:
        DeviceError: the device cannot be used.
        UserError: there are no rows for it, or the checkpoint has another number of cameras.
    """
    device, model, size = resolve_device(args.device), args.model, args.size
    if device.type not in KINDS:
        raise UserError(f"device '{device}': there is a check for {', '.join(KINDS)}")
    dtype = DTYPES[args.dtype or ("float32" if device.type == "cpu" else "bfloat16")]
    path = None if args.checkpoint is None else Path(args.checkpoint)
    config = SIZES[model][size] if path is None else read_checkpoint(path).config
    return Subject(device, dtype, args.cameras, raw, path, model, size, config)


def slice_of(config: Pi0Config) -> Pi0Config:
    """The same widths with one layer of each kind: what kernels see of the model."""
    return replace(config, depth=2, vision_depth=1, vocab_size=min(config.vocab_size, 1024))


def draw_inputs(config: Pi0Config, cameras: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images, token ids, state and noise on the host, as `Graphs` takes them; always the same."""
    g = torch.Generator().manual_seed(0)
    size = config.image_size
    images = torch.rand(1, cameras, 3, size, size, generator=g) * 2 - 1
    length = max(1, int(config.prompt_length * _PROMPT_SHARE))
    tokens = torch.randint(3, min(config.vocab_size, 1024), (1, length), generator=g)
    state = torch.randn(1, config.max_state_dim, generator=g)
    noise = torch.randn(1, config.horizon, config.max_action_dim, generator=g)
    return images, tokens, state, noise


class Inference:
    """Inferences of one model on the same inputs, each with its copies to and from the device."""

    def __init__(self, graphs: Graphs, cameras: int) -> None:
        self._graphs = graphs
        self._device = graphs.model.device
        self._images, tokens, self._state, self._noise = draw_inputs(graphs.model.config, cameras)
        self._prompt: Prompt | Eager = graphs.prompt(tokens, cameras)

    @torch.inference_mode()
    def infer(self, _observation: object = None) -> Tensor:
        """Normalised actions [horizon, max_action_dim] float32 on the host."""
        images, state, noise = (
            t.to(self._device) for t in (self._images, self._state, self._noise)
        )
        actions = self._graphs.infer(images, self._prompt, state, noise)
        return actions[0].float()


def cosine(a: Tensor, b: Tensor) -> float:
    """Of two tensors of one shape. In double: float32 rounds it by more than gates allow."""
    flat = (t.detach().cpu().double().flatten() for t in (a, b))
    return float(torch.cosine_similarity(*flat, dim=0))
