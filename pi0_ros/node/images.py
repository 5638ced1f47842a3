"""sensor_msgs/Image and CompressedImage to [H, W, 3] uint8 RGB arrays.

The common raw encodings become views of the message's own bytes: no copy is made, bgr8 is read
backwards and grey is repeated over the channels by a stride of 0. Messages are used by their
attributes alone, so nothing here needs ROS.

Message definitions: sensor_msgs/msg/Image.msg, CompressedImage.msg; encodings:
sensor_msgs/image_encodings.hpp.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

MAX_SIDE = 16384
"""Pixels; a larger width or height is taken for a damaged message."""

# encoding -> (bytes per pixel, where red, green and blue lie in a pixel)
_COLOUR = {
    "rgb8": (3, slice(None, 3)),
    "rgba8": (4, slice(None, 3)),
    "bgr8": (3, slice(2, None, -1)),
    "bgra8": (4, slice(2, None, -1)),
}
_GREY_8 = ("mono8", "8UC1")
_GREY_16 = ("mono16", "16UC1")
SUPPORTED = (*_COLOUR, *_GREY_8, *_GREY_16)
"""Encodings that need no cv_bridge."""


class ImageError(ValueError):
    """A message that holds no readable image; the text says what is wrong with it."""


def to_rgb(message: Any) -> np.ndarray:
    """The pixels of a sensor_msgs/Image.

    16-bit grey (mono16, 16UC1) is reduced to its high byte, value // 256: full scale is 65535
    whatever the unit, so a depth image in millimetres comes out nearly black.

    Args:
        message: height, width, encoding, is_bigendian, step and data as in sensor_msgs/Image.

    Returns:
        [height, width, 3] uint8 RGB, mostly a view of `message.data`: not to be written to.

    Raises:
        ImageError: sizes that do not fit each other, or an encoding that is not supported.
    """
    _check_sides(message.width, message.height)
    encoding = message.encoding
    if encoding in _COLOUR:
        depth, channels = _COLOUR[encoding]
        return _pixels(message, depth)[..., channels]
    if encoding in _GREY_8:
        return _repeat(_pixels(message, 1)[..., 0])
    if encoding in _GREY_16:
        return _repeat(_pixels(message, 2)[..., 0 if message.is_bigendian else 1])
    return _by_cv_bridge(message)


def decompress(message: Any) -> np.ndarray:
    """The pixels of a sensor_msgs/CompressedImage.

    `format` is "jpeg" or "png", or image_transport's long form "rgb8; jpeg compressed bgr8", whose
    last word tells the order in which the sender gave the colours to the encoder.

    Args:
        message: format and data as in sensor_msgs/CompressedImage.

    Returns:
        [height, width, 3] uint8 RGB.

    Raises:
        ImageError: no data, a format OpenCV cannot read, or damaged data.
    """
    data = np.frombuffer(message.data, np.uint8)
    what = f"compressed image, format {message.format!r}, {data.size} bytes"
    if "compressedDepth" in message.format:
        raise ImageError(f"{what}: compressedDepth is no colour image; use the colour stream")
    if data.size == 0:
        raise ImageError(f"{what}: no data")
    try:
        # A camera's EXIF orientation would rotate the image; raw transport does not.
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise ImageError(f"{what}: OpenCV cannot decode it: {error}") from error
    if decoded is None:
        raise ImageError(f"{what}: OpenCV cannot decode it; expected a whole JPEG or PNG file")
    _check_sides(decoded.shape[1], decoded.shape[0])
    return decoded if "compressed rgb" in message.format else decoded[..., ::-1]


def check(message: Any, transport: str) -> None:
    """Check a message in microseconds: without decoding it, and without cv_bridge.

    Args:
        transport: "raw" or "compressed".

    Raises:
        ImageError: as `to_rgb` or `decompress` would.
    """
    if transport == "raw":
        _check_sides(message.width, message.height)
        if message.encoding in SUPPORTED:
            to_rgb(message)
    elif not len(message.data):
        raise ImageError(f"compressed image, format {message.format!r}: no data")


def _check_sides(width: int, height: int) -> None:
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise ImageError(f"size {width} x {height}: each side must be in [1, {MAX_SIDE}] pixels")


def _pixels(message: Any, depth: int) -> np.ndarray:
    """[height, width, depth] uint8 view of the data; rows are `step` bytes apart."""
    height, width, step = message.height, message.width, message.step
    data = np.frombuffer(message.data, np.uint8)
    what = f"{message.encoding} image of {width} x {height}"
    if step < width * depth:
        raise ImageError(f"{what}: step is {step} bytes, a row needs {width * depth}")
    if data.size != step * height:
        raise ImageError(
            f"{what}: {data.size} bytes of data, but step * height = {step} * {height}"
            f" = {step * height}"
        )
    return data.reshape(height, step)[:, : width * depth].reshape(height, width, depth)


def _repeat(grey: np.ndarray) -> np.ndarray:
    """[H, W] as [H, W, 3] without a copy."""
    return np.broadcast_to(grey[..., None], (*grey.shape, 3))


def _by_cv_bridge(message: Any) -> np.ndarray:
    """Any other encoding, where ROS's cv_bridge is installed and works."""
    refusal = (
        f"encoding {message.encoding!r} is not one of {', '.join(SUPPORTED)}"
        " and cv_bridge (apt package ros-$ROS_DISTRO-cv-bridge)"
    )
    try:
        from cv_bridge import CvBridge
    except (ImportError, AttributeError) as error:
        # AttributeError: a cv_bridge built for another numpy or OpenCV fails inside its import.
        raise ImageError(f"{refusal} is not usable: {error}") from error
    try:
        image = np.asarray(CvBridge().imgmsg_to_cv2(message, desired_encoding="rgb8"))
    except Exception as error:  # cv_bridge raises its own, OpenCV's and numpy's errors
        raise ImageError(f"{refusal} refuses it: {error}") from error
    if image.shape != (message.height, message.width, 3) or image.dtype != np.uint8:
        raise ImageError(f"{refusal} returned {image.dtype} {image.shape}")
    return image
