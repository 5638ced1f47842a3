"""sensor_msgs/Image and CompressedImage to [H, W, 3] uint8 RGB arrays.

Encodings that name their pixels become views of the message's own bytes: no copy is made, bgr8 is
read backwards, 16 bits are reduced to their high byte by a stride, and grey is repeated over the
channels by a stride of 0. OpenCV converts Bayer mosaics and YUV. Messages are used by their
attributes alone, so nothing here needs ROS.

Message definitions: sensor_msgs/msg/Image.msg, CompressedImage.msg; encodings:
sensor_msgs/image_encodings.hpp.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import cv2
import numpy as np

from pi0_ros.node.image_headers import count_scans, read_size

MAX_SIDE = 16384
"""Pixels; a larger width or height is taken for a damaged message."""

MAX_PIXELS = 2**26
"""Of a compressed image: a file of a megabyte may hold gigabytes of one colour."""

MAX_SCANS = 32
"""Of a JPEG; progressive ones have about ten."""

_LONGEST = 80  # characters of a message's text that an error shows


@dataclass(frozen=True)
class _Layout:
    """How an encoding lays out its bytes.

    Attributes:
        channels: numbers per pixel, beside each other.
        bytes: per number.
        order: where red, green and blue lie in a pixel; None: grey, or `code` converts.
        code: of cv2.cvtColor to RGB; None: a view.
        rows: of bytes per row of pixels: planes below each other.
        even: both sides have to be even, or (1) the width only.
    """

    channels: int
    bytes: int = 1
    order: slice | None = None
    code: int | None = None
    rows: Fraction = Fraction(1)
    even: int = 0


_RGB, _BGR = slice(None, 3), slice(2, None, -1)
# OpenCV names a mosaic by its second row, from the second column on: RGGB is BayerBG.
_MOSAICS = {
    "rggb": cv2.COLOR_BayerBG2RGB,
    "bggr": cv2.COLOR_BayerRG2RGB,
    "gbrg": cv2.COLOR_BayerGR2RGB,
    "grbg": cv2.COLOR_BayerGB2RGB,
}
_YUYV = _Layout(2, code=cv2.COLOR_YUV2RGB_YUY2, even=1)
_UYVY = _Layout(2, code=cv2.COLOR_YUV2RGB_UYVY, even=1)
_LAYOUTS = {
    "rgb8": _Layout(3, order=_RGB),
    "rgba8": _Layout(4, order=_RGB),
    "bgr8": _Layout(3, order=_BGR),
    "bgra8": _Layout(4, order=_BGR),
    "rgb16": _Layout(3, 2, order=_RGB),
    "rgba16": _Layout(4, 2, order=_RGB),
    "bgr16": _Layout(3, 2, order=_BGR),
    "bgra16": _Layout(4, 2, order=_BGR),
    # OpenCV's types say nothing of the order; OpenCV's own is blue, green, red.
    "8UC3": _Layout(3, order=_BGR),
    "8UC4": _Layout(4, order=_BGR),
    "16UC3": _Layout(3, 2, order=_BGR),
    "16UC4": _Layout(4, 2, order=_BGR),
    "mono8": _Layout(1),
    "8UC1": _Layout(1),
    "mono16": _Layout(1, 2),
    "16UC1": _Layout(1, 2),
    **{f"bayer_{name}8": _Layout(1, code=code) for name, code in _MOSAICS.items()},
    **{f"bayer_{name}16": _Layout(1, 2, code=code) for name, code in _MOSAICS.items()},
    "yuyv": _YUYV,
    "yuv422_yuy2": _YUYV,
    "uyvy": _UYVY,
    "yuv422": _UYVY,
    "nv12": _Layout(1, code=cv2.COLOR_YUV2RGB_NV12, rows=Fraction(3, 2), even=2),
    "nv21": _Layout(1, code=cv2.COLOR_YUV2RGB_NV21, rows=Fraction(3, 2), even=2),
}
SUPPORTED = tuple(_LAYOUTS)
_BY_LOWER_CASE = {name.lower(): layout for name, layout in _LAYOUTS.items()}


class ImageError(ValueError):
    """A message that holds no readable image; the text says what is wrong with it."""


def to_rgb(message: Any) -> np.ndarray:
    """The pixels of a sensor_msgs/Image.

    Numbers of 16 bits are reduced to their high byte, value // 256: full scale is 65535 whatever
    the unit, so a depth image in millimetres comes out nearly black. YUV is taken as BT.601 with
    limited range, as UVC cameras send it.

    Args:
        message: height, width, encoding, is_bigendian, step and data as in sensor_msgs/Image;
            capital letters of an encoding do not matter.

    Returns:
        [height, width, 3] uint8 RGB, mostly a view of `message.data`: not to be written to.

    Raises:
        ImageError: sizes that do not fit each other, or an encoding that is not supported.
    """
    layout, rows = _rows(message)
    if layout.bytes == 2:
        rows = rows[:, 0 if message.is_bigendian else 1 :: 2]
    pixels = rows.reshape(len(rows), -1, layout.channels)
    if layout.code is not None:
        try:
            return cv2.cvtColor(np.ascontiguousarray(pixels), layout.code)
        except cv2.error as error:
            raise ImageError(f"{_what(message)}: OpenCV cannot convert it: {error}") from error
    if layout.order is not None:
        return pixels[..., layout.order]
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3))


def decompress(message: Any) -> np.ndarray:
    """The pixels of a sensor_msgs/CompressedImage: a JPEG, PNG or WebP file.

    `format` is "jpeg" or "png", or image_transport's long form "rgb8; jpeg compressed bgr8", whose
    last word tells the order in which the sender gave the colours to the encoder. The file's header
    is read before the file is decoded.

    Args:
        message: format and data as in sensor_msgs/CompressedImage.

    Returns:
        [height, width, 3] uint8 RGB.

    Raises:
        ImageError: no data, another kind of file, an image of more than MAX_SIDE or MAX_PIXELS, or
            damaged data.
    """
    _check_file(message)
    if count_scans(message.data) > MAX_SCANS:
        raise ImageError(f"{_file(message)}: a JPEG of more than {MAX_SCANS} scans")
    try:
        # A camera's EXIF orientation would rotate the image; raw transport does not.
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        decoded = cv2.imdecode(np.frombuffer(message.data, np.uint8), flags)
    except cv2.error as error:
        raise ImageError(f"{_file(message)}: OpenCV cannot decode it: {error}") from error
    if decoded is None:
        raise ImageError(f"{_file(message)}: OpenCV cannot decode it; the file is damaged")
    return decoded if "compressed rgb" in message.format else decoded[..., ::-1]


def check(message: Any, transport: str) -> None:
    """Check a message in microseconds, without converting or decoding it.

    Args:
        transport: "raw" or "compressed".

    Raises:
        ImageError: as `to_rgb` or `decompress` would, but for damage inside a file.
    """
    if transport == "raw":
        _rows(message)
    else:
        _check_file(message)


def _check_sides(width: int, height: int) -> None:
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise ImageError(f"size {width} x {height}: each side must be in [1, {MAX_SIDE}] pixels")


# Raw ----------------------------------------------------------------------------------------------


def _rows(message: Any) -> tuple[_Layout, np.ndarray]:
    """The layout, and [rows, bytes of a row] uint8, a view of the data; rows are `step` apart."""
    height, width, step = message.height, message.width, message.step
    _check_sides(width, height)
    layout = _BY_LOWER_CASE.get(message.encoding.lower())
    if layout is None:
        named = message.encoding[:_LONGEST]
        raise ImageError(f"encoding {named!r} is not one of {', '.join(SUPPORTED)}")
    if (layout.even and width % 2) or (layout.even == 2 and height % 2):
        sides = "width" if layout.even == 1 else "width and height"
        raise ImageError(f"{_what(message)}: {sides} must be even")
    length = width * layout.channels * layout.bytes
    if step < length:
        raise ImageError(f"{_what(message)}: step is {step} bytes, a row needs {length}")
    data = np.frombuffer(message.data, np.uint8)
    rows = int(height * layout.rows)
    if data.size != step * rows:
        planes = "" if layout.rows == 1 else f" * {layout.rows}"
        raise ImageError(
            f"{_what(message)}: {data.size} bytes of data, but step * height{planes} = {step} *"
            f" {height}{planes} = {step * rows}"
        )
    return layout, data.reshape(rows, step)[:, :length]


def _what(message: Any) -> str:
    return f"{message.encoding} image of {message.width} x {message.height}"


# Compressed ---------------------------------------------------------------------------------------


def _check_file(message: Any) -> None:
    """Raises ImageError: what the header says is not what can be decoded."""
    if "compressedDepth" in message.format:
        what = f"{_file(message)}: compressedDepth is no colour image; use the colour stream"
        raise ImageError(what)
    if not len(message.data):
        raise ImageError(f"{_file(message)}: no data")
    size = read_size(memoryview(message.data))
    if size is None:
        raise ImageError(f"{_file(message)}: OpenCV cannot decode it; expected a JPEG, PNG or WebP")
    _check_sides(*size)
    if size[0] * size[1] > MAX_PIXELS:
        raise ImageError(
            f"{_file(message)}: {size[0]} x {size[1]} pixels, at most {MAX_PIXELS} are decoded"
        )


def _file(message: Any) -> str:
    return f"compressed image, format {message.format[:_LONGEST]!r}, {len(message.data)} bytes"
