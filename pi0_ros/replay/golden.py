"""A golden replay: chunks to compare with later, and what they were made of.

Only what changes chunks is remembered: the messages, the checkpoint's files, parameters, limits,
options. Where files lie is not.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from pi0_ros.console import progress, write_json
from pi0_ros.errors import UserError
from pi0_ros.node.parameters import NodeParameters
from pi0_ros.replay.deterministic import Options
from pi0_ros.replay.results import GOLDEN
from pi0_ros.share import find_shared_file, user_path

FORMAT = 2  # 2: chunks with a verdict

# Paths, whose contents are hashed where they matter, and what changes no chunk.
_LEFT_OUT = frozenset(
    {
        "checkpoint", "base_checkpoint", "joint_limits", "urdf", "srdf", "tokenizer", "graph_cache",
        "autostart", "start_enabled", "recorded_arm", "inference_timeout", "policy_url",
        "policy_python", "policy_key_file", "policy_authority", "policy_mapping", "policy_images",
        "emergency_stop_topic", "deadman_topic", "deadman_timeout",
    }
)  # fmt: skip
_BLOCK = 1 << 20


def ingredients(parameters: NodeParameters, options: Options, messages: str) -> dict[str, Any]:
    """What a replay is made of, ready for json.dump.

    Args:
        messages: hash of the messages played, of `deterministic.replay_steps`.

    Raises:
        OSError: a file of the checkpoint, the limits or the tokenizer cannot be read.
    """
    paths = ("checkpoint", "base_checkpoint", "srdf", "tokenizer")
    files = {name: getattr(parameters, name) for name in paths}
    hashes = {n: hash_path(user_path(file)) if file else None for n, file in files.items()}
    return {
        "recording": messages,
        **hashes,
        "joint_limits": "+".join(hash_path(path) for path in parameters.limit_files) or None,
        "options": {**vars(options), "again": options.again is not None},
        "parameters": _plain(parameters),
        "made_with": made_with(),
    }


def made_with() -> dict[str, str]:
    """The versions and the machine, which may change a chunk's last digits."""
    import torch

    package = find_shared_file("package.xml")
    version = ElementTree.parse(package).getroot().findtext("version") if package else None
    return {
        "pi0_ros": version or "unknown",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "machine": platform.machine(),
        "threads": str(torch.get_num_threads()),
    }


def hash_path(path: Path) -> str:
    """Hash of a file, or of the names and contents of a directory's files (hidden ones apart)."""
    files = [path]
    if path.is_dir():
        found = (file for file in path.rglob("*") if file.is_file())
        hidden = (".", "__pycache__")
        files = sorted(
            file
            for file in found
            if not any(part.startswith(hidden) for part in file.relative_to(path).parts)
        )
    digest = hashlib.sha256()
    size = sum(file.stat().st_size for file in files)
    with progress(total=size, unit="B", unit_scale=True, desc=f"hashing {path.name}") as bar:
        for file in files:
            name = file.relative_to(path).as_posix() if path.is_dir() else ""
            digest.update(f"{name} {file.stat().st_size}\n".encode())
            with file.open("rb") as stream:
                while block := stream.read(_BLOCK):
                    digest.update(block)
                    bar.update(len(block))
    return digest.hexdigest()


def write_golden(directory: Path, made_of: Mapping[str, Any]) -> None:
    write_json(directory / GOLDEN, {"format": FORMAT, **made_of})


def read_golden(directory: Path) -> dict[str, Any]:
    """Reads it back; a UserError where there is none, or it cannot be read."""
    file = directory / GOLDEN
    remedy = "make one with --record-golden"
    try:
        document = json.loads(file.read_text())
    except FileNotFoundError:
        raise UserError(f"{directory} holds no golden replay ({GOLDEN}); {remedy}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {error}; {remedy} anew") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        found = document.get("format") if isinstance(document, dict) else type(document).__name__
        raise UserError(f"{file} has the format {found!r}, expected {FORMAT}; {remedy} anew")
    return document


def changes(golden: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """What a golden replay was made of and this one is not.

    Returns:
        Sentences about inputs, which make another result right; and about versions, which may
        change last digits.
    """
    what = {
        "recording": "the recording's messages are others (another bag, other topics or --remap)",
        "checkpoint": "the checkpoint's files are others",
        "base_checkpoint": "the files of the adapter's base are others",
        "joint_limits": "the files of limits are others",
        "srdf": "the SRDF is another",
        "tokenizer": "the tokenizer's files are others",
    }
    found = [text for name, text in what.items() if golden.get(name) != now[name]]
    for group, label in (("options", "--{}"), ("parameters", "parameter {}")):
        found += _differences(golden.get(group), now[group], label)
    return found, _differences(golden.get("made_with"), now["made_with"], "{}")


def _differences(before: Any, now: Mapping[str, Any], label: str) -> list[str]:
    before = before if isinstance(before, dict) else {}
    return [
        f"{label.format(name)} was {before.get(name, 'absent')!r}, is {now.get(name, 'absent')!r}"
        for name in sorted({*before, *now})
        if before.get(name, "absent") != now.get(name, "absent")
    ]


def _plain(parameters: NodeParameters) -> dict[str, Any]:
    """Parameter name -> value, as the parameter file has them."""
    values: dict[str, Any] = {}
    parts = {"cameras": ("topic", "max_age", "latency"), "joints": ("scale", "offset")}
    for name, value in vars(parameters).items():
        if name in parts:
            for one in value:
                for key in parts[name]:
                    values[f"{name[:-1]}.{one.name}.{key}"] = getattr(one, key)
            values[name] = [one.name for one in value]
        elif name not in _LEFT_OUT:
            values[name] = list(value) if isinstance(value, tuple) else value
    return values
