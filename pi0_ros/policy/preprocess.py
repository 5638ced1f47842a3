"""Images in the form that pi0 takes: square, in [-1, 1], aspect kept, black borders."""

import numpy as np
import torch
import torch.nn.functional as F

from pi0_ros.checkpoint.checkpoint import ImageRule


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
    height, width = image.shape[:2]
    ratio = max(height / size, width / size)
    fitted = max(1, int(height / ratio)), max(1, int(width / ratio))
    # torch takes no negative strides, which reversed colours (BGR to RGB) have.
    # torch warns of arrays that must not be written to, as those of messages are.
    pixels = torch.from_numpy(np.require(image, requirements=("C", "W"))).permute(2, 0, 1)[None]
    if fitted == (height, width):
        resized = pixels.float()
    elif rule.antialias:
        # On uint8, torch's filter is Pillow's, which openpi uses.
        resized = F.interpolate(pixels, fitted, mode="bilinear", antialias=True).float()
    else:
        resized = F.interpolate(pixels.float(), fitted, mode="bilinear", align_corners=False)
    out = torch.full((3, size, size), -1.0)
    top, left = size - fitted[0], size - fitted[1]
    if rule.centred:
        top, left = top // 2, left // 2
    out[:, top : top + fitted[0], left : left + fitted[1]] = resized[0] / 127.5 - 1.0
    return out
