"""Tensors of a safetensors file as views of its mapping, also of several at once."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


class MappedFile:
    """A safetensors file, mapped while this object or a tensor from it lives.

    safetensors itself hands out one tensor at a time. Weights that are used as one product mostly
    lie one after the other in a file (LeRobot and openpi sort them by name: gate_proj, up_proj),
    so that nothing has to be copied to join them.
    """

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            self._header = json.loads(file.read(length))
        self._start = 8 + length
        self._storage = torch.UntypedStorage.from_file(str(path), False, path.stat().st_size)

    def get(self, names: Sequence[str]) -> Tensor | None:
        """Tensors joined along their first axis; None where they do not lie one after the other.

        Args:
            names: at least one, as in the file; all of one dtype of `DTYPES`.
        """
        entries = [self._header[name] for name in names]
        dtype, first = DTYPES[entries[0]["dtype"]], entries[0]["data_offsets"][0]
        rest, end = entries[0]["shape"][1:], first
        for entry in entries:
            begin, stop = entry["data_offsets"]
            if begin != end or entry["dtype"] != entries[0]["dtype"] or entry["shape"][1:] != rest:
                return None
            end = stop
        offset = self._start + first
        if offset % dtype.itemsize:
            return None
        rows = sum(entry["shape"][0] for entry in entries)
        shape = (rows, *rest)
        stride = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
        empty = torch.empty(0, dtype=dtype)
        return empty.set_(self._storage, offset // dtype.itemsize, shape, stride)
