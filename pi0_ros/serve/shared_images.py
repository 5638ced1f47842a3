"""Images in memory that two processes share, for a policy in a process of its own.

Two raw images of 640 x 480 take 8 ms through a socket, and 1 ms so (docs/remote.md). The memory is
an anonymous file (memfd): it has no name that could stay behind or clash, the kernel frees it with
the last process that holds it, and the size of /dev/shm does not bound it.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

_STEP = 1 << 20
_ALIGNMENT = 64


class SharedImages:
    """Images in memory that two processes see; one writes, and then the other reads."""

    def __init__(self, descriptor: int) -> None:
        """`descriptor` is of a memfd, and this object's own from now on."""
        self._descriptor = descriptor
        self._memory: mmap.mmap | None = None
        self._size = 0

    def write(self, images: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
        """Copy images [H, W, 3] uint8 into the memory, which grows if it must.

        Returns:
            what `read` needs, as JSON values.

        Raises:
            OSError: there is no memory for them.
            ValueError: one has another type or shape; names it.
        """
        for name, image in images.items():
            usable = image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
            if not usable or not image.size:
                raise ValueError(
                    f"camera {name}: expected uint8 [H, W, 3], got {image.dtype}"
                    f" {list(image.shape)}"
                )
        layout, end = [], 0
        for name, image in images.items():
            # Copied as it lies in memory: reading bgr8 backwards costs several times as much.
            backwards = image.strides[2] < 0
            layout.append(
                {"name": name, "at": end, "shape": list(image.shape), "backwards": backwards}
            )
            end += -(-image.nbytes // _ALIGNMENT) * _ALIGNMENT
        if end > self._size:
            size = -(-end // _STEP) * _STEP
            # Reserved now: a page that is missing later would be a SIGBUS instead of an error.
            os.posix_fallocate(self._descriptor, 0, size)
            self._map(size)
        for place, image in zip(layout, images.values(), strict=True):
            np.copyto(self._at(place), image[..., ::-1] if place["backwards"] else image)
        return layout

    def read(self, layout: list[dict[str, Any]]) -> dict[str, np.ndarray]:
        """The images, as views that hold until the next `write` of the other side."""
        size = os.fstat(self._descriptor).st_size
        if size > self._size:
            self._map(size)
        images = {}
        for place in layout:
            image = self._at(place)
            images[place["name"]] = image[..., ::-1] if place["backwards"] else image
        return images

    def close(self) -> None:
        """Let go of the memory."""
        self._memory = None
        os.close(self._descriptor)

    def _map(self, size: int) -> None:
        # Not closed: a view of the old one may still exist, and keeps it until it goes.
        self._memory = mmap.mmap(self._descriptor, size)
        self._size = size

    def _at(self, place: Mapping[str, Any]) -> np.ndarray:
        shape = place["shape"]
        count = shape[0] * shape[1] * shape[2]
        return np.frombuffer(self._memory, np.uint8, count, place["at"]).reshape(shape)
