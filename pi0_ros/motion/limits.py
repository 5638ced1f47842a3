"""Limits of the joints, read from ros2_control's joint_limits.yaml, MoveIt's, and URDFs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from pi0_ros.errors import ProblemsError
from pi0_ros.motion.limit_files import Entry, Limit, read_file

MOST_TURNS = 3.0
"""Turns between the position limits of a joint in radians beyond which they are implausible."""

FASTEST = 20.0
"""Radians per second, from which a velocity limit is implausible: degrees, as a rule."""

WIDE = "Write radians and metres, or set allow_wide_limits: true"
"""What to do about them."""

LONGEST = 10.0
"""Metres between the position limits of a prismatic joint, and metres per second: likewise."""


@dataclass(frozen=True)
class JointLimits:
    """What the joints may do; rows are in the order of `names`.

    Attributes:
        names: the joints.
        lower, upper: [joints] float64, radians; -inf and inf for a joint without position limits.
        velocity: [joints] float64, radians per second, above 0, finite.
        acceleration: [joints] float64, radians per second squared, above 0; may be inf.
        units: per joint "rad", or "m" for one that a URDF says is prismatic; its limits are metres.
        remarks: what is worth telling about the files, in sentences.
        wide: sentences about limits that are implausible.
        unscaled: what `scaled` was called on; None: these are the joint's own limits.
        full: the joints' own limits, whatever they are scaled by.
    """

    names: tuple[str, ...]
    lower: np.ndarray
    upper: np.ndarray
    velocity: np.ndarray
    acceleration: np.ndarray
    unscaled: JointLimits | None = None
    units: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    wide: tuple[str, ...] = ()
    full: JointLimits = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "units", self.units or ("rad",) * len(self.names))
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
    """The files do not give every limit that is needed."""


def read_limits(
    paths: Sequence[Path],
    joints: Sequence[str],
    default_acceleration: float,
    allow_wide: bool = False,
    units: Sequence[str] = (),
) -> JointLimits:
    """Read the limits of `joints`.

    A `.yaml` or `.yml` file holds `joint_limits: {<joint>: {...}}` at any depth, as ros2_control
    and MoveIt write it; other files are URDF. Where several declare a limit, the tightest counts:
    those of several files, soft limits (ros2_control's, a URDF's <safety_controller>), deceleration
    limits and the command interfaces in a URDF's <ros2_control>. Jerk and effort are not used.

    Every joint needs a velocity limit, and a position limit unless a file says that there is none
    (`has_position_limits: false`, a continuous joint).

    Args:
        default_acceleration: rad/s^2, where the files have none (a URDF cannot).
        allow_wide: take limits that are implausible.
        units: per joint "rad" or "m", or "" where the files may tell; () is all "".

    Raises:
        LimitsError: lists everything that is wrong.
    """
    problems: list[str] = []
    declared = [read_file(path, problems) for path in paths]
    if problems:
        raise LimitsError(problems)
    merged, remarks, wide = [], [], []
    for joint, unit in zip(joints, units or [""] * len(joints), strict=True):
        own = [file[joint](problems) for file in declared if joint in file]
        if not own:
            problems.append(_unknown(joint, paths, declared))
            continue
        merged.append(_tightest(own))
        if unit and merged[-1].unit not in ("", unit):
            problems.append(
                f"joint.{joint}.unit is {unit}, but the URDF has the joint in {merged[-1].unit}"
            )
        merged[-1] = replace(merged[-1], unit=merged[-1].unit or unit)
        problems += _incomplete(joint, merged[-1], own, paths, problems)
        remarks += [limit.remark for limit in own if limit.remark]
        wide += _implausible(joint, merged[-1])
    if not allow_wide:
        problems += [f"{one} {WIDE}" for one in wide]
    if problems:
        raise LimitsError(problems)
    lower, upper, velocity, acceleration = np.array(
        [(one.lower, one.upper, one.velocity, one.acceleration) for one in merged]
    ).T.reshape(4, len(joints))
    acceleration = np.where(np.isnan(acceleration), default_acceleration, acceleration)
    units = tuple(one.unit or "rad" for one in merged)
    return JointLimits(
        tuple(joints),
        lower,
        upper,
        velocity,
        acceleration,
        units=units,
        remarks=tuple(remarks),
        wide=tuple(wide),
    )


def _tightest(limits: Sequence[Limit]) -> Limit:
    """What all of them allow; NaN where none says anything."""
    return Limit(
        lower=np.fmax.reduce([one.lower for one in limits]),
        upper=np.fmin.reduce([one.upper for one in limits]),
        velocity=np.fmin.reduce([one.velocity for one in limits]),
        acceleration=np.fmin.reduce([one.acceleration for one in limits]),
        unit=next((one.unit for one in limits if one.unit), ""),
    )


def _unknown(joint: str, paths: Sequence[Path], declared: Sequence[Mapping[str, Entry]]) -> str:
    named = ", ".join(map(str, [name for file in declared for name in file][:20])) or "none"
    files = " and ".join(path.name for path in paths)
    has = "the file has" if len(paths) == 1 else "they have"
    return f"{files}: joint {joint} has no limits; {has} those of: {named}"


def _incomplete(
    joint: str, limit: Limit, own: Sequence[Limit], paths: Sequence[Path], known: list[str]
) -> list[str]:
    """What the files leave open; nothing for a joint with wrong values, which were told."""
    if any(f"joint {joint}:" in problem for problem in known):
        return []
    files = " and ".join(path.name for path in paths)
    problems = []
    if math.isnan(limit.lower) or math.isnan(limit.upper):
        problems.append(
            f"{files}: joint {joint}: no position limits. Without them the arm may go anywhere:"
            " give min_position and max_position, or the URDF, which has them, by the parameter"
            " `urdf`"
        )
    elif limit.lower >= limit.upper:
        problems.append(
            f"{files}: joint {joint}: the lower position limit {limit.lower:g} is not below the"
            f" upper one {limit.upper:g}"
        )
    if math.isnan(limit.velocity):
        problems.append(
            f"{files}: joint {joint}: a velocity limit is needed (max_velocity, <limit velocity>)"
        )
    for name in ("velocity", "acceleration"):
        if getattr(limit, name) <= 0:
            problems.append(f"{files}: joint {joint}: the {name} limit must be above 0")
    return problems


def _implausible(joint: str, limit: Limit) -> list[str]:
    """Sentences about limits in degrees or millimetres, and such that are none."""
    span, found = limit.upper - limit.lower, []
    if limit.unit == "m":
        if math.isfinite(span) and span > LONGEST:
            found.append(f"joint {joint}: {span:g} m between its position limits: millimetres?")
        if limit.velocity > LONGEST:
            found.append(f"joint {joint}: {limit.velocity:g} m/s: millimetres per second?")
        return found
    if math.isfinite(span) and span > MOST_TURNS * math.tau:
        found.append(
            f"joint {joint}: position limits {limit.lower:g} to {limit.upper:g} rad are"
            f" {span / math.tau:.3g} turns: degrees?"
        )
    if limit.velocity >= FASTEST:
        found.append(f"joint {joint}: {limit.velocity:g} rad/s: degrees per second?")
    return found
