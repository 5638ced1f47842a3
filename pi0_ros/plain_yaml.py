"""YAML that users write, as plain values: the one place where the package reads it.

Scalars are read as rcl reads parameter files: quoted ones are strings, `1e3` is a number, `1:30` a
string. A key that is declared twice is an error, tags are errors, and a document that is small on
disk cannot become large or slow in memory.
"""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from pi0_ros.errors import UserError

LARGEST = 2**20
"""Bytes of a document at most, and characters of one whose aliases are written out."""

DEEPEST = 50
"""Levels of mappings and lists at most."""

LONGEST_NUMBER = 100
"""Characters of a number at most."""

_TRUE = {"y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"}
_FALSE = {"n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"}
_WHOLE = re.compile(r"[-+]?(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)")
_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"[-+]?\.?(nan|inf|infinity)", re.IGNORECASE)

# libyaml, where PyYAML has it, reads a megabyte 20 times faster.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class YamlError(UserError, ValueError):
    """No YAML, or YAML that is not read; the sentence names the line and what to do."""


def read_yaml(content: bytes | str, aliases: bool = True) -> Any:
    """The document as dict, list, str, bool, int and float; None where it is empty.

    Keys are strings, as they are written. A merge key (`<<`) adds the entries of another mapping.

    Args:
        aliases: whether `*name` and `<<` are read; ROS reads neither in parameter files.

    Raises:
        YamlError: no YAML; a key twice; a tag; too large, too deep; a number that is too long.
    """
    if len(content) > LARGEST:
        raise YamlError(f"larger than {LARGEST} bytes")
    try:
        return _Reader(yaml.parse(content, Loader=_LOADER), aliases).document()
    except (yaml.YAMLError, UnicodeError) as error:
        if "maximum nesting depth" in str(error):  # a libyaml with a bound of its own is earlier
            raise YamlError(f"deeper than {DEEPEST} levels") from error
        raise YamlError(f"no YAML: {' '.join(str(error).split())}") from error


def read_yaml_file(path: Path, aliases: bool = True) -> Any:
    """As `read_yaml`; no more than LARGEST bytes are read.

    Raises:
        OSError, YamlError.
    """
    with path.open("rb") as file:
        return read_yaml(file.read(LARGEST + 1), aliases)


def short(value: Any) -> str:
    """`repr` of a value that was read, of bounded length."""
    return reprlib.repr(value)


class _Reader:
    """Makes values of the parser's events; values have a size, which counts written-out aliases."""

    def __init__(self, events: Iterator[Any], aliases: bool) -> None:
        self._events = events
        self._aliases = aliases
        self._anchors: dict[str, tuple[Any, int] | None] = {}  # None: the value is not complete
        self._path: list[str] = []

    def document(self) -> Any:
        value = None
        for number, event in enumerate(e for e in self._events if _begins_value(e)):
            if number:
                self._fail(event, "a second document; expected one")
            value, _ = self._value(event)
        return value

    def _value(self, event: Any) -> tuple[Any, int]:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        if event.tag not in (None, "!") or (event.tag == "!" and not event.style):
            self._fail(event, _about_tag(event))
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        if isinstance(event, yaml.ScalarEvent):
            found = self._scalar(event), len(event.value) + 1
        else:
            if len(self._path) >= DEEPEST:
                self._fail(event, f"deeper than {DEEPEST} levels")
            mapping = isinstance(event, yaml.MappingStartEvent)
            found = self._mapping() if mapping else self._sequence()
        if found[1] > LARGEST:
            self._fail(event, f"larger than {LARGEST} characters with its aliases written out")
        if event.anchor is not None:
            self._anchors[event.anchor] = found
        return found

    def _mapping(self) -> tuple[dict[str, Any], int]:
        values: dict[str, Any] = {}
        size = 1
        for event in self._until(yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent) or event.tag not in (None, "!"):
                self._fail(event, "a key that is no plain word")
            key = event.value
            self._path.append(key)
            value, more = self._value(next(self._events))
            size += len(key) + more
            merged = key == "<<" and not event.style
            for name, entry in self._merged(event, value) if merged else [(key, value)]:
                if name in values:
                    named = ".".join([*self._path[:-1], name])
                    self._fail(event, f"{_cut(named)} is declared twice")
                values[name] = entry
            self._path.pop()
        return values, size

    def _merged(self, event: Any, value: Any) -> list[tuple[str, Any]]:
        if not self._aliases:
            self._fail(event, "a merge key; ROS reads none in parameter files")
        mappings = value if isinstance(value, list) else [value]
        if not all(isinstance(mapping, dict) for mapping in mappings):
            self._fail(event, "a merge key takes a mapping, or a list of them")
        return [item for mapping in mappings for item in mapping.items()]

    def _sequence(self) -> tuple[list[Any], int]:
        values, size = [], 1
        self._path.append("[]")
        for event in self._until(yaml.SequenceEndEvent):
            value, more = self._value(event)
            values.append(value)
            size += more
        self._path.pop()
        return values, size

    def _until(self, end: type) -> Iterator[Any]:
        return iter(lambda: _unless(next(self._events), end), None)

    def _alias(self, event: Any) -> tuple[Any, int]:
        if not self._aliases:
            self._fail(event, f"the alias *{_cut(event.anchor)}; ROS reads none in parameter files")
        found = self._anchors.get(event.anchor)
        if found is None:
            self._fail(event, f"the alias *{_cut(event.anchor)} stands for nothing before it")
        return found

    def _scalar(self, event: Any) -> bool | int | float | str:
        text = event.value
        if event.style:
            return text
        if text in _TRUE or text in _FALSE:
            return text in _TRUE
        if len(text) > LONGEST_NUMBER:
            if re.match(r"[-+.]?[0-9][0-9.:_xa-fA-F]*\Z", text):
                self._fail(event, f"a number of {len(text)} characters")
            return text
        if _WHOLE.fullmatch(text):
            digits = text.lstrip("+-")
            octal = len(digits) > 1 and digits[0] == "0" and digits[1] not in "xX"
            whole = int(text, 8) if octal else int(text, 0)
            if not -(2**63) <= whole < 2**63:
                self._fail(event, f"a whole number beyond 64 bits: {text}")
            return whole
        if _NUMBER.fullmatch(text):
            return float(text)
        if _SPECIAL.fullmatch(text):
            value = float(text.replace(".", ""))
            return math.nan if math.isnan(value) else value
        return text

    def _fail(self, event: Any, what: str) -> None:
        raise YamlError(f"line {event.start_mark.line + 1}: {what}")


def _begins_value(event: Any) -> bool:
    return isinstance(event, yaml.NodeEvent)


def _unless(event: Any, end: type) -> Any:
    return None if isinstance(event, end) else event


def _about_tag(event: Any) -> str:
    name, value = event.tag, getattr(event, "value", "")
    if name in ("!degrees", "!radians"):
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        radians = math.radians(number) if name == "!degrees" else number
        if math.isfinite(radians):
            return f"the tag {name} is xacro's; write {radians:.6g}, which is in radians"
    return f"the tag {_cut(name)} is not read; write the plain value"


def _cut(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."
