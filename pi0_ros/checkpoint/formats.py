"""Reading a checkpoint directory, whichever of the formats of `checkpoint` it has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pi0_ros.checkpoint.adapter import read_tensors
from pi0_ros.checkpoint.checkpoint import Checkpoint
from pi0_ros.checkpoint.directory import CONFIG, instead, other_policy
from pi0_ros.checkpoint.document import read_document
from pi0_ros.checkpoint.errors import CheckpointError, listed
from pi0_ros.checkpoint.lerobot import OLD_STATISTICS, read_lerobot
from pi0_ros.checkpoint.native import NATIVE, read_native
from pi0_ros.checkpoint.openpi import read_openpi
from pi0_ros.checkpoint.tensors import Tensors
from pi0_ros.checkpoint.weights import check_keys
from pi0_ros.model.config import Pi0Config


@dataclass(frozen=True)
class ReadOptions:
    """What a directory may leave open, so that its user has to say it.

    Attributes:
        base: directory of the checkpoint that an adapter (LoRA) was trained on.
        asset: id of the statistics, where openpi saved those of several data sets.
        horizon: steps in a chunk, where openpi saved no config.json; 0: not given.
    """

    base: str = ""
    asset: str = ""
    horizon: int = 0


def read_checkpoint(
    path: str | Path, sizes: Pi0Config | None = None, options: ReadOptions = ReadOptions()
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
    problems: list[str] = []
    tensors = read_tensors(path, options.base, problems)
    document = read_document(path, CONFIG, problems) if (path / CONFIG).is_file() else None
    if document is None and not _is_openpi(path, tensors):
        raise CheckpointError(instead(path))
    others: Sequence[str] = ()
    if document is None or "action_horizon" in document:
        checkpoint = read_openpi(
            path, document, tensors, sizes, problems, asset=options.asset, horizon=options.horizon
        )
    elif document.raw("type") == NATIVE:
        checkpoint = read_native(path, document, tensors, sizes)
    else:
        what = other_policy(document)
        if what:
            raise CheckpointError(f"{path / CONFIG}: expected type 'pi0' or 'pi05': {what}")
        checkpoint = read_lerobot(path, document, tensors, sizes, problems)
        if checkpoint.format == "lerobot-0.3":
            others = [key for key in tensors if key.startswith(OLD_STATISTICS)]
    problems += check_keys(tensors, checkpoint.config, others)
    if problems:
        raise CheckpointError(listed(f"{path} ({checkpoint.format}) cannot be used", problems))
    return checkpoint


def _is_openpi(path: Path, tensors: Tensors) -> bool:
    """openpi's trainer writes no config.json; LeRobot's names of tensors begin with `model.`."""
    names = (info.name.replace("_orig_mod.", "") for info in tensors.values())
    return (path / "assets").is_dir() or not any(name.startswith("model.") for name in names)
