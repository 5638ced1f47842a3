"""Values, checks, ROS parameters and documentation, all made of the table of parameters.

`pi0_ros.node.parameter_table` is the table. This command writes the documented file:

    python -m pi0_ros.node.parameters > config/pi0.yaml
"""

from __future__ import annotations

import difflib
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from pi0_ros.errors import UserError
from pi0_ros.node.parameter_checks import (
    checked_value,
    cross_problems,
    name_problems,
    output_problems,
)
from pi0_ros.node.parameter_table import (
    CAMERA_SPECS,
    CONFIGURE,
    JOINT_SPECS,
    OUTPUT_SPECS,
    SPECS,
    START,
    Camera,
    Joint,
    NodeParameters,
    Output,
    Spec,
    Value,
    is_server,
)

if TYPE_CHECKING:
    from rcl_interfaces.msg import ParameterDescriptor
    from rclpy.node import Node

DT_TOLERANCE = 0.02
"""Share by which action_dt may differ from the checkpoint's pace (0.033 s is 30 Hz)."""

# Of rclpy, and of pi0_viz, which may share a parameter file with this node.
_OF_OTHERS = {"use_sim_time", "start_type_description_service"}
_OF_OTHERS |= {"robot_description_file", "tool_frame", "preview_step"}


class ParameterError(UserError, ValueError):
    """Unusable parameters; the message lists everything that is wrong."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        lines = "".join(f"\n  - {problem}" for problem in problems)
        super().__init__(f"{len(problems)} problem(s) in the parameters:{lines}")


# From values to parameters ------------------------------------------------------------------------


def given_values(node: Node) -> dict[str, object]:
    """Parameter name -> value from files, arguments and the constructor; None for an empty list.

    rclpy keeps them in a protected attribute. Its public way, which declares all of them
    automatically, fails on an empty list.
    """
    return {name: parameter.value for name, parameter in node._parameter_overrides.items()}


def read_parameters(given: Mapping[str, object]) -> NodeParameters:
    """Check values, and fill in the defaults.

    Args:
        given: parameter name -> value as ROS gives it. Names that are no parameter of this node are
            ignored, except below `camera.`, `joint.` and `outputs.`: a misspelt
            `joint.elbow.scale` would move an arm wrongly.

    Raises:
        ParameterError: lists every unusable value.
    """
    problems: list[str] = []
    values = {spec.name: checked_value(spec, given, problems) for spec in SPECS}
    refused = {problem.split(":", 1)[0] for problem in problems}  # their defaults stand in
    served = is_server(values["policy_url"])
    if not values["checkpoint"] and "checkpoint" not in refused and not served:
        problems.append("checkpoint: empty; give the directory of a pi0 checkpoint")
    for listing, kind, specs in (
        ("cameras", "camera", CAMERA_SPECS),
        ("joints", "joint", JOINT_SPECS),
    ):
        names = values[listing]
        if listing not in refused:
            problems += name_problems(listing, names)
        for name in dict.fromkeys(names):
            for spec in specs:
                spec = spec.of(f"<{kind}>", name)
                values[spec.name] = checked_value(spec, given, problems)
    outputs = _output_names(given)
    for name in outputs:
        for spec in OUTPUT_SPECS:
            spec = spec.of("<output>", name)
            values[spec.name] = checked_value(spec, given, problems)
    if "policy_process" in given:
        problems.append('policy_process: replaced by policy_url; give policy_url: process, or ""')
    if "joint_states_topic" in given:
        topic = given["joint_states_topic"]
        problems.append(
            "joint_states_topic: replaced by joint_states_topics, a list; give"
            f" joint_states_topics: [{topic}]"
        )
    if values["image_transport"] == "compressed":
        for name in dict.fromkeys(values["cameras"]):
            topic = values[f"camera.{name}.topic"].removesuffix("/compressed")
            values[f"camera.{name}.topic"] = f"{topic}/compressed"  # image_transport's rule
    _use_fps(values, given, problems)
    problems += cross_problems(values)
    problems += output_problems(values, outputs)
    listings = {"camera": "the names in `cameras`", "joint": "the names in `joints`"}
    listings["outputs"] = "an output (outputs.<name>.topic, .joints, .type, .rate_hz)"
    for name in sorted(set(given) - set(values)):
        kind = name.split(".", 1)[0]
        if kind in listings:
            near = difflib.get_close_matches(name, values, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            problems.append(f"{name}: no such parameter for {listings[kind]}{hint}")
    if problems:
        raise ParameterError(problems)
    return _build(values, outputs)


def _use_fps(values: dict[str, Any], given: Mapping[str, object], problems: list[str]) -> None:
    """`fps` in place of `action_dt`."""
    fps = values["fps"]
    if not fps:
        return
    if fps < 1:
        problems.append(f"fps: must be 0 (action_dt says it), or in [1, 1000], got {fps:g}")
    elif "action_dt" not in given:
        values["action_dt"] = 1 / fps
    elif abs(values["action_dt"] * fps - 1) > DT_TOLERANCE:
        problems.append(
            f"fps: {fps:g} actions per second are {1 / fps:.4g} s apart, but action_dt is"
            f" {values['action_dt']:g}: give one of the two"
        )


def _output_names(given: Mapping[str, object]) -> tuple[str, ...]:
    """<output> of every outputs.<output>.<field>."""
    fields = (name.removeprefix("outputs.") for name in given if name.startswith("outputs."))
    return tuple(dict.fromkeys(name.rpartition(".")[0] for name in fields if "." in name))


def values_of(parameters: NodeParameters) -> dict[str, Value]:
    """Parameter name -> value, of all; `read_parameters` makes the same parameters of them."""
    return {spec.name: value for spec, value in _table(parameters)}


def unknown_names(parameters: NodeParameters, given: Iterable[str]) -> list[str]:
    """Names that no parameter of this node or of rclpy has."""
    unknown = set(given) - set(values_of(parameters)) - _OF_OTHERS
    return sorted(name for name in unknown if not name.startswith("qos_overrides."))


def similar_name(parameters: NodeParameters, name: str) -> str:
    """The parameter that a misspelt name is meant for; "" where none is near."""
    near = difflib.get_close_matches(name, values_of(parameters), n=1)
    return near[0] if near else ""


def changed(
    parameters: NodeParameters, new: Mapping[str, object], configured: bool = True
) -> NodeParameters:
    """The parameters with new values.

    Args:
        new: parameter name -> value; names that are no parameter of this node are ignored.
        configured: whether the node is beyond `unconfigured`.

    Raises:
        ParameterError: lists every value that is unusable, or cannot change now.
    """
    when = {spec.name: spec.changes for spec, _ in _table(parameters)}
    new = {name: value for name, value in new.items() if name in when}
    problems = [
        f"{name}: takes effect at configure; clean up the node first"
        for name in new
        if when[name] == CONFIGURE and configured
    ]
    problems += [f"{name}: read only" for name in new if when[name] == START]
    if problems:
        raise ParameterError(problems)
    return read_parameters({**values_of(parameters), **new})


def declare(node: Node, parameters: NodeParameters) -> None:
    """Declare the parameters on a node."""
    for spec, value in _table(parameters):
        value = list(value) if isinstance(value, tuple) else value
        node.declare_parameter(spec.name, value, _descriptor(spec), ignore_override=True)


def _descriptor(spec: Spec) -> ParameterDescriptor:
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

    descriptor = ParameterDescriptor(description=spec.doc, read_only=spec.changes == START)
    if spec.choices:
        descriptor.additional_constraints = "one of: " + ", ".join(map(repr, spec.choices))
    if spec.low is not None:
        bounds = {"from_value": spec.low, "to_value": spec.high}
        if isinstance(spec.default, float):
            descriptor.floating_point_range = [FloatingPointRange(**bounds)]
        else:
            descriptor.integer_range = [IntegerRange(**bounds)]
    return descriptor


def _table(parameters: NodeParameters) -> Iterator[tuple[Spec, Any]]:
    """Every parameter with its value."""
    for spec in SPECS:
        value = getattr(parameters, spec.name)
        names = spec.name in ("cameras", "joints")
        yield spec, tuple(entry.name for entry in value) if names else value
    for kind, entries, specs in (
        ("camera", parameters.cameras, CAMERA_SPECS),
        ("joint", parameters.joints, JOINT_SPECS),
        ("output", parameters.outputs, OUTPUT_SPECS),
    ):
        for entry in entries:
            for spec in specs:
                yield spec.of(f"<{kind}>", entry.name), getattr(entry, spec.name.split(".")[-1])


def _build(values: Mapping[str, Any], outputs: Sequence[str]) -> NodeParameters:
    def entry(kind: type, prefix: str, name: str) -> Any:
        own = {row.name: values[f"{prefix}.{name}.{row.name}"] for row in fields(kind)[1:]}
        return kind(name, **own)

    plain = {spec.name: values[spec.name] for spec in SPECS}
    plain["cameras"] = tuple(entry(Camera, "camera", name) for name in values["cameras"])
    plain["joints"] = tuple(entry(Joint, "joint", name) for name in values["joints"])
    plain["outputs"] = tuple(entry(Output, "outputs", name) for name in outputs)
    return NodeParameters(**plain)


# Documentation ------------------------------------------------------------------------------------


def describe(spec: Spec) -> str:
    """Meaning, bounds and choices, and when a change takes effect, in one paragraph."""
    parts = [spec.doc]
    if spec.low is not None:
        whole = isinstance(spec.default, int)
        low, high = (str(n) if whole else f"{n:g}" for n in (spec.low, spec.high))
        parts.append(f"From {low} to {high}.")
    if spec.choices:
        parts.append(f"One of {', '.join(choice or 'empty' for choice in spec.choices)}.")
    if spec.changes != CONFIGURE:
        parts.append(f"({spec.changes})")
    return " ".join(parts)


_HEADER = """\
# Every parameter of the node `pi0`, with its default. Copy what you change into a file of your own:
#   ros2 run pi0_ros pi0_node --ros-args --params-file my_arm.yaml
# `ros2 param set` changes those marked (live) at any time, those marked (start) never, and the
# others while the node is unconfigured. Names below camera.* and joint.* must be among `cameras`
# and `joints`; a misspelt one is an error. `python -m pi0_ros.node.parameters` makes this file.
/**:
  ros__parameters:
"""

_FOOTER = """

    # Quality of service, by the topic's resolved name: history, depth and reliability of any topic
    # that the node subscribes to or publishes on, read at the start.
    #   qos_overrides:
    #     /front/image_raw: {subscription: {reliability: reliable, depth: 5}}
    #     /pi0/joint_trajectory: {publisher: {reliability: best_effort}}
"""


def as_yaml() -> str:
    """config/pi0.yaml: every parameter with its meaning and default."""
    lines = []
    for spec in SPECS:
        if spec.section:
            heading = f"    # {spec.section} "
            lines += ["", heading + "-" * (100 - len(heading))]
        lines += _yaml_entry(spec, spec.name, 4)
        if spec.name == "cameras":
            lines.append("    camera:")
            for number, name in enumerate(spec.default):
                lines.append(f"      {name}:")
                for row in (row.of("<camera>", name) for row in CAMERA_SPECS):
                    lines += _yaml_entry(row, row.name.split(".")[-1], 8, comment=not number)
        if spec.name == "joints":
            lines.append("    # Units, for each joint that needs them:")
            lines += ["    #   joint:", "    #     shoulder_pan:"]
            for row in JOINT_SPECS:
                entry = _yaml_entry(row, row.name.split(".")[-1], 4, width=92)
                lines += [f"    #   {line}" for line in entry]
            lines.append("    # Where several controllers move the joints, one output for each:")
            lines += ["    #   outputs:", "    #     arm:"]
            for row in OUTPUT_SPECS:
                entry = _yaml_entry(row, row.name.split(".")[-1], 4, width=92)
                lines += [f"    #   {line}" for line in entry]
    return _HEADER + "\n".join(lines[1:]) + _FOOTER


def _yaml_entry(
    spec: Spec, name: str, indent: int, comment: bool = True, width: int = 100
) -> list[str]:
    space = " " * indent
    text = textwrap.wrap(
        describe(spec), width, initial_indent=f"{space}# ", subsequent_indent=f"{space}# "
    )
    return [*(text if comment else []), f"{space}{name}: {_yaml_value(spec.default)}"]


def _yaml_value(value: Value) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    if isinstance(value, str):
        # YAML reads a plain off as false.
        return f'"{value}"' if value in ("", "off") else value
    return str(value).lower() if isinstance(value, bool) else repr(value)


if __name__ == "__main__":
    sys.stdout.write(as_yaml())
