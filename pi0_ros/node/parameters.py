"""From the values a user gave to the node's frozen configuration and its ROS parameters.

`resolve` is pure: it turns the values that a user gave into a complete, checked set and reports
everything that is wrong at once. `declare` then makes ROS parameters of that set.
"""

from __future__ import annotations

import difflib
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pi0_ros.errors import UserError
from pi0_ros.node.parameter_table import CAMERA_SPECS, JOINT_SPECS, SPECS, Spec, Value

if TYPE_CHECKING:
    from rcl_interfaces.msg import ParameterDescriptor
    from rclpy.node import Node

# A relative, absolute or private topic name of plain tokens (no {substitutions}).
_TOPIC = re.compile(r"(~/|/)?[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*")


class ParameterError(UserError, ValueError):
    """The parameters cannot be used; the message lists everything that is wrong."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        lines = "".join(f"\n  - {problem}" for problem in problems)
        super().__init__(f"{len(problems)} problem(s) in the parameters:{lines}")


@dataclass(frozen=True)
class Camera:
    """name: as the policy knows it; topic: with transport; max_age and latency: seconds."""

    name: str
    topic: str
    max_age: float
    latency: float


@dataclass(frozen=True)
class Joint:
    """radians = scale * the checkpoint's unit + offset."""

    name: str
    scale: float
    offset: float


@dataclass(frozen=True)
class NodeParameters:
    """The node's configuration; the table `SPECS` documents each field. Times in seconds."""

    checkpoint: str
    device: str
    dtype: str
    graph: str
    graph_form: str
    npu_attention: str
    npu_weights: str
    graph_cache: str
    threads: int
    seed: int
    tokenizer: str
    action_mode: str
    delta_joints: tuple[str, ...]
    autostart: bool
    start_enabled: bool
    policy_process: bool
    inference_timeout: float
    rate_hz: float
    action_dt: float
    trajectory_start: str
    instruction: str
    cameras: tuple[Camera, ...]
    image_transport: str
    joints: tuple[Joint, ...]
    joint_states_topic: str
    joint_states_max_age: float
    max_skew: float
    frozen_frames: int
    joint_limits: str
    default_acceleration: float
    velocity_scale: float
    acceleration_scale: float
    max_jump: float
    clamp_position: float
    clamp_velocity: float
    clamp_acceleration: float
    reject_latch: int
    blend: float
    starve_timeout: float
    emergency_stop_topic: str
    deadman_topic: str
    deadman_timeout: float

    @property
    def camera_names(self) -> tuple[str, ...]:
        return tuple(camera.name for camera in self.cameras)

    @property
    def joint_names(self) -> tuple[str, ...]:
        return tuple(joint.name for joint in self.joints)


def given_values(node: Node) -> dict[str, object]:
    """Parameter name -> value from files, arguments and the constructor; None for an empty list.

    rclpy keeps them in a protected attribute; its public way, declaring all of them automatically,
    fails on an empty list.
    """
    return {name: parameter.value for name, parameter in node._parameter_overrides.items()}


def resolve(overrides: Mapping[str, object]) -> dict[Spec, Value]:
    """All parameters with their values: the override where there is one, else the default.

    Args:
        overrides: parameter name -> value as ROS gives it. Names that are no parameter of this
            node are left alone, except below `camera.` and `joint.`: a misspelt
            `joint.elbow.scale` would move an arm wrongly.

    Raises:
        ParameterError: lists every unusable value.
    """
    problems: list[str] = []
    values = {spec: _value(spec, overrides, problems) for spec in SPECS}
    by_name = {spec.name: value for spec, value in values.items()}
    # A refused value stands as its default: that this one is empty is no second problem.
    refused = {problem.split(":", 1)[0] for problem in problems}
    if not by_name["checkpoint"] and "checkpoint" not in refused:
        problems.append("checkpoint: empty; give the directory of a pi0 checkpoint")
    for placeholder, listing, specs in (
        ("<camera>", "cameras", CAMERA_SPECS),
        ("<joint>", "joints", JOINT_SPECS),
    ):
        names = by_name[listing]
        if listing not in refused:
            problems += _name_problems(listing, names)
        for name in dict.fromkeys(names):
            for spec in (template.of(placeholder, name) for template in specs):
                values[spec] = _value(spec, overrides, problems)
    problems += _cross_problems({spec.name: value for spec, value in values.items()})
    known = [spec.name for spec in values]
    for name in sorted(set(overrides) - set(known)):
        if name.startswith(("camera.", "joint.")):
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            kind = name.split(".", 1)[0]
            problems.append(f"{name}: no such parameter for the names in `{kind}s`{hint}")
    if problems:
        raise ParameterError(problems)
    return values


def unknown_names(values: Mapping[Spec, Value], overrides: Iterable[str]) -> list[str]:
    """Overrides that no parameter of this node takes, less those that rclpy itself reads."""
    known = {spec.name for spec in values} | {"use_sim_time", "start_type_description_service"}
    return sorted(n for n in set(overrides) - known if not n.startswith("qos_overrides."))


def build(values: Mapping[Spec, Value]) -> NodeParameters:
    """The configuration out of a resolved set."""
    by_name = {spec.name: value for spec, value in values.items()}
    compressed = by_name["image_transport"] == "compressed"
    cameras = tuple(
        Camera(
            name,
            _image_topic(by_name[f"camera.{name}.topic"], compressed),
            by_name[f"camera.{name}.max_age"],
            by_name[f"camera.{name}.latency"],
        )
        for name in by_name["cameras"]
    )
    joints = tuple(
        Joint(name, by_name[f"joint.{name}.scale"], by_name[f"joint.{name}.offset"])
        for name in by_name["joints"]
    )
    plain = {spec.name: by_name[spec.name] for spec in SPECS}
    return NodeParameters(**{**plain, "cameras": cameras, "joints": joints})


