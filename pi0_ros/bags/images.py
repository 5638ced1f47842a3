"""Images of recordings and topics: decoded, and made small."""

from __future__ import annotations

import cv2
import numpy as np

from pi0_ros.bags.bag import IMAGE_TYPES
from pi0_ros.node.images import decompress, to_rgb

TO_RGB = dict(zip(IMAGE_TYPES, (to_rgb, decompress), strict=True))
"""Message type -> message to [height, width, 3] uint8 RGB."""


def thumbnail(rgb: np.ndarray, width: int, quality: int = 85) -> bytes:
    """A JPEG file of an image made `width` pixels wide; [height, width, 3] uint8 RGB."""
    height = max(1, round(rgb.shape[0] * width / rgb.shape[1]))
    rgb = np.ascontiguousarray(rgb)
    small = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
    _, jpeg = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return jpeg.tobytes()
