"""The demo's images: the front camera's frames with the path of the newest chunk and a caption."""

from __future__ import annotations

import bisect
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pi0_ros import console
from pi0_ros.bags.chunks import ChunkRecord
from pi0_ros.demo.record import RATE, Frame, Record
from pi0_ros.sim.stage import (
    IMAGE_HEIGHT,
    IMAGE_WIDTH,
    JOINTS,
    TIP_SITE,
    Stage,
    build_model,
    load_mujoco,
)

WIDTH = 320
"""Pixels of a finished frame; its height follows from the camera's image."""

MAX_FRAMES = 100
"""Of a GIF; with more, some are left out, and it shows the run faster than it was."""

GIF_BYTES, PNG_BYTES = 1_500_000, 300_000
"""What the files may have."""

_SOON, _LATE = (255, 255, 255), (255, 30, 200)  # RGB of a path's beginning and end
_SHADES = 8  # of a path that every palette has
_DARK = (25, 25, 30)
_BAR = 30  # pixels of the caption
_COLOURS = (256, 128, 64, 32)  # of a palette, as many as fit
_LAST = 1500  # milliseconds for which a GIF shows its last frame
_TELLING = 0.4  # share of an attempt after which its frame of the PNG was taken
_INK = {None: (235, 235, 235), True: (120, 230, 130), False: (255, 120, 110)}


def write_images(record: Record, out: Path) -> None:
    """Write demo.gif and demo.png, of a run that came to its end, into a folder."""
    artist = Artist(record)
    frames = console.progress(artist.frames(), desc="Drawing", unit="")
    write_gif(out / "demo.gif", [artist.draw(frame) for frame in frames])
    write_png(out / "demo.png", [artist.draw(frame) for frame in artist.telling()])


class Artist:
    """Draws the frames of a run of at least one attempt."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._path = TipPath()
        self._heard = [time for time, _ in record.chunks]
        self._begun = [attempt.begun for attempt in record.attempts]

    def frames(self) -> list[Frame]:
        return [frame for frame in self._record.frames if frame.stamp >= self._begun[0]]

    def telling(self) -> list[Frame]:
        """One frame per attempt, in which the arm is on its way."""
        moments = [a.begun + _TELLING * (a.ended - a.begun) for a in self._record.attempts]
        return [min(self._record.frames, key=lambda f: abs(f.stamp - at)) for at in moments]

    def draw(self, frame: Frame) -> np.ndarray:
        """[h, WIDTH, 3] uint8 RGB: a frame, the path of the newest chunk, and the instruction."""
        bgr = cv2.imdecode(np.frombuffer(frame.jpeg, np.uint8), cv2.IMREAD_COLOR)
        if bgr is None:
            raise ValueError(f"the front camera's image at {frame.stamp} ns is no JPEG file")
        image = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
        newest = bisect.bisect_right(self._heard, frame.stamp) - 1
        if newest >= 0:
            _, chunk = self._record.chunks[newest]
            image = draw_path(image, self._path.of(chunk, frame.stamp))
        number = max(0, bisect.bisect_right(self._begun, frame.stamp) - 1)
        attempt = self._record.attempts[number]
        if attempt.touched is None or frame.stamp < attempt.ended:
            return captioned(image, attempt.instruction, None)
        outcome = f"{attempt.seconds:.1f} s" if attempt.right else f"the {attempt.touched}"
        return captioned(image, f"{attempt.instruction}: {outcome}", attempt.right)


def ahead(chunk: ChunkRecord, moment: int) -> np.ndarray:
    """The rest of a chunk from a moment on, which as a rule lies between two of its steps.

    Args:
        chunk: of the joints JOINTS, in any order.
        moment: nanoseconds.

    Returns:
        [k, joints] float64 radians in the order of JOINTS, dt apart; [0, joints] after its end.

    Raises:
        ValueError: the chunk is of other joints.
    """
    if set(chunk.joint_names) != set(JOINTS):
        raise ValueError(f"a chunk of {', '.join(chunk.joint_names)}; expected {', '.join(JOINTS)}")
    columns = [chunk.joint_names.index(name) for name in JOINTS]
    positions = np.asarray(chunk.positions, dtype=np.float64)[:, columns]
    due = chunk.dt * np.arange(1, len(positions) + 1)
    now = (moment - chunk.stamp) / 1e9
    times = np.arange(max(now, due[0]), due[-1] + 1e-9, chunk.dt)
    return np.column_stack([np.interp(times, due, column) for column in positions.T])


class TipPath:
    """The arm's kinematics and the front camera; needs mujoco, no OpenGL."""

    def __init__(self) -> None:
        self._stage = Stage(build_model(lambda spec: None))
        load_mujoco().mj_forward(self._stage.model, self._stage.data)

    def of(self, chunk: ChunkRecord, moment: int) -> np.ndarray:
        """[k, 2] pixels, right and down, NaN behind the camera: see `ahead`."""
        places = self._stage.project(self.tip_positions(ahead(chunk, moment)), "front")
        return (places * (1, -1) + 1) / 2 * (IMAGE_WIDTH, IMAGE_HEIGHT)

    def tip_positions(self, positions: np.ndarray) -> np.ndarray:
        """[n, joints] radians in the order of JOINTS -> [n, 3] metres: of the fingertip."""
        data = self._stage.data
        tips = np.empty((len(positions), 3))
        for tip, row in zip(tips, positions, strict=True):
            data.qpos[: len(JOINTS)] = row
            load_mujoco().mj_kinematics(self._stage.model, data)
            tip[:] = data.site(TIP_SITE).xpos
        return tips


