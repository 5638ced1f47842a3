"""JSON files of a checkpoint. Anybody may have written them: each value is checked before it is
used.

A `Document` hands out values of the kind that is asked for. A value of another kind or out of range
becomes a problem, and the caller goes on with the default, so that one look finds all problems.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from pi0_ros.checkpoint.errors import CheckpointError, plain, shown

MOST_BYTES = 4 << 20
"""Of a JSON file: 50 times the largest that LeRobot or openpi write, and harmless to parse."""


class Document:
    """A JSON object. An absent key and `null` are the same.

    Attributes:
        where: file and path of keys, for messages.
        problems: list that gets what is wrong.
    """

    def __init__(self, value: Mapping[str, Any], where: str, problems: list[str]) -> None:
        self.where = where
        self.problems = problems
        self._value = value

    def __contains__(self, key: str) -> bool:
        return self._value.get(key) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._value)

    def raw(self, key: str) -> Any:
        """The value as it is, None where there is none: for comparisons and messages."""
        return self._value.get(key)

    def problem(self, text: str) -> None:
        self.problems.append(f"{self.where}: {text}")

    def _get(self, key: str, default: Any, kind: str, accepts: Callable[[Any], bool]) -> Any:
        """The value, if it is accepted; the default where there is none, or one of another kind."""
        value = self._value.get(key)
        if value is None or accepts(value):
            return default if value is None else value
        self.problem(f"{key} must be {kind}, got {shown(value)}")
        return default

    def integer(self, key: str, default: int, low: int, high: int) -> int:
        """Also of a float without a fraction."""
        value = self.number(key, default, low, high)
        if value != int(value):
            return self._get(key, default, "an integer", lambda _: False)
        return int(value)

    def number(self, key: str, default: float, low: float, high: float) -> float:
        kind = f"a number from {low:g} to {high:g}"
        return self._get(key, default, kind, lambda v: _is_number(v) and low <= v <= high)

    def flag(self, key: str, default: bool = False) -> bool:
        return self._get(key, default, "true or false", lambda v: isinstance(v, bool))

    def text(self, key: str, default: str = "") -> str:
        return self._get(key, default, "a string", lambda v: isinstance(v, str))

    def texts(self, key: str) -> tuple[str, ...] | None:
        """A list of strings; None where there is none."""
        value = self._list(key, "strings", lambda item: isinstance(item, str))
        return None if value is None else tuple(value)

    def integers(self, key: str) -> tuple[int, ...]:
        """A list of integers; empty where there is none."""
        return tuple(self._list(key, "integers", lambda item: type(item) is int) or ())

    def numbers(self, key: str) -> list[float] | None:
        """A list of numbers, NaN and infinity among them; None where there is none."""
        value = self._list(key, "numbers", _is_number)
        # An integer may be larger than any float.
        return value and [math.inf if abs(item) > 3e38 else float(item) for item in value]

    def flags(self, key: str, size: int) -> tuple[bool, ...] | None:
        """A list of so many booleans; None where there is none."""
        kinds = [bool] * size
        value = self._get(
            key,
            None,
            f"{size} times true or false",
            lambda v: isinstance(v, list) and [type(item) for item in v] == kinds,
        )
        return None if value is None else tuple(value)

    def child(self, key: str) -> Document:
        """The object under a key; an empty one where there is none."""
        value = self._get(key, {}, "an object", lambda v: isinstance(v, dict))
        return Document(value, f"{self.where}: {key}", self.problems)

    def children(self, key: str) -> list[Document]:
        """The objects of a list; none where there is none."""
        value = self._list(key, "objects", lambda item: isinstance(item, dict)) or []
        where = f"{self.where}: {key}"
        return [Document(item, f"{where}[{i}]", self.problems) for i, item in enumerate(value)]

    def _list(self, key: str, kind: str, accepts: Callable[[Any], bool]) -> list[Any] | None:
        return self._get(
            key, None, f"a list of {kind}", lambda v: isinstance(v, list) and all(map(accepts, v))
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def read_document(directory: Path, name: str, problems: list[str]) -> Document:
    """`read_json` of a file in a checkpoint's directory, as a `Document`."""
    return Document(read_json(directory / name), name, problems)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        CheckpointError: the file cannot be read, is too large, or holds no JSON object.
    """
    try:
        size = path.stat().st_size
        # Editors of Windows put a byte order mark in front.
        value = json.loads(path.read_text(encoding="utf-8-sig")) if size <= MOST_BYTES else None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not valid JSON: {shown(error)}") from error
    if size > MOST_BYTES:
        raise CheckpointError(
            f"{path} has {size / 1e6:.0f} MB; the JSON files of a checkpoint have a few kB: this is"
            " another file, or a damaged one"
        )
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value


def file_inside(directory: Path, document: Document, key: str) -> Path | None:
    """The file that a document names, in the checkpoint's directory or below it.

    Names that lead out of the directory, and files that are not there, become problems and give
    None.
    """
    name = document.text(key)
    if not name:
        return None
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or "\\" in name or "\0" in name or len(name) > 255:
        document.problem(f"{key} leads out of the checkpoint's directory: {shown(name)}")
        return None
    if not (directory / name).is_file():
        document.problem(f"{key} names {plain(name)}, which is missing")
        return None
    return directory / name
