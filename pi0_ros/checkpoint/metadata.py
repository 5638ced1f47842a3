"""What a checkpoint directory declares about its training data: joint names and rate.

Formats do not require it. LeRobot's data sets name every number of the state in meta/info.json,
which some users keep next to the checkpoint; newer configurations have the names of the actions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pi0_ros.checkpoint.directory import CONFIG
from pi0_ros.checkpoint.document import Document, read_json

_DATA_SETS = ("meta/info.json", "info.json")
_TRAINING = "train_config.json"


@dataclass(frozen=True)
class Declared:
    """What is recorded, and where.

    Attributes:
        joints: name of each number of the state; empty where not declared.
        joints_source: file and key, for messages; "" without names.
        fps: observations and actions per second; None where not declared.
        fps_source: file and key; "" without a rate.
        unit_scale, unit_offset: per joint, radians = scale * the checkpoint's unit + offset; empty
            where not declared.
    """

    joints: tuple[str, ...] = ()
    joints_source: str = ""
    fps: float | None = None
    fps_source: str = ""
    unit_scale: tuple[float, ...] = ()
    unit_offset: tuple[float, ...] = ()


def read_declared(path: Path, joints: int) -> Declared:
    """Read what a checkpoint directory records about its data.

    Args:
        path: the checkpoint's directory.
        joints: how many names make a list of joint names; others (`["motors"]`) name an axis.

    Raises:
        CheckpointError: one of the files is no JSON object.
    """
    names = ((_strings(value), source) for source, value in _name_places(path))
    joints_of = next(((found, at) for found, at in names if len(found) == joints), ((), ""))
    rates = ((value, source) for source, value in _fps_places(path))
    fps_of = next(((float(value), at) for value, at in rates if _is_rate(value)), (None, ""))
    units = _units(Document(_document(path / CONFIG), CONFIG, []), joints)
    return Declared(*joints_of, *fps_of, *units)


def _is_rate(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0


def _units(document: Document, joints: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(scale, offset) per joint, radians per unit; empty where they are not declared."""
    units = document.child("units")
    scale, offset = (units.numbers(name) or [] for name in ("scale", "offset"))
    if len(scale) != joints or len(offset) != joints or not np.isfinite([*scale, *offset]).all():
        return (), ()
    return tuple(scale), tuple(offset)


def _name_places(path: Path) -> Iterator[tuple[str, Any]]:
    """(file and key, value) of every place that may name the joints, the most reliable first."""
    config = _document(path / CONFIG)
    inputs, outputs = "input_features", "output_features"
    yield f"{CONFIG}: observation.state", _at(config, inputs, "observation.state", "names")
    yield f"{CONFIG}: action", _at(config, outputs, "action", "names")
    yield f"{CONFIG}: action_feature_names", config.get("action_feature_names")
    for name in _DATA_SETS:
        document = _document(path / name)
        for feature in ("observation.state", "action"):
            yield f"{name}: {feature}", _at(document, "features", feature, "names")


def _fps_places(path: Path) -> Iterator[tuple[str, Any]]:
    yield f"{CONFIG}: fps", _document(path / CONFIG).get("fps")
    for name in _DATA_SETS:
        yield f"{name}: fps", _document(path / name).get("fps")
    yield f"{_TRAINING}: env.fps", _at(_document(path / _TRAINING), "env", "fps")


def _document(file: Path) -> dict[str, Any]:
    return read_json(file) if file.is_file() else {}


def _at(document: Any, *keys: str) -> Any:
    """The value at a path of keys; None where it breaks off."""
    for key in keys:
        document = document.get(key) if isinstance(document, dict) else None
    return document


def _strings(value: Any) -> tuple[str, ...]:
    """The names in a list, or in the one list of an object ({"motors": [...]}); else none."""
    if isinstance(value, dict) and len(value) == 1:
        value = next(iter(value.values()))
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return tuple(value)
    return ()
