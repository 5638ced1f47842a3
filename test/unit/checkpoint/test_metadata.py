"""Joint names and pace that checkpoint directories record, in the ways that are in use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pi0_ros.checkpoint.errors import CheckpointError
from pi0_ros.checkpoint.metadata import Declared, read_declared

NAMES = ["pan.pos", "lift.pos"]


def write(path: Path, **files: Any) -> Path:
    for name, document in files.items():
        file = path / name.replace("__", "/")
        file = file.with_name(file.name + ".json")
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(document))
    return path


def info(names: Any, **more: Any) -> dict[str, Any]:
    return {"features": {"observation.state": {"shape": [2], "names": names}}, **more}


def test_nothing_is_recorded_in_most(tmp_path: Path) -> None:
    write(tmp_path, config={"input_features": {"observation.state": {"shape": [2]}}})
    assert read_declared(tmp_path, 2) == Declared()


@pytest.mark.parametrize("names", [NAMES, {"motors": NAMES}])
def test_a_data_set_beside_the_checkpoint(tmp_path: Path, names: Any) -> None:
    found = read_declared(write(tmp_path, meta__info=info(names, fps=30)), 2)
    assert found.joints == tuple(NAMES)
    assert found.joints_source == "meta/info.json: observation.state"
    assert (found.fps, found.fps_source) == (30.0, "meta/info.json: fps")


@pytest.mark.parametrize("names", [["motors"], None, "pan", [1, 2], {"a": NAMES, "b": NAMES}])
def test_what_names_no_joints_is_passed_over(tmp_path: Path, names: Any) -> None:
    write(tmp_path, info=info(names, fps=True), config={"action_feature_names": NAMES[::-1]})
    found = read_declared(tmp_path, 2)
    assert found.joints == tuple(NAMES[::-1])
    assert found.joints_source == "config.json: action_feature_names"
    assert found.fps is None


def test_the_configurations_own_names_come_first(tmp_path: Path) -> None:
    features = {"observation.state": {"type": "STATE", "shape": [2], "names": NAMES}}
    write(tmp_path, config={"input_features": features}, info=info(NAMES[::-1]))
    assert read_declared(tmp_path, 2).joints == tuple(NAMES)


def test_the_pace_of_a_training_configuration(tmp_path: Path) -> None:
    write(tmp_path, config={}, train_config={"env": {"fps": 25}})
    assert read_declared(tmp_path, 2).fps == 25.0


def test_a_damaged_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "info.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"info\.json is not valid JSON"):
        read_declared(tmp_path, 2)
