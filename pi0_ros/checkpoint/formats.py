"""Reading a checkpoint directory, whichever of the formats of `checkpoint` it has."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from pi0_ros.checkpoint.checkpoint import CONFIG, WEIGHTS, Checkpoint
from pi0_ros.checkpoint.common import read_json
from pi0_ros.checkpoint.lerobot import (
    OLD_STATISTICS,
    PREPROCESSOR,
    read_lerobot_new,
    read_lerobot_old,
)
from pi0_ros.checkpoint.openpi import read_openpi
from pi0_ros.checkpoint.weights import CheckpointError, check_keys, read_keys
from pi0_ros.model.config import Pi0Config


def read_checkpoint(path: str | Path, sizes: Pi0Config | None = None) -> Checkpoint:
    """Read a checkpoint directory and check everything about it.

    Args:
        path: directory with config.json and model.safetensors.
        sizes: sizes of a model that is none of the published variants and does not bring its own.

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
    document = read_json(path / CONFIG)
    try:
        return _read(path, document, sizes)
    except SafetensorError as error:
        names = ", ".join(sorted(file.name for file in path.glob("*.safetensors")))
        raise CheckpointError(
            f"{path}: one of {names} is damaged or was not downloaded whole: {error}"
        ) from error
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path}: {CONFIG} or another JSON file has a value of an unexpected kind: "
            f"{type(error).__name__}: {error}"
        ) from error


def _read(path: Path, document: dict[str, Any], sizes: Pi0Config | None) -> Checkpoint:
    keys = read_keys(path / WEIGHTS)
    problems: list[str] = []
    if "action_horizon" in document:
        checkpoint = read_openpi(path, document, sizes, problems)
        others: Sequence[str] = ()
    elif document.get("type") != "pi0":
        raise CheckpointError(
            f"{path / CONFIG}: expected a LeRobot policy of type 'pi0' or an openpi PyTorch "
            f"configuration, got type {document.get('type')!r} with keys {sorted(document)}"
        )
    elif (path / PREPROCESSOR).is_file():
        checkpoint = read_lerobot_new(path, document, sizes, problems)
        others = ()
    else:
        checkpoint = read_lerobot_old(path, document, sizes, problems)
        others = [key for key in keys if key.startswith(OLD_STATISTICS)]
    problems += check_keys(keys, checkpoint.config, others)
    if problems:
        raise CheckpointError(
            f"{path} ({checkpoint.format}) cannot be used:\n  - " + "\n  - ".join(problems)
        )
    return checkpoint
