"""The demo's pictures: a camera's frames with the path and a caption, as a GIF and as a PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

WIDTH = 320
"""Pixels of a finished frame; its height follows from the camera's picture."""

RATE = 8
"""Frames per second of a GIF."""

MOST_FRAMES = 100
"""Of a GIF; with more, some are left out, and it shows the run faster than it was."""

GIF_BYTES, PNG_BYTES = 1_500_000, 300_000
"""What the files may have."""

_SOON, _LATE = (255, 255, 255), (255, 30, 200)  # RGB of a path's beginning and end
_SHADES = 8  # of a path that every palette has
_DARK = (25, 25, 30)
_BAR = 30  # pixels of the caption
_COLOURS = (256, 128, 64, 32)  # of a palette, as many as fit
_LAST = 1500  # milliseconds for which a GIF shows its last frame
_INK = {None: (235, 235, 235), True: (120, 230, 130), False: (255, 120, 110)}


def require_pillow() -> None:
    """Raises ImportError with what to do where Pillow is not installed."""
    try:
        import PIL.Image  # noqa: F401
    except ModuleNotFoundError as error:
        raise ImportError(
            "the demo's pictures need the Python package pillow, which is not installed: "
            "`pip install pillow`"
        ) from error


def draw_path(picture: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """A copy of a picture with a path in it, from white to pink with time.

    Args:
        picture: [H, W, 3] uint8 RGB.
        pixels: [k, 2] x and y; NaN, and what is far outside, is left out.
    """
    drawn = picture.copy()
    height, width = picture.shape[:2]
    with np.errstate(invalid="ignore"):
        near = (np.abs(pixels - (width / 2, height / 2)) < (2 * width, 2 * height)).all(axis=1)
    points = [tuple(map(int, point)) for point in np.round(pixels[near])]
    shares = np.linspace(0, 1, max(len(points), 2))[: len(points)]
    colours = [tuple(map(int, np.round(_mix(share)))) for share in shares]
    for thickness, dark in ((7, True), (4, False)):
        for start, end, colour in zip(points[:-1], points[1:], colours[1:], strict=True):
            cv2.line(drawn, start, end, _DARK if dark else colour, thickness, cv2.LINE_AA)
    if points:
        cv2.circle(drawn, points[-1], 8, _DARK, cv2.FILLED, cv2.LINE_AA)
        cv2.circle(drawn, points[-1], 6, colours[-1], cv2.FILLED, cv2.LINE_AA)
    return drawn


def _mix(share: float) -> np.ndarray:
    return (1 - share) * np.array(_SOON) + share * np.array(_LATE)


def captioned(picture: np.ndarray, text: str, right: bool | None) -> np.ndarray:
    """A picture scaled to WIDTH over a line of text.

    Args:
        picture: [H, W, 3] uint8 RGB.
        text: to write; it gets smaller if it is long.
        right: colours the text: True green, False red, None white.

    Returns:
        [h, WIDTH, 3] uint8 RGB.
    """
    from PIL import Image, ImageDraw, ImageFont

    height = round(picture.shape[0] * WIDTH / picture.shape[1])
    frame = np.full((height + _BAR, WIDTH, 3), _DARK, np.uint8)
    frame[:height] = cv2.resize(picture, (WIDTH, height), interpolation=cv2.INTER_AREA)
    image = Image.fromarray(frame)
    size = 15
    while size > 8 and ImageFont.load_default(size).getlength(text) > WIDTH - 16:
        size -= 1
    ImageDraw.Draw(image).text(
        (8, height + _BAR // 2), text, _INK[right], ImageFont.load_default(size), anchor="lm"
    )
    return np.asarray(image)


def write_gif(path: Path, frames: Sequence[np.ndarray], most: int = GIF_BYTES) -> None:
    """Writes frames, [H, W, 3] uint8 RGB each, RATE per second; it repeats for ever.

    Raises:
        ValueError: there are no frames, or even with 32 colours it has more than `most` bytes.
    """
    if not frames:
        raise ValueError(f"{path}: no frames to write")
    if len(frames) > MOST_FRAMES:
        chosen = np.round(np.linspace(0, len(frames) - 1, MOST_FRAMES)).astype(int)
        frames = [frames[index] for index in chosen]
    durations = [1000 // RATE] * (len(frames) - 1) + [_LAST]

    def file(colours: int) -> bytes:
        # One palette for all, and no dithering: what stands still has the same pixels in every
        # frame, and costs nothing.
        first, *rest = _with_palette(frames, colours)
        buffer = io.BytesIO()
        first.save(
            buffer,
            "GIF",
            save_all=True,
            append_images=rest,
            duration=durations,
            loop=0,
            optimize=False,
        )
        return buffer.getvalue()

    path.write_bytes(_that_fits(path, file, most))


def write_png(path: Path, frames: Sequence[np.ndarray], most: int = PNG_BYTES) -> None:
    """Writes frames of the same height, [H, W, 3] uint8 RGB each, side by side.

    Raises:
        ValueError: there are no frames, or even with 32 colours it has more than `most` bytes.
    """
    if not frames:
        raise ValueError(f"{path}: no frames to write")
    row = np.concatenate(list(frames), axis=1)

    def file(colours: int) -> bytes:
        (image,) = _with_palette([row], colours)
        buffer = io.BytesIO()
        image.save(buffer, "PNG", optimize=True)
        return buffer.getvalue()

    path.write_bytes(_that_fits(path, file, most))


def _with_palette(frames: Sequence[np.ndarray], colours: int) -> list[Any]:
    """The frames as PIL images of one palette, which a few of them and the path decide."""
    from PIL import Image

    few = np.concatenate(frames[:: max(1, len(frames) // 12)])
    seen = Image.fromarray(few).quantize(colours - _SHADES, Image.Quantize.MEDIANCUT)
    shades = [_mix(share).round().astype(int) for share in np.linspace(0, 1, _SHADES)]
    palette = Image.new("P", (1, 1))
    palette.putpalette([*seen.getpalette(), *np.concatenate(shades).tolist()])
    none = Image.Dither.NONE
    return [Image.fromarray(frame).quantize(palette=palette, dither=none) for frame in frames]


def _that_fits(path: Path, file: Any, most: int) -> bytes:
    """The file with as many colours as its size allows."""
    for colours in _COLOURS:
        data = file(colours)
        if len(data) <= most:
            return data
    raise ValueError(f"{path}: {len(data)} bytes with {colours} colours; expected at most {most}")
