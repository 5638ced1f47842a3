"""What a directory of `pi0 convert --params` says about the robot, in place of parameters.

Such a directory has the joints' names, units and pace that the node was given when it was made, so
a robot starts from one folder. Parameters win where they are given, and the preflight refuses
contradictions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pi0_ros.checkpoint.document import read_json
from pi0_ros.checkpoint.errors import CheckpointError
from pi0_ros.share import user_path

NATIVE = "pi0_ros"
"""`pi0_ros.checkpoint.native.NATIVE`, which imports torch."""


def fill_declared(given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Adds what the checkpoint's directory declares to the parameters that are given.

    Args:
        given: as for `pi0_ros.node.parameters.read_parameters`.

    Returns:
        The parameters with `cameras`, `joints`, `joint.<name>.scale` and `.offset`, and `action_dt`
        where they are not given; and a sentence about each source. A directory that is not of
        `pi0 convert --params`, or cannot be read, adds nothing: the preflight judges it.
    """
    filled = dict(given)
    path = user_path(str(given.get("checkpoint") or ""))
    file = path / "config.json"
    try:
        if not (given.get("checkpoint") and file.is_file()):
            return filled, []
        config = read_json(file)
        if config.get("type") != NATIVE or not isinstance(config.get("joints"), int):
            return filled, []
        from pi0_ros.checkpoint.metadata import read_declared

        declared = read_declared(path, config["joints"])
    except (CheckpointError, OSError):
        return filled, []
    if not declared.joints or not declared.fps or not declared.unit_scale:
        return filled, []
    notes = []

    def take(name: str, value: Any) -> bool:
        if filled.get(name) is not None:
            return False
        filled[name] = value
        return True

    cameras = config.get("cameras")
    named = isinstance(cameras, list) and all(isinstance(one, str) for one in cameras)
    if named and cameras and take("cameras", cameras):
        notes.append(f"cameras: {cameras}")
    if take("joints", list(declared.joints)):
        notes.append(f"joints: {list(declared.joints)}")
    joints = filled["joints"]
    if isinstance(joints, (list, tuple)) and len(joints) == len(declared.unit_scale):
        units = zip(joints, declared.unit_scale, declared.unit_offset, strict=True)
        notes += [
            f"joint.{joint}.{field}: {value:.6g}"
            for joint, *unit in units
            for field, value in zip(("scale", "offset"), unit, strict=True)
            if take(f"joint.{joint}.{field}", value)
        ]
    if not given.get("fps") and take("action_dt", 1 / declared.fps):
        notes.append(f"action_dt: {filled['action_dt']:.6g}")
    return filled, [f"{note} (not given; from {file})" for note in notes]
