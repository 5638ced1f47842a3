"""A checkpoint's weights in the dtype that is computed in, written once and read ever after.

A float32 checkpoint that is run in bfloat16 has twice the bytes that are needed, and tensors that
none needs. The copy has the same tensors under the same names, so that it is loaded in the same
way, and those that become one product lie one after the other, so that mapping them joins them.
"""

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from tqdm import tqdm

from pi0_ros.checkpoint.mapped import DTYPES
from pi0_ros.checkpoint.weights import (
    EMBED_TOKENS,
    LM_HEAD,
    TensorInfo,
    converts,
    read_keys,
    sources,
)
from pi0_ros.model.config import Pi0Config

_LOG = logging.getLogger(__name__)
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_VERSION = "1"
"""Of what is written: another one is written anew."""


def converted(path: Path, config: Pi0Config, dtype: torch.dtype, cache: Path) -> Path:
    """The file to load a model from: the copy in the cache, made now if it has to be.

    Args:
        path: a safetensors file, checked by `check_keys`.
        dtype: that the model computes in.
        cache: a directory, made if it is not there.

    Returns:
        The copy; `path` itself where a copy would not be smaller, or cannot be written, which is
        logged: a full disk must not keep a robot from starting.
    """
    keys = read_keys(path)
    plan = _plan(keys, config, dtype)
    if all(DTYPES[keys[key].dtype].itemsize <= wanted.itemsize for key, wanted in plan.items()):
        return path
    kind = str(dtype).removeprefix("torch.")
    name = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]
    copy = cache / f"weights-{name}-{kind}.safetensors"
    status = path.stat()
    origin = {
        "pi0_ros": _VERSION,
        "source": str(path.resolve()),
        "size": str(status.st_size),
        "modified_ns": str(status.st_mtime_ns),
    }
    if _is_of(copy, origin):
        return copy
    try:
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write(path, copy, keys, plan, origin)
    except OSError as error:
        _LOG.warning("%s cannot be written (%s): %s is converted at every start", copy, error, path)
        return path
    return copy


def _plan(
    keys: Mapping[str, TensorInfo], config: Pi0Config, dtype: torch.dtype
) -> dict[str, torch.dtype]:
    """Canonical name of every tensor that is needed -> dtype to keep it in, in order.

    What enters a computation before it is rounded, and the token embedding, stays as it is: a model
    from the copy is the same, bit by bit.
    """
    plan: dict[str, torch.dtype] = {}
    for name, source in sources(config).items():
        for key in source.keys:
            key = LM_HEAD if key == EMBED_TOKENS and EMBED_TOKENS not in keys else key
            plan[key] = DTYPES[keys[key].dtype]
            if converts(name, source):
                plan[key] = dtype
    return plan


def _is_of(copy: Path, origin: Mapping[str, str]) -> bool:
    """Whether a whole copy of the file is there, as it is now."""
    if not copy.is_file():
        return False
    try:
        with safe_open(copy, "pt") as file:
            return file.metadata() == dict(origin)
    except SafetensorError:  # cut off, or damaged
        return False


def _write(
    path: Path,
    copy: Path,
    keys: Mapping[str, TensorInfo],
    plan: Mapping[str, torch.dtype],
    origin: Mapping[str, str],
) -> None:
    """Write tensor by tensor; safetensors' own function would want all of them in memory.

    The format: https://github.com/huggingface/safetensors#format.
    """
    header: dict[str, object] = {"__metadata__": dict(origin)}
    end = 0
    for key, dtype in plan.items():
        info = keys[key]
        begin, end = end, end + dtype.itemsize * torch.Size(info.shape).numel()
        entry = {"dtype": _NAMES[dtype], "shape": list(info.shape), "data_offsets": [begin, end]}
        header[info.name] = entry
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    partial = copy.with_suffix(f".{os.getpid()}")
    try:
        with partial.open("wb") as out:
            out.write(len(text).to_bytes(8, "little") + text)
            with tqdm(plan.items(), desc=f"converting to {copy}", unit="tensor") as bar:
                for key, dtype in bar:
                    with safe_open(path, "pt") as file:
                        _put(out, file.get_tensor(keys[key].name).to(dtype))
        partial.replace(copy)
    finally:
        with suppress(FileNotFoundError):
            partial.unlink()


def _put(out: BinaryIO, tensor: Tensor) -> None:
    out.write(memoryview(tensor.contiguous().flatten().view(torch.uint8).numpy()))
