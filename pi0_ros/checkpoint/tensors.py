"""The tensors of a checkpoint by canonical name, in whichever safetensors files they lie."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pi0_ros.checkpoint.errors import CheckpointError, shown

WEIGHTS = "model.safetensors"
INDEX = WEIGHTS + ".index.json"
DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
"""How safetensors spells the dtypes that weights may have."""

_MOST_HEADER = 8 << 20  # bytes; pi0's has 150 kB
_LFS = b"version https://git-lfs"


class TensorInfo(NamedTuple):
    """A tensor in a file: its name there, its shape, its dtype as safetensors writes it."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    file: Path


class LowRank(NamedTuple):
    """A difference to a weight, scale * up @ down: up [out, r], down [r, in]."""

    down: TensorInfo
    up: TensorInfo
    scale: float


@dataclass(frozen=True)
class Tensors(Mapping[str, TensorInfo]):
    """Canonical name -> tensor.

    Attributes:
        infos: what the files have.
        low_rank: canonical name -> what an adapter adds to that tensor.
    """

    infos: Mapping[str, TensorInfo]
    low_rank: Mapping[str, LowRank] = field(default_factory=dict)

    def __getitem__(self, key: str) -> TensorInfo:
        return self.infos[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.infos)

    def __len__(self) -> int:
        return len(self.infos)

    @property
    def nbytes(self) -> int:
        """Of all tensors in the files, those of an adapter and of its base together."""
        lent = [info for change in self.low_rank.values() for info in change[:2]]
        infos = [*self.infos.values(), *lent]
        return sum(
            math.prod(info.shape) * DTYPES.get(info.dtype, torch.float32).itemsize for info in infos
        )

    @contextmanager
    def reader(self) -> Iterator[Callable[[str], Tensor]]:
        """A function from canonical name to tensor, within the block.

        What it gives may be a view of a file that is mapped into memory; with the block's end its
        pages no longer count as this process's. Tensors with a `low_rank` difference are float32.
        """
        with ExitStack() as stack:
            files: dict[Path, Any] = {}

            def read(info: TensorInfo) -> Tensor:
                if info.file not in files:
                    files[info.file] = stack.enter_context(safe_open(info.file, "pt"))
                return files[info.file].get_tensor(info.name)

            def get(key: str) -> Tensor:
                value = read(self.infos[key])
                change = self.low_rank.get(key)
                if change is None:
                    return value
                up, down = read(change.up).float(), read(change.down).float()
                return value.float().addmm_(up, down, alpha=change.scale)

            yield get


def canonical(key: str) -> str:
    """A tensor's name as LeRobot 0.4 and openpi would have it without their `model.` prefix."""
    # torch.compile and DistributedDataParallel put names of their own in front or in between.
    key = key.replace("_orig_mod.", "").removeprefix("module.").removeprefix("model.")
    paligemma = "paligemma_with_expert.paligemma."
    key = key.replace(paligemma + "language_model.lm_head.", paligemma + "lm_head.")
    key = key.replace(paligemma + "language_model.model.", paligemma + "model.language_model.")
    for part in ("vision_tower.", "multi_modal_projector."):
        if key.startswith(paligemma + part):
            key = paligemma + "model." + key.removeprefix(paligemma)
    return key


def read_infos(
    files: Iterable[Path], problems: list[str], rename: Callable[[str], str] = canonical
) -> dict[str, TensorInfo]:
    """Canonical name -> tensor of several files; two under one name are a problem.

    Raises:
        CheckpointError: one of the files is no safetensors file.
    """
    infos: dict[str, TensorInfo] = {}
    for path in files:
        with open_tensors(path) as file:
            names: list[str] = file.keys()
            for name in names:
                part = file.get_slice(name)
                info = TensorInfo(name, tuple(part.get_shape()), part.get_dtype(), path)
                other = infos.setdefault(rename(name), info)
                if other is not info:
                    problems.append(
                        f"{path.name}: {shown(name)} and {shown(other.name)} of {other.file.name} "
                        "are the same tensor"
                    )
    return infos


def open_tensors(path: Path) -> Any:
    """`safe_open` for torch, with an error that says what the file is instead.

    Raises:
        CheckpointError: the file is no safetensors file, or not all of it is there.
    """
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if start.startswith(_LFS):
        raise CheckpointError(
            f"{path} is a pointer of Git LFS, not the file itself: run `git lfs pull` in the"
            " clone, or download the file"
        )
    if int.from_bytes(start[:8], "little") > _MOST_HEADER:
        raise CheckpointError(
            f"{path} is no safetensors file, or a damaged one: its header would have more than "
            f"{_MOST_HEADER >> 20} MB"
        )
    try:
        return safe_open(path, "pt")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is damaged or was not downloaded whole: {shown(error)}"
        ) from error
