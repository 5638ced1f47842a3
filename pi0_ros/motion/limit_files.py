"""Limits of the joints as one file declares them: YAML of ros2_control and MoveIt, or a URDF."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pi0_ros.errors import ProblemsError
from pi0_ros.motion.urdf import LARGEST, read_elements
from pi0_ros.plain_yaml import YamlError, read_yaml_file, short


@dataclass(frozen=True)
class Limit:
    """One joint as a file declares it; NaN where it says nothing or something wrong.

    -inf and inf are positions that the file says have no limit.
    """

    lower: float
    upper: float
    velocity: float
    acceleration: float
    unit: str = ""
    remark: str = ""


Entry = Callable[[list[str]], Limit]
"""Reads one joint; adds what is wrong to the list that it is given."""


def read_file(path: Path, problems: list[str]) -> Mapping[str, Entry]:
    """Joint -> its limits in a file."""
    yaml = path.suffix.lower() in (".yaml", ".yml")
    try:
        return _yaml_entries(path) if yaml else _urdf_entries(path)
    except OSError as error:
        problems.append(f"joint limits {path}: {error.strerror or error}")
    except YamlError as error:
        problems.append(f"{path.name}: {error}")
    except ProblemsError as error:
        problems += [f"{path.name}: {problem}" for problem in error.problems]
    return {}


# YAML -------------------------------------------------------------------------------------------


def _yaml_entries(path: Path) -> Mapping[str, Entry]:
    found = _find(read_yaml_file(path), "joint_limits")
    if not found or not all(isinstance(one, dict) for one in found):
        raise ProblemsError(["expected a mapping `joint_limits: {<joint>: {...}}`, found none"])
    entries: dict[str, Entry] = {}
    problems = []
    for joint, entry in [item for one in found for item in one.items()]:
        if joint in entries:
            problems.append(f"joint {joint} is declared twice")
        entries[joint] = partial(_from_yaml, entry, f"{path.name}: joint {joint}")
    if problems:
        raise ProblemsError(problems)
    return entries


def _find(document: Any, key: str) -> list[Any]:
    """Every value of `key` in nested mappings."""
    found, todo = [], [document]
    while todo:
        node = todo.pop()
        for name, value in node.items() if isinstance(node, dict) else ():
            (found if name == key else todo).append(value)
    return found


def _from_yaml(entry: Any, where: str, problems: list[str]) -> Limit:
    if not isinstance(entry, dict):
        problems.append(f"{where}: expected a mapping of limits, got {short(entry)}")
        return Limit(math.nan, math.nan, math.nan, math.nan)

    def declared(kind: str, *names: str) -> bool | None:
        """Whether there is such a limit; None if the file does not say."""
        given = entry.get(f"has_{kind}_limits")
        if given is not None and not isinstance(given, bool):
            problems.append(f"{where}: has_{kind}_limits must be true or false, got {short(given)}")
        elif given is None and any(name in entry for name in names):
            return True
        return given

    def number(name: str) -> float:
        value = entry.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            problems.append(f"{where}: {name} must be a number, got {short(value)}{_hint(value)}")
        elif not -1e9 < value < 1e9:  # NaN too
            problems.append(f"{where}: {name} must be finite")
        else:
            return float(value)
        return math.nan

    lower = upper = velocity = math.nan
    has_position = declared("position", "min_position", "max_position")
    if has_position:
        lower, upper = number("min_position"), number("max_position")
    elif has_position is False:
        lower, upper = -math.inf, math.inf
    if declared("soft", "soft_lower_limit", "soft_upper_limit"):
        lower = np.fmax(lower, number("soft_lower_limit"))
        upper = np.fmin(upper, number("soft_upper_limit"))
    if declared("velocity", "max_velocity"):
        velocity = number("max_velocity")
    accelerations = [
        number(f"max_{kind}")
        for kind in ("acceleration", "deceleration")
        if declared(kind, f"max_{kind}")
    ]
    return Limit(lower, upper, velocity, min(accelerations, default=math.nan))


def _hint(value: Any) -> str:
    """What to do about text in place of a number."""
    if isinstance(value, str) and ("${" in value or "$(" in value):
        return ": xacro and launch files fill it in; write the number"
    return ""


# URDF -------------------------------------------------------------------------------------------


def _urdf_entries(path: Path) -> Mapping[str, Entry]:
    with path.open("rb") as file:
        elements = read_elements(file.read(LARGEST + 1))
    commands: dict[str, list[tuple[str, str, str]]] = {}
    for joint, *command in elements.commands:
        commands.setdefault(joint, []).append(tuple(command))
    return {
        joint["name"]: partial(_from_urdf, joint, commands.get(joint["name"], ()), path.name)
        for joint in elements.joints
    }


def _from_urdf(
    joint: Mapping[str, Any],
    commands: Sequence[tuple[str, str, str]],
    file: str,
    problems: list[str],
) -> Limit:
    where = f"{file}: joint {joint['name']}"

    def number(text: str | None, what: str) -> float:
        try:
            value = float(text) if text is not None else math.nan
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            problems.append(f"{where}: {what} must be a number, got {short(text)}{_hint(text)}")
            return math.nan
        return value

    kind, limit, soft = joint["type"], joint["limit"], joint["soft"]
    lower, upper, velocity = -math.inf, math.inf, math.nan
    if kind in ("revolute", "prismatic"):
        lower = number(limit.get("lower", "0"), "<limit lower>")
        upper = number(limit.get("upper", "0"), "<limit upper>")
    elif kind != "continuous":
        problems.append(f"{where}: type {kind!r}; expected revolute, prismatic or continuous")
        return Limit(lower, upper, velocity, math.nan)
    if "velocity" in limit:
        velocity = number(limit["velocity"], "<limit velocity>")
    # Exporters write the attributes without a value.
    if soft.get("soft_lower_limit"):
        value = number(soft["soft_lower_limit"], "<safety_controller soft_lower_limit>")
        lower = max(lower, value)
    if soft.get("soft_upper_limit"):
        value = number(soft["soft_upper_limit"], "<safety_controller soft_upper_limit>")
        upper = min(upper, value)
    for interface, end, text in commands:
        what = f"<command_interface name={interface!r}>'s {end}"
        if interface == "position" and end == "min":
            lower = max(lower, number(text, what))
        elif interface == "position":
            upper = min(upper, number(text, what))
        elif interface == "velocity":
            velocity = np.fmin(velocity, abs(number(text, what)))
    remark = ""
    if joint.get("mimic"):
        remark = (
            f"{where} follows {joint['mimic']} (<mimic>): as a rule a controller commands"
            f" {joint['mimic']} only, and refuses the joint itself"
        )
    unit = "m" if kind == "prismatic" else "rad"
    return Limit(lower, upper, velocity, math.nan, unit, remark)
