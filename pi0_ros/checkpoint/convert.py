"""A checkpoint in another dtype: what a robot loads need not be converted at every start.

A float32 checkpoint that runs in bfloat16 has twice the bytes that are needed, and tensors that no
action depends on. The converted directory is a checkpoint like any other.
"""

import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from pi0_ros.checkpoint.formats import read_checkpoint
from pi0_ros.checkpoint.tensors import DTYPES, WEIGHTS, TensorInfo, Tensors
from pi0_ros.checkpoint.weights import EMBED_TOKENS, LM_HEAD, converts, is_unused, sources
from pi0_ros.console import progress
from pi0_ros.model.config import Pi0Config

_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def convert(checkpoint_dir: Path, out_dir: Path, dtype: torch.dtype) -> int:
    """Write a checkpoint anew, with the weights in the dtype that is computed in.

    Tensors that enter a computation before they are rounded (norm weights, the action projection)
    and the token embedding keep their dtype, so that a model in `dtype` from the new directory
    equals one from the old directory bit by bit. Tensors that no action depends on are left out.
    Every other file is copied.

    Args:
        checkpoint_dir: directory in one of the formats of `pi0_ros.checkpoint.checkpoint`.
        out_dir: made if it is not there; files of the same names in it are replaced.
        dtype: float32, bfloat16 or float16.

    Returns:
        Size of the new weights in bytes.

    Raises:
        CheckpointError: the checkpoint is broken.
        ValueError: the dtype is none of them, or the two directories are one.
        OSError: the disk is full or not writable; no half-written weights remain.
    """
    if dtype not in _NAMES:
        raise ValueError(f"dtype must be one of {', '.join(map(str, _NAMES))}, got {dtype}")
    checkpoint = read_checkpoint(checkpoint_dir)
    if out_dir.resolve() == checkpoint.path.resolve():
        raise ValueError(f"{out_dir} is the checkpoint itself: give another directory")
    out_dir.mkdir(parents=True, exist_ok=True)
    ignored = shutil.ignore_patterns(WEIGHTS)
    shutil.copytree(checkpoint.path, out_dir, ignore=ignored, dirs_exist_ok=True)
    plan = _plan(checkpoint.tensors, checkpoint.config, dtype)
    _write(checkpoint.tensors, out_dir / WEIGHTS, plan)
    return (out_dir / WEIGHTS).stat().st_size


def _plan(
    keys: Mapping[str, TensorInfo], config: Pi0Config, dtype: torch.dtype
) -> dict[str, torch.dtype]:
    """Canonical name of every tensor that is written -> its new dtype."""
    plan = {
        key: DTYPES[info.dtype]
        for key, info in keys.items()
        if not is_unused(key, config) and not (key == LM_HEAD and EMBED_TOKENS in keys)
    }
    for name, source in sources(config).items():
        if converts(name, source):
            plan.update(dict.fromkeys(source.keys, dtype))
    return plan


def _write(tensors: Tensors, out: Path, plan: Mapping[str, torch.dtype]) -> None:
    """Write tensor by tensor; safetensors' own function would want all of them in memory.

    The format: https://github.com/huggingface/safetensors#format.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for key, dtype in plan.items():
        info = tensors[key]
        begin, end = end, end + dtype.itemsize * torch.Size(info.shape).numel()
        entry = {"dtype": _NAMES[dtype], "shape": list(info.shape), "data_offsets": [begin, end]}
        header[info.name] = entry
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
        with suppress(FileNotFoundError):
            partial.unlink()


def _bytes(tensor: Tensor) -> memoryview:
    return memoryview(tensor.contiguous().flatten().view(torch.uint8).numpy())
