"""The part of the preflight that compares the parameters with the checkpoint.

`policy.compatibility` checks the shapes. This module checks what the policy cannot know: names and
their order, times, and units against the limits of the joints.
"""

from __future__ import annotations

import re
from os.path import isfile  # Path.is_file raises an OSError where a name is too long
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pi0_ros.node.parameters import DT_TOLERANCE, NodeParameters
from pi0_ros.share import user_path

if TYPE_CHECKING:
    from pi0_ros.checkpoint.checkpoint import Checkpoint
    from pi0_ros.checkpoint.formats import ReadOptions
    from pi0_ros.checkpoint.metadata import Declared
    from pi0_ros.motion.limits import JointLimits
    from pi0_ros.policy.compatibility import Described
    from pi0_ros.policy.units import JointUnits

WIDE = 1.5
"""Mean -+ standard deviation never spans more than the data did, so data from within the limits
cannot exceed their width; half as much again is allowed for actions beyond them."""

FAR = 4 * np.pi
"""Radians: a joint without position limits that is usually beyond these is not in radians."""


STATE_INPUT = {"": None, "prompt": True, "none": False}
"""The parameter `discrete_state_input` as `Policy.load` takes it."""


def policy_arguments(parameters: NodeParameters) -> dict[str, object]:
    """What the parameters ask of a checkpoint, as keyword arguments of `policy_problems`."""
    from pi0_ros.policy.units import delta_mask

    names, delta = parameters.joint_names, parameters.delta_joints
    return {
        "cameras": parameters.camera_names,
        "action_mode": parameters.action_mode or None,
        "delta_mask": delta_mask(names, delta) if delta else None,
        "action_dt": parameters.action_dt,
        "discrete_state_input": STATE_INPUT[parameters.discrete_state_input],
        "rtc": parameters.rtc,
        "rtc_max_delay": parameters.rtc_max_delay,
    }


def read_options(parameters: NodeParameters) -> ReadOptions:
    """What the parameters say where the checkpoint's directory leaves it open."""
    from pi0_ros.checkpoint.formats import ReadOptions

    base = parameters.base_checkpoint
    return ReadOptions(
        base=str(user_path(base)) if base else "",
        asset=parameters.asset,
        horizon=parameters.horizon,
    )


def joint_units(parameters: NodeParameters) -> JointUnits:
    """The checkpoint's unit of each joint."""
    from pi0_ros.policy.units import JointUnits

    joints = parameters.joints
    return JointUnits(
        scale=np.array([joint.scale for joint in joints]),
        offset=np.array([joint.offset for joint in joints]),
    )


def unit_names(parameters: NodeParameters, limits: JointLimits | None) -> tuple[str, ...]:
    """ "rad" or "m" per joint: as the URDF says, or else the parameter."""
    if limits is not None:
        return limits.units
    return tuple(joint.unit or "rad" for joint in parameters.joints)


def checkpoint_problems(
    parameters: NodeParameters, checkpoint: Checkpoint, limits: JointLimits | None
) -> list[str]:
    """Everything in which the parameters do not fit the checkpoint; empty when they do."""
    from pi0_ros.checkpoint.errors import CheckpointError
    from pi0_ros.checkpoint.metadata import Declared, read_declared

    unreadable = []
    try:
        declared = read_declared(checkpoint.path, checkpoint.joints)
    except CheckpointError as error:
        declared, unreadable = Declared(), [str(error)]
    return [
        *fit_problems(parameters, checkpoint, declared, limits),
        *unreadable,
        *_tokenizer_problems(parameters, checkpoint.path),
    ]


def fit_problems(
    parameters: NodeParameters,
    checkpoint: Described,
    declared: Declared,
    limits: JointLimits | None,
) -> list[str]:
    """As `checkpoint_problems`, of what is described here or by a server."""
    from pi0_ros.policy.compatibility import policy_problems

    joints = len(parameters.joints)
    arguments = policy_arguments(parameters)
    problems = policy_problems(checkpoint, joints=joints, **arguments)
    problems += _time_problems(parameters, checkpoint.horizon)
    problems += _declared_problems(parameters, declared)
    if joints == checkpoint.joints:
        problems += _unit_problems(parameters, checkpoint, limits)
    return problems


def _time_problems(parameters: NodeParameters, horizon: int) -> list[str]:
    duration, period = horizon * parameters.action_dt, 1 / parameters.rate_hz
    chunk = f"a chunk lasts {duration:g} s ({horizon} steps of action_dt {parameters.action_dt:g})"
    problems = []
    if duration <= period:
        problems.append(
            f"rate_hz: {chunk}, and a tick comes every {period:g} s: the arm would stop between"
            f" chunks; set rate_hz above {1 / duration if duration else 0:g}"
        )
    if duration <= parameters.starve_timeout:
        problems.append(
            f"starve_timeout: {chunk}, and a running one is slowed down after"
            f" {parameters.starve_timeout:g} s: the arm would reach its end at full speed; set"
            f" starve_timeout below {duration:g}"
        )
    return problems


