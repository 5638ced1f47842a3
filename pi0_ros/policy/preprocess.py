"""Images in the form that pi0 takes: square, in [-1, 1], aspect kept, black borders."""

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from pi0_ros.checkpoint.checkpoint import ImageRule

RESIZES = ("auto", "host", "device")
"""Where images are resized: `auto` is the device where one transfers while the host goes on."""


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
    if image.strides[2] < 0:  # see _resized
        return shrink(image[..., ::-1], size, antialias)[..., ::-1]
    if antialias:
        return _resized(image, size, antialias)[0].to(torch.uint8).permute(1, 2, 0).numpy()
    height, width = _fitted(image, size)
    return cv2.resize(np.ascontiguousarray(image), (width, height), interpolation=cv2.INTER_LINEAR)


def _fitted(image: np.ndarray | torch.Tensor, size: int) -> tuple[int, int]:
    """Height and width once the longer side is `size`."""
    height, width = image.shape[:2]
    ratio = max(height / size, width / size)
    return max(1, int(height / ratio)), max(1, int(width / ratio))


def _resized(image: np.ndarray, size: int, antialias: bool) -> torch.Tensor:
    """[1, 3, h, w] float32 in [0, 255], the longer side `size`."""
    if image.strides[2] < 0:
        # Reversed colours (BGR to RGB): torch takes no negative strides, and to copy an image
        # backwards takes 1 ms at 640 x 480. So it is resized as it lies in memory.
        return _resized(image[..., ::-1], size, antialias).flip(1)
    fitted = _fitted(image, size)
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
    check_image(image)
    resized = _resized(image, size, rule.antialias)
    fitted = resized.shape[2:]
    top, left = _corner(fitted, size, rule)
    out = torch.full((3, size, size), -1.0)
    out[:, top : top + fitted[0], left : left + fitted[1]] = resized[0] / 127.5 - 1.0
    return out


def check_image(image: np.ndarray) -> None:
    """Raises ValueError where an image is not [H, W, 3] uint8, or empty."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"an image must be [H, W, 3] uint8, got {image.dtype} {list(image.shape)}")


def fit_pixels(pixels: torch.Tensor, size: int, rule: ImageRule) -> torch.Tensor:
    """`fit_image` on any device.

    The result is that of `fit_image` to within one of the 255 steps of a colour, and nearly
    everywhere the same.

    Args:
        pixels: [H, W, 3] uint8 RGB.
    """
    height, width = pixels.shape[:2]
    fitted = _fitted(pixels, size)
    top, left = _corner(fitted, size, rule)
    x = pixels.permute(2, 0, 1)[None].float()
    if rule.antialias:
        # Rows first, then columns, each rounded, as the filter for eight bits does.
        if fitted[1] != width:
            x = (x @ _filter(width, fitted[1], x.device).t() + 0.5).floor_()
        if fitted[0] != height:
            x = (_filter(height, fitted[0], x.device) @ x + 0.5).floor_()
    elif fitted != (height, width):
        x = F.interpolate(x, fitted, mode="bilinear", align_corners=False)
    border = left, size - fitted[1] - left, top, size - fitted[0] - top
    return F.pad(x[0] / 127.5 - 1.0, border, value=-1.0)


@lru_cache(maxsize=64)
def _filter(size: int, fitted: int, device: torch.device) -> torch.Tensor:
    """[fitted, size] float32 weights of antialiased bilinear resizing along one axis.

    They are Pillow's for eight bits, which torch uses on a CPU too: a triangle as wide as the
    shrinking, rounded to as many binary places as let the largest weight fit into 16 bits. So the
    sums are exact in float32 up to a shrinking by four.
    """
    scale = size / fitted
    reach = max(scale, 1.0)
    centre = (np.arange(fitted)[:, None] + 0.5) * scale
    first = np.maximum((centre - reach + 0.5).astype(int), 0)
    last = np.minimum((centre + reach + 0.5).astype(int), size)
    pixel = np.arange(size)[None]
    weights = np.maximum(1.0 - np.abs(pixel - centre + 0.5) / reach, 0.0)
    weights *= (pixel >= first) & (pixel < last)
    weights /= weights.sum(axis=1, keepdims=True)
    places = next((n for n in range(22) if weights.max() * 2 ** (n + 1) + 0.5 >= 2**15), 22)
    weights = np.floor(weights * 2**places + 0.5) / 2**places
    return torch.from_numpy(weights.astype(np.float32)).to(device)


def _corner(fitted: Sequence[int], size: int, rule: ImageRule) -> tuple[int, int]:
    """The pixels above and left of an image within the square."""
    top, left = size - fitted[0], size - fitted[1]
    return (top // 2, left // 2) if rule.centred else (top, left)
