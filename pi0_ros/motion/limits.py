"""Limits of the joints, read from ros2_control's joint_limits.yaml or from a URDF."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pi0_ros.errors import ProblemsError
from pi0_ros.motion.urdf import UrdfError, read_elements

_LARGEST_FILE = 16 * 2**20  # bytes


@dataclass(frozen=True)
class JointLimits:
    """What the joints may do; rows are in the order of `names`.

    Attributes:
        names: the joints.
        lower, upper: [joints] float64, radians; -inf and inf for a joint without position limits.
        velocity: [joints] float64, radians per second, above 0, finite.
        acceleration: [joints] float64, radians per second squared, above 0; may be inf.
        unscaled: what `scaled` was called on; None: these are the joint's own limits.
        full: the joints' own limits, whatever they are scaled by.
    """

    names: tuple[str, ...]
    lower: np.ndarray
    upper: np.ndarray
    velocity: np.ndarray
    acceleration: np.ndarray
    unscaled: JointLimits | None = None
    full: JointLimits = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "full", self.unscaled or self)

    def scaled(self, velocity: float, acceleration: float) -> JointLimits:
        """Limits with a share, above 0, of the velocities and of the accelerations."""
        return replace(
            self,
            velocity=self.velocity * velocity,
            acceleration=self.acceleration * acceleration,
            unscaled=self.full,
        )


class LimitsError(ProblemsError):
    """The file does not give every limit that is needed."""


@dataclass(frozen=True)
class _Limit:
    """One joint as a file declares it; NaN where it says nothing or something wrong."""

    lower: float
    upper: float
    velocity: float
    acceleration: float


def read_limits(path: Path, joints: Sequence[str], default_acceleration: float) -> JointLimits:
    """Read the limits of `joints`.

    A `.yaml` or `.yml` file holds `joint_limits: {<joint>: {...}}` at any depth, as ros2_control
    and MoveIt write it; other files are URDF. Every joint needs a velocity limit, and a position
    limit unless the file says that there is none (`has_position_limits: false`, a continuous
    joint). Soft limits and deceleration limits count where they are tighter. Jerk and effort are
    not used.

    Args:
        default_acceleration: rad/s^2, where the file has none (a URDF cannot).

    Raises:
        LimitsError: lists everything that is wrong.
    """
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise LimitsError([f"{path}: larger than {_LARGEST_FILE} bytes; no file of limits"])
        content = path.read_bytes()
    except OSError as error:
        raise LimitsError([f"joint limits {path}: {error.strerror or error}"]) from error
    problems: list[str] = []
    if path.suffix.lower() in (".yaml", ".yml"):
        declared = _declared_in_yaml(content, path)
        limits = _each(joints, declared, path, problems, _from_yaml)
    else:
        declared = _declared_in_urdf(content, path)
        limits = _each(joints, declared, path, problems, _from_urdf)
    if problems:
        raise LimitsError(problems)
    lower, upper, velocity, acceleration = np.array(
        [(one.lower, one.upper, one.velocity, one.acceleration) for one in limits]
    ).T.reshape(4, len(joints))
    acceleration = np.where(np.isnan(acceleration), default_acceleration, acceleration)
    return JointLimits(tuple(joints), lower, upper, velocity, acceleration)


def _each(
    joints: Sequence[str],
    declared: Mapping[str, Mapping[str, Any]],
    path: Path,
    problems: list[str],
    read: Any,
) -> list[_Limit]:
    limits = []
    for joint in joints:
        where = f"{path.name}: joint {joint}"
        entry = declared.get(joint)
        if not isinstance(entry, Mapping):
            named = ", ".join(map(str, list(declared)[:20])) or "none"
            problems.append(f"{where} has no limits; the file has those of: {named}")
            continue
        limit = read(entry, where, problems)
        if limit.lower >= limit.upper:
            problems.append(
                f"{where}: the lower position limit {limit.lower:g} is not below the upper one"
                f" {limit.upper:g}"
            )
        for name in ("velocity", "acceleration"):
            if getattr(limit, name) <= 0:
                problems.append(f"{where}: the {name} limit must be above 0")
        limits.append(limit)
    return limits


# YAML -------------------------------------------------------------------------------------------


def _declared_in_yaml(content: bytes, path: Path) -> Mapping[str, Any]:
    import yaml

    try:
        document = yaml.safe_load(content)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise LimitsError([f"{path.name} is no YAML: {' '.join(str(error).split())}"]) from error
    found = _find(document, "joint_limits")
    if len(found) != 1 or not isinstance(found[0], Mapping):
        raise LimitsError(
            [
                f"{path.name}: expected one mapping `joint_limits: {{<joint>: {{...}}}}`, found"
                f" {len(found) or 'none'}"
            ]
        )
    return found[0]


def _find(document: Any, key: str) -> list[Any]:
    """Every value of `key` in nested mappings; aliases are looked into once."""
    found, seen, todo = [], set(), [document]
    while todo:
        node = todo.pop()
        if not isinstance(node, Mapping) or id(node) in seen:
            continue
        seen.add(id(node))
        for name, value in node.items():
            if name == key:
                found.append(value)
            else:
                todo.append(value)
    return found


def _from_yaml(entry: Mapping[str, Any], where: str, problems: list[str]) -> _Limit:
    def declared(kind: str, *names: str) -> bool | None:
        """Whether there is such a limit; None if the file does not say."""
        given = entry.get(f"has_{kind}_limits")
        if given is not None and not isinstance(given, bool):
            problems.append(f"{where}: has_{kind}_limits must be true or false, got {given!r}")
        elif given is None and any(name in entry for name in names):
            return True
        return given

    def number(name: str) -> float:
        value = entry.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            problems.append(f"{where}: {name} must be a number, got {value!r}")
        elif not -1e9 < value < 1e9:  # NaN too, and integers that no float can hold
            problems.append(f"{where}: {name} must be finite")
        else:
            return float(value)
        return math.nan

    lower, upper = -math.inf, math.inf
    has_position = declared("position", "min_position", "max_position")
    if has_position is None:
        problems.append(
            f"{where}: min_position and max_position are needed, or has_position_limits: false for"
            " a joint that turns without end"
        )
    elif has_position:
        lower, upper = number("min_position"), number("max_position")
    if entry.get("has_soft_limits") is True:
        lower = max(lower, number("soft_lower_limit"))
        upper = min(upper, number("soft_upper_limit"))
    velocity = math.nan
    if declared("velocity", "max_velocity"):
        velocity = number("max_velocity")
    else:
        problems.append(f"{where}: a velocity limit is needed (has_velocity_limits, max_velocity)")
    accelerations = [
        number(f"max_{kind}")
        for kind in ("acceleration", "deceleration")
        if declared(kind, f"max_{kind}")
    ]
    return _Limit(lower, upper, velocity, min(accelerations, default=math.nan))


# URDF -------------------------------------------------------------------------------------------


def _declared_in_urdf(content: bytes, path: Path) -> Mapping[str, Mapping[str, str]]:
    """Joint name -> its type and the attributes of its <limit>."""
    try:
        _, joints = read_elements(content)
    except UrdfError as error:
        raise LimitsError([f"{path.name}: {problem}" for problem in error.problems]) from error
    return {joint["name"]: {**joint["limit"], "type": joint["type"]} for joint in joints}


def _from_urdf(entry: Mapping[str, str], where: str, problems: list[str]) -> _Limit:
    def number(name: str, default: str | None = None) -> float:
        text = entry.get(name, default)
        try:
            value = float(text) if text is not None else math.nan
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            problems.append(f"{where}: <limit {name}> must be a number, got {text!r}")
            return math.nan
        return value

    kind = entry["type"]
    lower, upper = -math.inf, math.inf
    if kind in ("revolute", "prismatic"):
        lower, upper = number("lower", "0"), number("upper", "0")
    elif kind != "continuous":
        problems.append(f"{where} is of type {kind!r}; revolute, prismatic or continuous ones move")
    return _Limit(lower, upper, number("velocity"), math.nan)
