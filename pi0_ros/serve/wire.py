"""Messages of openpi's policy protocol: msgpack maps that hold numpy arrays.

An array is a map with the keys `__ndarray__`, `data`, `dtype` and `shape` as msgpack BIN, a scalar
one with `__npgeneric__`, `data` and `dtype` (openpi-client 0.1.2, msgpack_numpy.py). Whoever
reaches the port can send anything, so sizes are bounded before they are allocated, and no dtype
leads to Python objects.
"""

from __future__ import annotations

import itertools
import re
import reprlib
from collections.abc import Mapping
from typing import Any

import msgpack
import numpy as np

MAX_MESSAGE = 32 << 20
"""Bytes of a message: three raw images of 1280 x 720 are 8 MB."""

_MAX_ENTRIES = 1024  # of a list; arrays of numbers are bytes
_MAX_KEYS = 256
_MAX_CONTAINERS = 1024  # lists and maps of a message: an empty one is a byte of it, and 64 here
_MAX_TEXT = 1 << 16
_DTYPE = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])")


class WireError(ValueError):
    """A message that is none; the text says what is wrong with it."""


def pack(message: Mapping[str, Any]) -> bytes:
    """A message as bytes.

    Raises:
        TypeError: a value is neither plain nor an array of numbers.
    """
    return msgpack.packb(message, default=_packed)


def unpack(data: bytes | str) -> dict[str, Any]:
    """The message in a frame; its arrays are read-only views of `data`.

    Raises:
        WireError: it is no map of text keys, or something in it is malformed or too large.
    """
    if isinstance(data, str):
        raise WireError("a text frame, expected a binary one with msgpack")
    containers = itertools.count(1)

    def bounded(value: Any) -> Any:
        if next(containers) > _MAX_CONTAINERS:
            raise WireError(f"more than {_MAX_CONTAINERS} lists and maps")
        return _unpacked(value) if isinstance(value, dict) else value

    try:
        message = msgpack.unpackb(
            data,
            object_hook=bounded,
            list_hook=bounded,
            max_array_len=_MAX_ENTRIES,
            max_map_len=_MAX_KEYS,
            max_str_len=_MAX_TEXT,
            max_ext_len=0,
        )
    except WireError:
        raise
    # msgpack's own errors are ValueErrors but for its UnpackExceptions.
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise WireError(f"not msgpack within the bounds: {type(error).__name__}: {error}") from None
    if not isinstance(message, dict) or not all(isinstance(key, str) for key in message):
        raise WireError(f"expected a map with text keys, got {_kind(message)}")
    return message


def numbers(value: Any, what: str, ndim: int | None = None) -> np.ndarray:
    """An array of finite or infinite real numbers, or a list of them, as an array.

    Raises:
        WireError: it is something else; names `what`.
    """
    if not isinstance(value, (np.ndarray, np.generic, list, int, float)):
        raise WireError(f"{what}: expected an array of numbers, got {_kind(value)}")
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError) as error:
        raise WireError(f"{what}: {error}") from None
    if array.dtype.kind not in "biuf" or (ndim is not None and array.ndim != ndim):
        wanted = "" if ndim is None else f" of {ndim} dimensions"
        raise WireError(
            f"{what}: expected an array of numbers{wanted}, got {array.dtype} {list(array.shape)}"
        )
    return array


def _packed(value: Any) -> Any:
    """What msgpack does not know itself."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        data = np.ascontiguousarray(value)
        return {
            b"__ndarray__": True,
            b"data": data.data if data.size else b"",
            b"dtype": value.dtype.str,
            b"shape": value.shape,
        }
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    raise TypeError(f"cannot be sent: {_kind(value)}")


def _unpacked(value: dict[Any, Any]) -> Any:
    if b"__ndarray__" in value:
        return _array(value)
    if b"__npgeneric__" in value:
        dtype, number = _dtype(value.get(b"dtype")), value.get(b"data")
        if not isinstance(number, (bool, int, float)):
            raise WireError(f"a scalar whose data is {_kind(number)}")
        try:
            return dtype.type(number)
        except (OverflowError, ValueError) as error:
            raise WireError(f"a scalar: {error}") from None
    return value


def _array(value: dict[Any, Any]) -> np.ndarray:
    dtype, shape, data = _dtype(value.get(b"dtype")), value.get(b"shape"), value.get(b"data")
    whole = isinstance(shape, list) and all(type(n) is int and n >= 0 for n in shape)
    if not whole or len(shape) > 8 or not isinstance(data, bytes):
        raise WireError(f"an array with the shape {_kind(shape)} and the data {_kind(data)}")
    size = dtype.itemsize
    for side in shape:
        size *= side
    if size != len(data):
        raise WireError(f"an array {dtype.str} {shape} needs {size} bytes, got {len(data)}")
    if not size:  # a huge side may hide behind a side of 0
        return np.empty([min(side, 1) for side in shape], dtype)
    return np.frombuffer(data, dtype).reshape(shape)


def _dtype(text: Any) -> np.dtype:
    if not isinstance(text, str) or not _DTYPE.fullmatch(text):
        raise WireError(f"a dtype that is no plain number: {_kind(text)}")
    return np.dtype(text)


def _kind(value: Any) -> str:
    """A value for a message: short, whatever it is."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {list(value.shape)}"
    text = reprlib.repr(value) if isinstance(value, (str, int, float, list, bool)) else ""
    return f"{type(value).__name__} {text[:60]}".rstrip()
