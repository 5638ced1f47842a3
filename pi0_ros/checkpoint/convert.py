"""A checkpoint of any format as one of this package's own; see `native`.

A float32 checkpoint that runs in bfloat16 has twice the bytes that are needed, and tensors that no
action depends on. Both cost time at every start.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from pi0_ros.checkpoint.checkpoint import Checkpoint
from pi0_ros.checkpoint.directory import SENTENCEPIECE
from pi0_ros.checkpoint.metadata import Declared
from pi0_ros.checkpoint.native import write_native
from pi0_ros.checkpoint.tensors import DTYPES, WEIGHTS, Tensors
from pi0_ros.checkpoint.weights import EMBED_TOKENS, LM_HEAD, converts, is_unused, sources
from pi0_ros.console import progress
from pi0_ros.model.config import Pi0Config

_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_TOKENIZER = (
    "tokenizer_config.json",
    "tokenizer.json",
    "special_tokens_map.json",
    "added_tokens.json",
    *SENTENCEPIECE,
)


def convert(
    checkpoint: Checkpoint,
    out_dir: Path,
    dtype: torch.dtype,
    declared: Declared | None = None,
    tokenizer: Sequence[tuple[str, Path]] = (),
) -> int:
    """Write a checkpoint anew, with the weights in the dtype that is computed in.

    Tensors that enter a computation before they are rounded (norm weights, the action projection)
    and the token embedding keep their dtype, so that a model in `dtype` from the new directory
    equals one from the old directory bit by bit. Tensors that no action depends on are left out.

    Args:
        checkpoint: of any format.
        out_dir: made if it is not there; files of the same names in it are replaced.
        dtype: float32, bfloat16 or float16.
        declared: what is known about the robot beside the checkpoint.
        tokenizer: from `tokenizer_files`.

    Returns:
        Size of the new weights in bytes.

    Raises:
        ValueError: the dtype is none of them, or the two directories are one.
        OSError: the disk is full or not writable; no half-written weights remain.
    """
    if dtype not in _NAMES:
        raise ValueError(f"dtype must be one of {', '.join(map(str, _NAMES))}, got {dtype}")
    if out_dir.resolve() == checkpoint.path.resolve():
        raise ValueError(f"{out_dir} is the checkpoint itself: give another directory")
    out_dir.mkdir(parents=True, exist_ok=True)
    for name, file in tokenizer:
        shutil.copyfile(file, out_dir / name)
    plan = _plan(checkpoint.tensors, checkpoint.config, dtype)
    _write(checkpoint.tensors, out_dir / WEIGHTS, plan)
    # The configuration comes last: without it a directory is no checkpoint.
    write_native(out_dir, checkpoint, declared or Declared())
    return (out_dir / WEIGHTS).stat().st_size


def tokenizer_files(places: Sequence[Path]) -> list[tuple[str, Path]]:
    """(name, file) of the tokenizer in the first place that has one: a folder, or a model file."""
    for place in places:
        if place.is_file():
            return [(SENTENCEPIECE[0], place)]
        found = [(name, place / name) for name in _TOKENIZER if (place / name).is_file()]
        if found:
            return found
    return []


def _plan(tensors: Tensors, config: Pi0Config, dtype: torch.dtype) -> dict[str, torch.dtype]:
    """Canonical name of every tensor that is written -> its new dtype."""
    used = {key for source in sources(config).values() for key in source.keys}
    if EMBED_TOKENS not in tensors:
        used.add(LM_HEAD)
    plan = {
        key: DTYPES[info.dtype]
        for key, info in tensors.items()
        if key in used and not is_unused(key, config)
    }
    for name, source in sources(config).items():
        if converts(name, source):
            plan.update(dict.fromkeys(source.keys, dtype))
    return dict(sorted(plan.items()))


def _write(tensors: Tensors, out: Path, plan: Mapping[str, torch.dtype]) -> None:
    """Write tensor by tensor; safetensors' own function would want all of them in memory.

    The format: https://github.com/huggingface/safetensors#format.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for key, dtype in plan.items():
        shape = tensors[key].shape
        begin, end = end, end + dtype.itemsize * torch.Size(shape).numel()
        header[key] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    partial = out.with_suffix(f".{os.getpid()}")
    try:
        with partial.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for key, dtype in progress(plan.items(), desc=f"writing {out}", unit="tensor"):
                # A reader of its own: once it is closed, its pages leave this process's memory.
                with tensors.reader() as read:
                    file.write(_bytes(read(key).to(dtype)))
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)


def _bytes(tensor: Tensor) -> memoryview:
    return memoryview(tensor.contiguous().flatten().view(torch.uint8).numpy())
