"""A checkpoint with random weights, complete with its tokenizer: `pi0 demo checkpoint`.

It exercises everything but the quality of the actions: the robot's motion under it means nothing.
"""

import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pi0_ros.checkpoint.checkpoint import Checkpoint, ImageRule
from pi0_ros.checkpoint.normalization import Normalization
from pi0_ros.checkpoint.save import save_checkpoint
from pi0_ros.checkpoint.tensors import DTYPES, TensorInfo, Tensors
from pi0_ros.checkpoint.tokenizer import STATE_SENTENCES, write_tokenizer
from pi0_ros.checkpoint.weights import checkpoint_shapes
from pi0_ros.console import progress
from pi0_ros.model.config import TINY, Pi0Config

CAMERAS = ("front", "wrist")
# Mean and standard deviation of the SO-101's joints about a pose over its table, radians.
JOINTS = {
    "shoulder_pan": (0.0, 0.4),
    "shoulder_lift": (-0.4, 0.5),
    "elbow_flex": (0.5, 0.4),
    "wrist_flex": (1.0, 0.4),
    "wrist_roll": (0.0, 0.3),
    "gripper": (0.4, 0.3),
}
_WORDS = (
    "touch push pick up place lift grasp open close move stack the a red green blue yellow cube "
    "ball box bowl cup block into onto in on to left right of and then"
)


def random_weights(config: Pi0Config, seed: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """Canonical name -> tensor: normal, scaled so that every layer keeps the size of its input."""
    generator = torch.Generator().manual_seed(seed)
    shapes = checkpoint_shapes(config).items()
    bar = progress(shapes, desc="random weights", unit="tensor")
    return {key: _draw(key, shape, dtype, generator) for key, shape in bar}


def _draw(
    key: str, shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator
) -> Tensor:
    vision_norm = len(shape) == 1 and key.endswith("weight") and "vision_tower" in key
    if len(shape) == 1:
        scale = 0.1
    elif "embed_tokens" in key or "lm_head" in key:
        scale = shape[1] ** -0.5
    else:
        scale = math.prod(shape[1:]) ** -0.5
    value = torch.empty(shape, dtype=dtype, device=generator.device)
    value.normal_(0.0, scale, generator=generator)
    return value + 1.0 if vision_norm else value


@dataclass(frozen=True)
class RandomTensors(Tensors):
    """Weights that lie in no file: each is drawn when it is read, and always the same.

    Attributes:
        device: where they are drawn; numbers of two devices differ.
    """

    device: str = "cpu"

    @contextmanager
    def reader(self) -> Iterator[Callable[[str], Tensor]]:
        def read(key: str) -> Tensor:
            generator = torch.Generator(self.device).manual_seed(zlib.crc32(key.encode()))
            info = self.infos[key]
            return _draw(key, info.shape, DTYPES[info.dtype], generator)

        yield read


def random_checkpoint(
    config: Pi0Config, *, dtype: torch.dtype, device: torch.device | None = None
) -> Checkpoint:
    """A checkpoint without files, to measure a model with; see `RandomTensors`."""
    stored = next(name for name, known in DTYPES.items() if known == dtype)
    shapes = checkpoint_shapes(config).items()
    infos = {key: TensorInfo(key, shape, stored, Path()) for key, shape in shapes}
    nothing = Normalization(*(np.zeros(len(JOINTS), np.float32),) * 3)
    return Checkpoint(
        path=Path(),
        format="lerobot-0.4",
        config=config,
        tensors=RandomTensors(infos, device=str(device or "cpu")),
        cameras=CAMERAS,
        joints=len(JOINTS),
        state=nothing,
        action=nothing,
        image=ImageRule(antialias=False, centred=True),
        accumulates_time=False,
        cleans_prompt=False,
        action_mode="absolute",
    )


def write_random_checkpoint(
    path: Path,
    config: Pi0Config,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    cameras: Sequence[str] = CAMERAS,
    joints: Mapping[str, tuple[float, float]] = JOINTS,
) -> None:
    """Write a checkpoint directory in LeRobot 0.4's format; by default for the SO-101.

    Args:
        path: directory; files in it of the same names are replaced.
        seed: of the weights.
        dtype: in which the weights are stored.
        joints: name -> mean and standard deviation of its state and action, in any unit.
    """
    path.mkdir(parents=True, exist_ok=True)
    mean, std = np.array(list(joints.values()), np.float32).T
    statistics = {"mean": mean, "std": std}
    words = _WORDS.split()
    sentences = [f"{a} {b} {c}" for a in words for b in words for c in words[::7]]
    if config.pi05:
        sentences += STATE_SENTENCES
        statistics |= {"q01": mean - 2 * std, "q99": mean + 2 * std}
    write_tokenizer(path, sentences, min(config.vocab_size, TINY.vocab_size))
    save_checkpoint(
        path,
        config,
        random_weights(config, seed, dtype),
        cameras=cameras,
        state=statistics,
        action=statistics,
        state_mode="QUANTILES" if config.pi05 else "MEAN_STD",
    )
