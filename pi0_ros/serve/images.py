"""Images on the wire: uint8 arrays in either order of axes, floats in [0, 1], or JPEG files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pi0_ros.serve.wire import WireError

MAX_SIDE = 4096
"""Pixels; a JPEG that claims more is not decoded. A file of 1 kB may claim gigabytes."""

JPEG_QUALITY = 95

MAX_SCANS = 32
"""Of a JPEG: progressive ones have about ten. Each costs as much as decoding the whole image, and a
file may have one in every dozen of its bytes."""

_BARE = {0x00, 0x01, *range(0xD0, 0xDB)}  # no segment, or none that may come before the size
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers that have the size


def is_costly(sent: Any) -> bool:
    """Whether decoding takes more than a look: 0.1 s and more for a large JPEG."""
    return not (isinstance(sent, np.ndarray) and sent.dtype == np.uint8)


def decode_all(sent: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """`decode` for each camera."""
    return {camera: decode(image, camera) for camera, image in sent.items()}


def decode(sent: Any, camera: str) -> np.ndarray:
    """[H, W, 3] uint8 RGB of what was sent.

    Raises:
        WireError: it is no image; names the camera.
    """
    if isinstance(sent, bytes):
        return _decode_jpeg(sent, camera)
    if not isinstance(sent, np.ndarray) or sent.ndim != 3 or not sent.size:
        raise WireError(f"camera {camera}: expected an image or JPEG bytes, got {_form(sent)}")
    if sent.shape[0] == 3 and sent.shape[2] != 3:
        sent = np.moveaxis(sent, 0, 2)
    if sent.dtype.kind == "f":  # openpi's data sets have these
        with np.errstate(invalid="ignore"):
            sent = (255 * np.clip(np.nan_to_num(sent), 0, 1)).astype(np.uint8)
    if sent.dtype != np.uint8 or sent.shape[2] != 3 or max(sent.shape[:2]) > MAX_SIDE:
        raise WireError(f"camera {camera}: expected uint8 [H, W, 3], got {_form(sent)}")
    return sent


def encode(image: np.ndarray) -> bytes:
    """A JPEG file of [H, W, 3] uint8 RGB."""
    import cv2

    _, data = cv2.imencode(
        ".jpg", np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    )
    return data.tobytes()


def _decode_jpeg(data: bytes, camera: str) -> np.ndarray:
    import cv2

    size = jpeg_size(data)
    if size is None or not 0 < min(size) <= max(size) <= MAX_SIDE:
        raise WireError(f"camera {camera}: expected a JPEG of at most {MAX_SIDE} pixels a side")
    if data.count(b"\xff\xda") > MAX_SCANS:
        raise WireError(f"camera {camera}: a JPEG of more than {MAX_SCANS} scans")
    try:
        decoded = cv2.imdecode(
            np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        )
    except cv2.error as error:
        raise WireError(f"camera {camera}: OpenCV cannot decode it: {error}") from None
    if decoded is None:
        raise WireError(f"camera {camera}: a damaged JPEG")
    return decoded[..., ::-1]


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Width and height that a JPEG's header gives (ITU T.81, B.2.2); None where it is no JPEG."""
    if data[:2] != b"\xff\xd8":
        return None
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in _FRAMES:
            return int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(
                data[at + 5 : at + 7], "big"
            )
        if marker in _BARE:  # decoders skip some of them, and would find another size than this
            return None
        at += 1 if marker == 0xFF else 2 + max(length, 2)
    return None


def _form(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {list(value.shape)}"
    return type(value).__name__
