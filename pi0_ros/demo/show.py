"""The demo's run as pictures: what the front camera saw, and where each chunk led."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from pi0_ros.demo.path import TipPath
from pi0_ros.demo.picture import captioned, draw_path, write_gif, write_png
from pi0_ros.demo.record import Attempt, Frame, Record

_TELLING = 0.4  # share of an attempt after which its frame of the PNG was taken


class Show:
    """Draws the frames of a run.

    Args:
        record: of at least one attempt, with frames.
    """

    def __init__(self, record: Record) -> None:
        self._record = record
        self._path = TipPath()
        self._heard = [heard.time for heard in record.chunks]
        self._begun = [attempt.begun for attempt in record.attempts]

    def frames(self) -> list[Frame]:
        """Those from the first instruction on."""
        return [frame for frame in self._record.frames if frame.stamp >= self._begun[0]]

    def draw(self, frame: Frame) -> np.ndarray:
        """[h, WIDTH, 3] uint8 RGB: a frame, the way of the newest chunk, and what was asked for.

        Raises:
            ValueError: the frame is no JPEG file.
        """
        bgr = cv2.imdecode(np.frombuffer(frame.jpeg, np.uint8), cv2.IMREAD_COLOR)
        if bgr is None:
            raise ValueError(f"the front camera's picture at {frame.stamp} ns is no JPEG file")
        picture = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
        newest = bisect.bisect_right(self._heard, frame.stamp) - 1
        if newest >= 0:
            chunk = self._record.chunks[newest].chunk
            picture = draw_path(picture, self._path.of(chunk, frame.stamp))
        attempt = self._attempt(frame.stamp)
        if attempt.touched is None or frame.stamp < attempt.ended:
            return captioned(picture, attempt.instruction, None)
        came = f"{attempt.seconds:.1f} s" if attempt.right else f"the {attempt.touched}"
        return captioned(picture, f"{attempt.instruction}: {came}", attempt.right)

    def _attempt(self, stamp: int) -> Attempt:
        return self._record.attempts[max(0, bisect.bisect_right(self._begun, stamp) - 1)]

    def telling(self) -> list[Frame]:
        """One frame per attempt, in which the arm is on its way."""
        moments = [a.begun + _TELLING * (a.ended - a.begun) for a in self._record.attempts]
        return [min(self._record.frames, key=lambda f: abs(f.stamp - at)) for at in moments]


def write_pictures(
    record: Record,
    out: Path,
    each: Callable[[Sequence[Frame]], Sequence[Frame]] = lambda frames: frames,
) -> None:
    """Writes demo.gif and demo.png into a directory.

    Args:
        record: of a run that came to its end.
        each: what the frames go through, such as a progress bar.
    """
    show = Show(record)
    write_gif(out / "demo.gif", [show.draw(frame) for frame in each(show.frames())])
    write_png(out / "demo.png", [show.draw(frame) for frame in show.telling()])
