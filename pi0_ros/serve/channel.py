"""Between a process and the policy's: messages on a socket, images in shared memory.

A message is one line of JSON, followed by as many raw bytes as its key `bytes` says. The memory is
an anonymous file (memfd): it has no name that could stay behind or clash, the kernel frees it with
the last process that holds it, and the size of /dev/shm does not bound it.
"""

from __future__ import annotations

import json
import mmap
import os
import socket
from collections.abc import Mapping
from typing import Any

import numpy as np

_STEP = 1 << 20
_ALIGNMENT = 64


class ChannelClosed(ConnectionError):
    """The other side has gone."""


class Channel:
    """One side of a socket pair; questions and answers alternate."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._file = end.makefile("rb")

    def send(self, message: Mapping[str, Any], data: bytes = b"") -> None:
        """Send a message of JSON values and the bytes that go with it.

        Raises:
            ChannelClosed: the other side has gone.
        """
        line = json.dumps({**message, "bytes": len(data)}).encode() + b"\n"
        try:
            self._socket.sendall(line + data)
        except OSError as error:
            raise ChannelClosed(str(error)) from error

    def receive(self) -> tuple[dict[str, Any], bytes]:
        """Wait for a message.

        Raises:
            ChannelClosed: the other side has gone, or `shutdown` was called.
        """
        try:
            line = self._file.readline()
            if not line.endswith(b"\n"):
                raise ChannelClosed("end of the stream")
            message = json.loads(line)
            data = self._file.read(message["bytes"])
        except OSError as error:
            raise ChannelClosed(str(error)) from error
        if len(data) < message["bytes"]:
            raise ChannelClosed("end of the stream within a message")
        return message, data

    def shutdown(self) -> None:
        """End the conversation; from any thread, and whoever waits in `receive` is woken."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:  # it has ended already
            return

    def close(self) -> None:
        """Free the socket; not while another thread waits in `receive`."""
        self._file.close()
        self._socket.close()


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