def _declared_problems(parameters: NodeParameters, declared: Declared) -> list[str]:
    """Names, their order, and the pace, where the checkpoint records them."""
    problems = []
    given = [plain_name(name) for name in parameters.joint_names]
    recorded = [plain_name(name) for name in declared.joints]
    moved = [
        f"{name} is number {i}, there it is number {recorded.index(plain_name(name))}"
        for i, name in enumerate(parameters.joint_names)
        if given[i] in recorded and recorded[min(i, len(recorded) - 1)] != given[i]
    ]
    if moved:
        problems.append(
            f"joints: not in the checkpoint's order, which is {list(declared.joints)}"
            f" ({declared.joints_source}): {'; '.join(moved)}"
        )
    for joint, scale, offset in zip(
        parameters.joints, declared.unit_scale, declared.unit_offset, strict=False
    ):
        if not np.allclose([joint.scale, joint.offset], [scale, offset], rtol=1e-4, atol=1e-6):
            problems.append(
                f"joint.{joint.name}: scale {joint.scale:g} and offset {joint.offset:g}, but the"
                f" checkpoint was converted for scale {scale:g} and offset {offset:g}"
            )
    dt = parameters.action_dt
    if declared.fps and abs(dt * declared.fps - 1) > DT_TOLERANCE:
        problems.append(
            f"action_dt: {dt:g} s, but the checkpoint's actions are {1 / declared.fps:.4g} s apart"
            f" ({declared.fps_source} {declared.fps:g}); the arm would move"
            f" {1 / (dt * declared.fps):.3g} times as fast as in training"
        )
    return problems


def plain_name(name: str) -> str:
    """A joint's name without what robots and data sets add to it: `shoulder_pan.pos`, `j1_joint`"""
    name = name.lower().replace("-", "_")
    name = re.sub(r"\.(pos|position)$", "", name)
    return re.sub(r"(^joint_)|(^main_)|(_joint$)", "", name)


def _unit_problems(
    parameters: NodeParameters, checkpoint: Described, limits: JointLimits | None
) -> list[str]:
    """Joints whose training values, in radians, do not lie where the joint can be."""
    from pi0_ros.policy.compatibility import has_statistics, radian_range

    units = joint_units(parameters)
    relative = checkpoint.delta_mask or [
        name in parameters.delta_joints for name in parameters.joint_names
    ]
    problems = []
    for kind, norm in (("states", checkpoint.state), ("actions", checkpoint.action)):
        if not has_statistics(norm):
            continue
        lower, upper = radian_range(norm, units)
        for i, name in enumerate(parameters.joint_names):
            if kind == "actions" and relative[i]:
                continue  # differences lie around 0 wherever the joint is
            low, high, unit = -np.inf, np.inf, unit_names(parameters, limits)[i]
            if limits is not None:
                low, high = limits.lower[i], limits.upper[i]
            hint = "degrees: scale 0.017453293" if unit == "rad" else "a prismatic joint has metres"
            where = f"joint.{name}: the checkpoint's {kind} lie in [{lower[i]:.4g}, {upper[i]:.4g}]"
            if upper[i] < low or lower[i] > high:
                why = f"wholly outside the limits [{low:.4g}, {high:.4g}]"
            elif upper[i] - lower[i] > WIDE * (high - low):
                why = f"wider than the limits [{low:.4g}, {high:.4g}] allow"
            elif not np.isfinite(high - low) and max(-lower[i], upper[i]) > FAR:
                why = "beyond what a joint can reach"
            else:
                continue
            problems.append(
                f"{where} {unit} with scale {parameters.joints[i].scale:g} and offset"
                f" {parameters.joints[i].offset:g}, {why}: probably another unit ({hint})"
                " or another joint's place in `joints`"
            )
    return problems


def _tokenizer_problems(parameters: NodeParameters, checkpoint: Path) -> list[str]:
    """That there is one; reading it takes transformers, which takes seconds to import."""
    from pi0_ros.policy.prompt import TokenizerError, load_tokenizer

    given = user_path(parameters.tokenizer) if parameters.tokenizer else None
    places = [given] if given else [checkpoint, checkpoint / "tokenizer"]
    names = ("tokenizer_config.json", "tokenizer.model", "paligemma_tokenizer.model")
    if any(isfile(place) or any(isfile(place / n) for n in names) for place in places):
        return []
    try:
        load_tokenizer(checkpoint, given)
    except TokenizerError as error:
        return [str(error)]
    return []
