"""Images of an episode out of a video file, and into one (PyAV)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from pi0_ros import console
from pi0_ros.bags.bag import BagError

CODEC = "libx264"
MAX_SIDE = 8192
"""Pixels of a side of a video at most."""


def read_frames(file: Path, times: Sequence[float], fps: float) -> Iterator[np.ndarray]:
    """The frame at each time.

    Args:
        times: s from the beginning of the file, increasing.
        fps: of the data set: a frame counts as that of a time within half a period of it.

    Yields:
        [height, width, 3] uint8 RGB.

    Raises:
        BagError: the file is missing, damaged or ends early.
        UserError: PyAV is not installed.
    """
    console.require("av")
    import av

    broken = (av.FFmpegError, OSError, LookupError, ArithmeticError, ValueError, TypeError)
    half = 0.5 / fps
    done = 0
    try:
        with av.open(str(file)) as container:
            stream = container.streams.video[0]
            if max(stream.width, stream.height) > MAX_SIDE:
                raise ValueError(f"{stream.width} x {stream.height} pixels")
            stream.thread_type = "AUTO"
            base = stream.time_base
            if times[0] > 1.0:  # to the key frame before
                container.seek(int(times[0] / base), stream=stream)
            for frame in container.decode(stream):
                at = float((frame.pts or 0) * base)
                if at < times[done] - half:
                    continue
                if at > times[done] + half:
                    break
                yield frame.to_ndarray(format="rgb24")
                done += 1
                if done == len(times):
                    return
    except broken as error:
        raise BagError(f"{file}: no readable video: {error}") from error
    raise BagError(
        f"{file}: no frame at {times[done]:.3f} s, where the episode's frame {done} of {len(times)}"
        " should be: the video is cut off, or of another pace"
    )


class VideoWriter:
    """An MP4 file with frames at a fixed pace, as LeRobot reads it."""

    def __init__(self, file: Path, fps: int, height: int, width: int) -> None:
        """Begin a file; a size that is odd gets full colour resolution, which even ones halve."""
        console.require("av")
        import av

        file.parent.mkdir(parents=True, exist_ok=True)
        self.pixel_format = "yuv444p" if height % 2 or width % 2 else "yuv420p"
        self._container = av.open(str(file), "w")
        options = {"crf": "18", "g": "2"}  # a key frame every other frame: training reads at random
        self._stream = self._container.add_stream(CODEC, rate=fps, options=options)
        self._stream.width, self._stream.height = width, height
        self._stream.pix_fmt = self.pixel_format
        self._shape = (height, width, 3)

    def close(self) -> None:
        self._container.mux(self._stream.encode())
        self._container.close()

    def add(self, image: np.ndarray) -> None:
        """Append a frame; [height, width, 3] uint8 RGB, all of one size (BagError)."""
        import av

        if image.shape != self._shape:
            height, width, _ = self._shape
            raise BagError(
                f"an image of {image.shape[1]} x {image.shape[0]} pixels follows those of {width} x"
                f" {height}: one camera, one size"
            )
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        self._container.mux(self._stream.encode(frame))
