"""What can be wrong with a robot's messages: each function corrupts a good one.

A function returns the message, the bytes to publish in its place, or None: nothing is published.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

GARBAGE = b"\x00\x01\x00\x00" + b"\xff\xfe\xfd" * 50
"""Well-formed up to the encapsulation header, and no message of any type after it."""

BINARY = b"\x00\x01\x00\x00" + (9).to_bytes(4, "little") + b"\xff\xfe\x80\xc3\x28\xa0\xa1\xf5\x00"
"""A std_msgs/String whose text is no UTF-8."""

LONG = ("pick up the cube and put it into the bowl, " * 300)[:10_240]

Corruption = Callable[[Any, int], Any]
"""(message, count of messages so far) -> message, bytes or None."""


def _silent(message: Any, count: int) -> None:
    return None


def _garbage(message: Any, count: int) -> bytes:
    return GARBAGE


def _shifted(seconds: int) -> Corruption:
    def shift(message: Any, count: int) -> Any:
        message.header.stamp.sec += seconds
        return message

    return shift


def _unstamped(message: Any, count: int) -> Any:
    message.header.stamp.sec = message.header.stamp.nanosec = 0
    return message


# Cameras ----------------------------------------------------------------------------------------


def image(message: Any, width: int, height: int, encoding: str, depth: int, count: int) -> Any:
    """Fill in a image; each count gives another."""
    message.width, message.height = width, height
    message.encoding, message.step = encoding, width * depth
    message.data = bytes([count % 251]) * (width * height * depth)
    return message


def _resized(width: int, height: int) -> Corruption:
    return lambda message, count: image(message, width, height, "rgb8", 3, count)


def _encoded(encoding: str, depth: int) -> Corruption:
    def encode(message: Any, count: int) -> Any:
        return image(message, message.width, message.height, encoding, depth, count)

    return encode


def _truncated(message: Any, count: int) -> Any:
    message.data = message.data[: len(message.data) // 2]
    return message


def _empty(message: Any, count: int) -> Any:
    message.data = b""
    return message


def _wrong_step(message: Any, count: int) -> Any:
    message.step = message.step // 2
    return message


def _frozen(message: Any, count: int) -> Any:
    message.data = bytes([7]) * len(message.data)
    return message


CAMERA: dict[str, Corruption] = {
    "silent": _silent,
    "frozen": _frozen,
    "larger": _resized(320, 240),
    "4K": _resized(3840, 2160),
    "grey": _encoded("mono8", 1),
    "unknown encoding": _encoded("yuv422_nobody_knows", 2),
    "truncated": _truncated,
    "empty": _empty,
    "wrong step": _wrong_step,
    "future": _shifted(30),
    "past": _shifted(-30),
    "unstamped": _unstamped,
    "garbage": _garbage,
}


# Joint states -----------------------------------------------------------------------------------


def _missing(message: Any, count: int) -> Any:
    message.name, message.position = message.name[:-1], message.position[:-1]
    return message


def _parts(message: Any, count: int) -> Any:
    """The gripper and the other joints come in turn."""
    part = slice(-1, None) if count % 2 else slice(0, -1)
    message.name, message.position = message.name[part], message.position[part]
    message.velocity = message.velocity[part]
    return message


def _nan(message: Any, count: int) -> Any:
    message.position[0] = math.nan
    return message


def _lengths(message: Any, count: int) -> Any:
    message.position = message.position[:-2]
    return message


def _doubled(message: Any, count: int) -> Any:
    message.name = [message.name[0], *message.name[:-1]]
    return message


def _strangers(message: Any, count: int) -> Any:
    message.name = [f"other_{name}" for name in message.name]
    return message


JOINT_STATES: dict[str, Corruption] = {
    "silent": _silent,
    "missing": _missing,
    "parts": _parts,
    "NaN": _nan,
    "lengths": _lengths,
    "doubled": _doubled,
    "strangers": _strangers,
    "future": _shifted(30),
    "unstamped": _unstamped,
    "garbage": _garbage,
}


# The instruction, and the deadman ---------------------------------------------------------------


def _text(text: str) -> Corruption:
    def say(message: Any, count: int) -> Any:
        message.data = text
        return message

    return say


def _another(message: Any, count: int) -> Any:
    message.data = f"touch the red cube for the {count}th time"
    return message


INSTRUCTION: dict[str, Corruption] = {
    "silent": _silent,
    "empty": _text(""),
    "10 kB": _text(LONG),
    "binary": lambda message, count: BINARY,
    "changing": _another,
}


def _ahead(message: Any, count: int) -> Any:
    message.stamp.sec += 30
    return message


DEADMAN: dict[str, Corruption] = {"silent": _silent, "future": _ahead}