def changed(parameters: NodeParameters, values: Mapping[str, object]) -> NodeParameters:
    """The configuration with new values of dynamic parameters; other names are left alone.

    Raises:
        ParameterError: lists every unusable value; then nothing is changed.
    """
    problems: list[str] = []
    specs = [spec for spec in SPECS if spec.dynamic and spec.name in values]
    new = {spec.name: _value(spec, values, problems) for spec in specs}
    if problems:
        raise ParameterError(problems)
    return replace(parameters, **new)


def declare(node: Node, values: Mapping[Spec, Value]) -> None:
    """Declare a resolved set on a node; all but the dynamic ones are read only."""
    for spec, value in values.items():
        value = list(value) if isinstance(value, tuple) else value
        node.declare_parameter(spec.name, value, _descriptor(spec), ignore_override=True)


def _descriptor(spec: Spec) -> ParameterDescriptor:
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

    descriptor = ParameterDescriptor(description=spec.description, read_only=not spec.dynamic)
    if spec.choices:
        descriptor.additional_constraints = "one of: " + ", ".join(map(repr, spec.choices))
    if spec.low is not None and spec.high is not None:
        if isinstance(spec.default, float):
            descriptor.floating_point_range = [
                FloatingPointRange(from_value=spec.low, to_value=spec.high)
            ]
        else:
            descriptor.integer_range = [
                IntegerRange(from_value=int(spec.low), to_value=int(spec.high))
            ]
    return descriptor


def _value(spec: Spec, overrides: Mapping[str, object], problems: list[str]) -> Value:
    """The checked value of one parameter; a problem is noted and the default taken instead."""
    if spec.name not in overrides:
        return spec.default
    given = overrides[spec.name]
    value: Value
    if isinstance(spec.default, tuple):
        if given is None:  # rcl has no empty list: `[]` in YAML arrives without a value
            return ()
        if not isinstance(given, (list, tuple)) or not all(isinstance(v, str) for v in given):
            problems.append(f"{spec.name}: must be a list of strings, got {given!r}")
            return spec.default
        return tuple(given)
    if isinstance(spec.default, str):
        if not isinstance(given, str):
            problems.append(f"{spec.name}: must be a string, got {given!r} (quote it in YAML)")
            return spec.default
        value = given
    elif isinstance(spec.default, bool):
        if not isinstance(given, bool):
            problems.append(f"{spec.name}: must be true or false, got {given!r}")
            return spec.default
        value = given
    else:
        wanted = (int, float) if isinstance(spec.default, float) else (int,)
        if isinstance(given, bool) or not isinstance(given, wanted):
            kind = "a number" if isinstance(spec.default, float) else "a whole number"
            problems.append(f"{spec.name}: must be {kind}, got {given!r}")
            return spec.default
        value = type(spec.default)(given)
        if not math.isfinite(value):
            problems.append(f"{spec.name}: must be finite, got {given!r}")
            return spec.default
        if spec.low is not None and not spec.low <= value <= spec.high:
            problems.append(f"{spec.name}: must be in [{spec.low}, {spec.high}], got {given!r}")
            return spec.default
    if spec.choices and value not in spec.choices:
        problems.append(f"{spec.name}: must be one of {list(spec.choices)}, got {given!r}")
        return spec.default
    return value


def _image_topic(topic: str, compressed: bool) -> str:
    """image_transport's rule: the compressed stream of `topic` is `topic`/compressed."""
    return f"{topic}/compressed" if compressed and not topic.endswith("/compressed") else topic


def _name_problems(listing: str, names: Sequence[str]) -> list[str]:
    hint = {
        "cameras": "name them as the checkpoint does",
        "joints": "name the robot's joints in the order of the checkpoint's state",
    }
    problems = [] if names else [f"{listing}: empty; {hint[listing]}"]
    if "" in names:
        problems.append(f"{listing}: holds an empty name: {list(names)}")
    doubled = [name for name, count in Counter(names).items() if count > 1]
    if doubled:
        problems.append(f"{listing}: named more than once: {doubled}")
    return problems


def _cross_problems(values: Mapping[str, Value]) -> list[str]:
    """What a type and bounds cannot show: topic names, doubled topics, scales, and delta_joints."""
    problems = []
    by_topic: dict[str, list[str]] = {}
    for camera in dict.fromkeys(values["cameras"]):
        name = f"camera.{camera}.topic"
        topic = _image_topic(values[name], values["image_transport"] == "compressed")
        by_topic.setdefault(topic, []).append(name)
    for topic, names in by_topic.items():
        if len(names) > 1:
            problems.append(f"{' and '.join(names)}: one topic for several cameras: {topic!r}")
    for name, value in values.items():
        is_topic = name.endswith("_topic") or re.fullmatch(r"camera\..*\.topic", name)
        if is_topic and not _TOPIC.fullmatch(value):
            problems.append(f"{name}: not a ROS topic name: {value!r}")
        if re.fullmatch(r"joint\..*\.scale", name) and value == 0.0:
            problems.append(f"{name}: must not be 0")
    delta = values["action_mode"] == "delta"
    if delta != bool(values["delta_joints"]):
        problems.append(
            f"delta_joints: action_mode is {values['action_mode']!r}, delta_joints is"
            f" {list(values['delta_joints'])}; give both (mode delta) or neither"
        )
    strangers = [name for name in values["delta_joints"] if name not in values["joints"]]
    if strangers:
        problems.append(f"delta_joints: not in joints: {strangers}")
    return problems
