"""What a checkpoint directory declares about its training data: joint names and rate.

Formats do not require it. LeRobot's data sets name every number of the state in meta/info.json,
which some users keep next to the checkpoint; newer configurations have the names of the actions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pi0_ros.checkpoint.directory import CONFIG
from pi0_ros.checkpoint.document import Document, read_json
from pi0_ros.checkpoint.native import read_units

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
    names, names_source = (), ""
    fps, fps_source = None, ""
    for source, value in _name_places(path):
        found = _strings(value)
        if len(found) == joints:
            names, names_source = found, source
            break
    for source, value in _fps_places(path):
        if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0:
            fps, fps_source = float(value), source
            break
    units = read_units(Document(_document(path / CONFIG), CONFIG, []), joints)
    return Declared(names, names_source, fps, fps_source, *units)


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
