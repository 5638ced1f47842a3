"""Where the weights of a checkpoint lie, and what a directory is that holds no checkpoint."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from pi0_ros.checkpoint.document import Document, read_document, read_json
from pi0_ros.checkpoint.errors import CheckpointError, plain, shown
from pi0_ros.checkpoint.tensors import INDEX, WEIGHTS
from pi0_ros.model.config import VARIANTS

CONFIG = "config.json"
ADAPTER, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"

_MARKS = (WEIGHTS, INDEX, ADAPTER)
_MOST_FOLDERS = 2000
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
SENTENCEPIECE = ("tokenizer.model", "paligemma_tokenizer.model")
"""Names of a tokenizer that is a bare SentencePiece model."""

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def is_adapter(path: Path) -> bool:
    return (path / ADAPTER).is_file() or (path / ADAPTER_CONFIG).is_file()


def weight_files(path: Path) -> list[Path]:
    """The safetensors files of a checkpoint: one, or those that an index names.

    Raises:
        CheckpointError: there are none, or not all of them; says what is there instead.
    """
    if (path / WEIGHTS).is_file():
        return [path / WEIGHTS]
    if (path / INDEX).is_file():
        return _shards(path)
    raise CheckpointError(instead(path))


def _shards(path: Path) -> list[Path]:
    problems: list[str] = []
    names = read_document(path, INDEX, problems).child("weight_map")
    files = sorted({names.text(key) for key in names})
    # Names of files only: an index lies beside its files.
    bad = [name for name in files if not re.fullmatch(r"[\w][\w.-]*\.safetensors", name)]
    missing = [name for name in files if name not in bad and not (path / name).is_file()]
    if bad:
        problems.append(f"{INDEX} names {plain(', '.join(bad))}: no files beside it")
    if missing:
        problems.append(f"{INDEX} names {plain(', '.join(missing))}, which are missing")
    if not files:
        problems.append(f"{INDEX} names no files")
    if problems:
        raise CheckpointError(f"{path}: " + "; ".join(problems))
    return [path / name for name in files]


def instead(path: Path) -> str:
    """What a path is that should be a checkpoint, and what to do."""
    name = str(path)
    if not path.exists():
        if _HUB_ID.fullmatch(name):
            return (
                f"{name}: {CONFIG} is missing: there is no such directory. If it is a"
                " repository of huggingface.co: this package downloads nothing; run"
                f" `hf download {name} --local-dir DIR`, and give DIR"
            )
        return (
            f"{name}: a pi0 checkpoint has {CONFIG} and {WEIGHTS}, and {CONFIG} is missing: there"
            " is no such directory"
        )
    if path.is_file():
        return f"{name} is a file: give the directory that holds {CONFIG} and {WEIGHTS}"
    missing = WEIGHTS if (path / CONFIG).is_file() else CONFIG
    return f"{name}: {missing} is missing; {_contents(path)}"


def _contents(path: Path) -> str:
    names = {entry.name for entry in islice(path.iterdir(), 1000)}
    others = _others(path)
    if _has(path, "*.distcp") or _has(path, "*/*.distcp"):
        return (
            "this is a sharded checkpoint of torch.distributed (FSDP, DCP), which only the training"
            " reads: convert it to model.safetensors with LeRobot"
            " (python -m lerobot.scripts.lerobot_convert_dcp)"
        )
    if "_CHECKPOINT_METADATA" in names or _has(path / "params", "*ocdbt*", "_METADATA"):
        return (
            "this is a checkpoint of openpi's JAX version: convert it with openpi"
            " (examples/convert_jax_model_to_pytorch.py), and copy its folder assets too"
        )
    if others:
        shown = " or ".join(others[:4]) + (" and others" if len(others) > 4 else "")
        return f"a checkpoint lies in {shown}: give that directory"
    if _has(path, *_PICKLES):
        return (
            "its weights are pickles, which run code when they are read, so this package never"
            f" opens them: write them as {WEIGHTS} with the program that made them"
            " (save_pretrained, safetensors.torch.save_model)"
        )
    return (
        f"a pi0 checkpoint has {CONFIG} and {WEIGHTS} (found: {plain(str(sorted(names)))}). Give"
        " the directory that holds them"
    )


def _others(path: Path) -> list[str]:
    """Directories below and above that do hold a checkpoint, the newest step first."""
    below = [found for found in _folders(path) if _has_mark(found)]
    above = [
        parent / name
        for parent in islice(path.resolve().parents, 2)
        for name in ("", "pretrained_model")
        if _has_mark(parent / name)
    ]
    # Numbers compare as numbers: step 90000 comes before step 100000.
    order = sorted(below, key=lambda p: [int(n) for n in re.findall(r"\d+", str(p))], reverse=True)
    return [str(found) for found in [*order, *above]]


def _folders(path: Path) -> Iterator[Path]:
    """Folders below a path, level by level, as many as a user can wait for."""
    level = [path]
    seen = 0
    for _ in range(3):
        entries = (entry for folder in level for entry in _entries(folder))
        level = list(islice(filter(os.path.isdir, entries), _MOST_FOLDERS - seen))
        seen += len(level)
        yield from level


def _entries(folder: Path) -> Iterator[Path]:
    try:
        yield from folder.iterdir()
    except OSError:  # not ours to read, or gone
        return


def _has_mark(path: Path) -> bool:
    return any(os.path.isfile(path / mark) for mark in _MARKS)


def _has(path: Path, *patterns: str) -> bool:
    found: Iterator[Path] = (file for pattern in patterns for file in path.glob(pattern))
    return path.is_dir() and next(found, None) is not None


def other_policy(document: Document) -> str | None:
    """What a config.json is of, where it is not that of a pi0 policy; None where it is."""
    kind = document.raw("type")
    if kind in VARIANTS:
        return None
    if kind is None and document.raw("model_type") is not None:
        kind = document.raw("model_type")
        if kind in ("pi0", "pi05"):
            return (
                "this is the PI0 of transformers itself, whose tensors are others: give the"
                " LeRobot or openpi checkpoint that it was made from"
            )
    if kind in ("pi0_fast", "pi0fast"):
        return "this is pi0-FAST, which writes actions as tokens one after another: not supported"
    if kind == "smolvla":
        return "this is SmolVLA, another model than pi0: not supported"
    if kind is None:
        return "it says no type, and has no action_horizon as openpi's have"
    return f"type {shown(kind)} is another policy than pi0"


def base_of(path: Path) -> str:
    """The name under which an adapter's base was known when it was trained; "" if not said."""
    if not (path / ADAPTER_CONFIG).is_file():
        return ""
    name = read_json(path / ADAPTER_CONFIG).get("base_model_name_or_path")
    return plain(name) if isinstance(name, str) else ""
