"""Reading a checkpoint directory, whichever of the formats of `checkpoint` it has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pi0_ros.checkpoint.checkpoint import CONFIG, Checkpoint
from pi0_ros.checkpoint.document import read_document
from pi0_ros.checkpoint.errors import CheckpointError, listed, shown
from pi0_ros.checkpoint.lerobot import OLD_STATISTICS, read_lerobot
from pi0_ros.checkpoint.openpi import read_openpi
from pi0_ros.checkpoint.tensors import WEIGHTS, Tensors
from pi0_ros.checkpoint.weights import check_keys
from pi0_ros.model.config import VARIANTS, Pi0Config


@dataclass(frozen=True)
class ReadOptions:
    """What a directory may leave open, so that its user has to say it.

    Attributes:
        asset: id of the statistics, where openpi saved those of several data sets.
        horizon: steps in a chunk, where openpi saved no config.json; 0: not given.
    """

    asset: str = ""
    horizon: int = 0


def read_checkpoint(
    path: str | Path,
    sizes: Pi0Config | None = None,
    options: ReadOptions = ReadOptions(),
) -> Checkpoint:
    """Read a checkpoint directory and check everything about it.

    Args:
        path: directory with config.json and model.safetensors.
        sizes: sizes of a model that is none of the published variants and does not bring its own.
        options: what the directory may leave open.

    Raises:
        CheckpointError: listing everything that is wrong: files, configuration, statistics, and
            missing, unexpected or misshapen tensors.
    """
    path = Path(path)
    for name in (CONFIG, WEIGHTS):
        if not (path / name).is_file():
            there = sorted(p.name for p in path.iterdir()) if path.is_dir() else "no such directory"
            raise CheckpointError(
                f"{path}: a pi0 checkpoint has {CONFIG} and {WEIGHTS}, and {name} is missing "
                f"(found: {there}). Give the directory that holds them, not one above it."
            )
    problems: list[str] = []
    document = read_document(path, CONFIG, problems)
    tensors = Tensors.of([path / WEIGHTS], problems)
    others: Sequence[str] = ()
    if "action_horizon" in document:
        checkpoint = read_openpi(
            path,
            document,
            tensors,
            sizes,
            problems,
            asset=options.asset,
            horizon=options.horizon,
        )
    elif document.raw("type") not in VARIANTS:
        raise CheckpointError(
            f"{path / CONFIG}: expected a LeRobot policy of type 'pi0' or 'pi05' or an openpi "
            f"PyTorch configuration, got type {shown(document.raw('type'))} with keys"
            f" {shown(sorted(document))}"
        )
    else:
        checkpoint = read_lerobot(path, document, tensors, sizes, problems)
        if checkpoint.format == "lerobot-0.3":
            others = [key for key in tensors if key.startswith(OLD_STATISTICS)]
    problems += check_keys(tensors, checkpoint.config, others)
    if problems:
        raise CheckpointError(listed(f"{path} ({checkpoint.format}) cannot be used", problems))
    return checkpoint
