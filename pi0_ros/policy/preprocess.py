"""Images in the form that pi0 takes: square, in [-1, 1], aspect kept, black borders."""

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from pi0_ros.checkpoint.checkpoint import ImageRule


def shrink(image: np.ndarray, size: int, antialias: bool) -> np.ndarray:
    """What `fit_image` makes of an image before it pads it, in whole grey levels.

    With `antialias` it is exactly that; without, within one grey level: OpenCV's resizing takes a
    tenth of the time. An image that is smaller stays as it is. `fit_image` resizes the result no
    more.

    Args:
        image: [H, W, 3] uint8 RGB; any strides.
        size: side of the square, pixels.
        antialias: see `ImageRule`.
    """
    if max(image.shape[:2]) <= size:
        return image
    if antialias:
        return _resized(image, size, antialias)[0].to(torch.uint8).permute(1, 2, 0).numpy()
    height, width = _fitted(image, size)
    return cv2.resize(np.ascontiguousarray(image), (width, height), interpolation=cv2.INTER_LINEAR)


def _fitted(image: np.ndarray, size: int) -> tuple[int, int]:
    """Height and width once the longer side is `size`."""
    height, width = image.shape[:2]
    ratio = max(height / size, width / size)
    return max(1, int(height / ratio)), max(1, int(width / ratio))


def _resized(image: np.ndarray, size: int, antialias: bool) -> torch.Tensor:
    """[1, 3, h, w] float32 in [0, 255], the longer side `size`."""
    fitted = _fitted(image, size)
    # torch takes no negative strides, which reversed colours (BGR to RGB) have.
    # torch warns of arrays that must not be written to, as those of messages are.
    pixels = torch.from_numpy(np.require(image, requirements=("C", "W"))).permute(2, 0, 1)[None]
    if fitted == image.shape[:2]:
        return pixels.float()
    if antialias:
        # On uint8, torch's filter is Pillow's, which openpi uses.
        return F.interpolate(pixels, fitted, mode="bilinear", antialias=True).float()
    return F.interpolate(pixels.float(), fitted, mode="bilinear", align_corners=False)


def fit_image(image: np.ndarray, size: int, rule: ImageRule) -> torch.Tensor:
    """Resize an image into a square and pad it.

    The longer side becomes `size` and the shorter one is truncated to whole pixels, bilinearly.
    Borders are black, -1 after scaling, as openpi pads and as LeRobot does but for 0.4, which pads
    with -3 (see docs/parity.md).

    Args:
        image: [H, W, 3] uint8 RGB; any strides.
        size: side of the square, pixels.
        rule: what the checkpoint's format does; see `ImageRule`.

    Returns:
        [3, size, size] float32 in [-1, 1].

    Raises:
        ValueError: the image has another shape or dtype.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"an image must be [H, W, 3] uint8, got {image.dtype} {list(image.shape)}")
    resized = _resized(image, size, rule.antialias)
    fitted = resized.shape[2:]
    out = torch.full((3, size, size), -1.0)
    top, left = size - fitted[0], size - fitted[1]
    if rule.centred:
        top, left = top // 2, left // 2
    out[:, top : top + fitted[0], left : left + fitted[1]] = resized[0] / 127.5 - 1.0
    return out