def draw_path(image: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """A copy of an image with a path in it, from white to pink with time.

    Args:
        image: [H, W, 3] uint8 RGB.
        pixels: [k, 2] x and y; NaN, and what is far outside, is left out.
    """
    drawn = image.copy()
    height, width = image.shape[:2]
    with np.errstate(invalid="ignore"):
        near = (np.abs(pixels - (width / 2, height / 2)) < (2 * width, 2 * height)).all(axis=1)
    points = [tuple(map(int, point)) for point in np.round(pixels[near])]
    colours = [tuple(map(int, colour)) for colour in _shades(max(len(points), 2))]
    for thickness, dark in ((7, True), (4, False)):
        for start, end, colour in zip(points, points[1:], colours[1:], strict=False):
            cv2.line(drawn, start, end, _DARK if dark else colour, thickness, cv2.LINE_AA)
    if points:
        colour = colours[len(points) - 1]
        cv2.circle(drawn, points[-1], 8, _DARK, cv2.FILLED, cv2.LINE_AA)
        cv2.circle(drawn, points[-1], 6, colour, cv2.FILLED, cv2.LINE_AA)
    return drawn


def _shades(number: int) -> np.ndarray:
    """[number, 3] RGB of a path, from its beginning to its end."""
    return np.linspace(_SOON, _LATE, number).round().astype(int)


def captioned(image: np.ndarray, text: str, right: bool | None) -> np.ndarray:
    """An image scaled to WIDTH over a line of text.

    Args:
        image: [H, W, 3] uint8 RGB.
        text: to write; it gets smaller if it is long.
        right: colours the text: True green, False red, None white.

    Returns:
        [h, WIDTH, 3] uint8 RGB.
    """
    from PIL import Image, ImageDraw, ImageFont

    height = round(image.shape[0] * WIDTH / image.shape[1])
    frame = np.full((height + _BAR, WIDTH, 3), _DARK, np.uint8)
    frame[:height] = cv2.resize(image, (WIDTH, height), interpolation=cv2.INTER_AREA)
    canvas = Image.fromarray(frame)
    size = 15
    while size > 8 and ImageFont.load_default(size).getlength(text) > WIDTH - 16:
        size -= 1
    ImageDraw.Draw(canvas).text(
        (8, height + _BAR // 2), text, _INK[right], ImageFont.load_default(size), anchor="lm"
    )
    return np.asarray(canvas)


def write_gif(path: Path, frames: Sequence[np.ndarray], limit: int = GIF_BYTES) -> None:
    """Write frames, [H, W, 3] uint8 RGB each, RATE per second; it repeats for ever."""
    if len(frames) > MAX_FRAMES:
        chosen = np.round(np.linspace(0, len(frames) - 1, MAX_FRAMES)).astype(int)
        frames = [frames[index] for index in chosen]
    options = {
        "save_all": True,
        "loop": 0,
        "duration": [1000 // RATE] * (len(frames) - 1) + [_LAST],
    }
    # Not optimised, all frames keep the common palette: what stands still costs nothing.
    _write(path, frames, limit, format="GIF", optimize=False, **options)


def write_png(path: Path, frames: Sequence[np.ndarray], limit: int = PNG_BYTES) -> None:
    """Write frames of the same height, [H, W, 3] uint8 RGB each, side by side."""
    row = [np.concatenate(list(frames), axis=1)] if frames else []
    _write(path, row, limit, format="PNG", optimize=True)


def _write(path: Path, frames: Sequence[np.ndarray], limit: int, **options: Any) -> None:
    """Write a file with as many colours as its size allows.

    Raises:
        ValueError: there are no frames, or even with 32 colours it has more than `limit` bytes.
    """
    if not frames:
        raise ValueError(f"{path}: no frames to write")
    data = b""
    for colours in _COLOURS:
        first, *rest = _with_palette(frames, colours)
        buffer = io.BytesIO()
        first.save(buffer, **options, **({"append_images": rest} if rest else {}))
        data = buffer.getvalue()
        if len(data) <= limit:
            path.write_bytes(data)
            return
    raise ValueError(f"{path}: {len(data)} bytes with {colours} colours; expected at most {limit}")


def _with_palette(frames: Sequence[np.ndarray], colours: int) -> list[Any]:
    """The frames as PIL images of one palette, which a few of them and the path decide.

    No dithering: what stands still has the same pixels in every frame.
    """
    from PIL import Image

    few = np.concatenate(frames[:: max(1, len(frames) // 12)])
    seen = Image.fromarray(few).quantize(colours - _SHADES, Image.Quantize.MEDIANCUT)
    palette = Image.new("P", (1, 1))
    palette.putpalette([*seen.getpalette(), *_shades(_SHADES).ravel().tolist()])
    none = Image.Dither.NONE
    return [Image.fromarray(frame).quantize(palette=palette, dither=none) for frame in frames]
