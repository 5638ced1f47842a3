"""Checks of the parameters' values; each problem is a sentence that begins with a name."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from pi0_ros.node.parameter_table import Spec, is_server

# A relative, absolute or private topic name of plain tokens (no {substitutions}).
TOPIC = re.compile(r"(~/|/)?[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*")

LONGEST_INSTRUCTION = 1000
"""Characters; the model sees 48 tokens."""

_LONGEST = 300  # characters of a value that a message shows


def checked_value(spec: Spec, given: Mapping[str, object], problems: list[str]) -> Any:
    """The checked value of one parameter, or a problem and the default instead."""
    if spec.name not in given:
        return spec.default
    value = given[spec.name]
    if spec.name.endswith(".type") and isinstance(value, str):
        value = value.replace("/msg/", "/")  # as `ros2 topic info` writes message types
    if value is False and "off" in spec.choices:
        value = "off"  # as YAML reads it without quotes
    value, problem = _checked(spec, value)
    if problem:
        hint = " (quote it in YAML)" if problem == "a string" else ""
        came = repr(given[spec.name])
        came = came if len(came) <= _LONGEST else f"{came[:_LONGEST]}..."
        problems.append(f"{spec.name}: must be {problem}, got {came}{hint}")
        return spec.default
    return value


def _checked(spec: Spec, given: Any) -> tuple[Any, str]:
    """The value, and what it should be instead or ""."""
    kind = type(spec.default)
    if kind is tuple:
        given = () if given is None else given  # rcl has no empty list: `[]` arrives as None
        if spec.single and isinstance(given, str):
            given = (given,) if given else ()
        if spec.numbers:
            return _checked_numbers(given)
        if not isinstance(given, (list, tuple)) or not all(isinstance(v, str) for v in given):
            return None, "a list of strings"
        return tuple(given), ""
    if kind is str and not isinstance(given, str):
        return None, "a string"
    if kind is bool and not isinstance(given, bool):
        return None, "true or false"
    if kind in (int, float):
        if isinstance(given, bool) or not isinstance(given, (int, kind)):
            return None, "a number" if kind is float else "a whole number"
        if not math.isfinite(given):
            return None, "finite"
        if spec.low is not None and not spec.low <= given <= spec.high:
            return None, f"in [{spec.low}, {spec.high}]"
    if spec.choices and given not in spec.choices:
        return None, f"one of {list(spec.choices)}"
    return kind(given), ""


def _checked_numbers(given: Any) -> tuple[Any, str]:
    try:
        values = tuple(float(value) for value in given if not isinstance(value, (bool, str)))
    except (TypeError, ValueError):
        return None, "a list of numbers"
    if isinstance(given, str) or len(values) != len(given):
        return None, "a list of numbers"
    return (values, "") if all(map(math.isfinite, values)) else (None, "a list of finite numbers")


def name_problems(listing: str, names: Sequence[str]) -> list[str]:
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


def cross_problems(values: Mapping[str, Any]) -> list[str]:
    """Topic names, topics of several cameras, scales, and delta_joints."""
    problems = []
    by_topic: dict[str, list[str]] = {}
    for camera in dict.fromkeys(values["cameras"]):
        name = f"camera.{camera}.topic"
        by_topic.setdefault(values[name], []).append(name)
    for topic, names in by_topic.items():
        if len(names) > 1:
            problems.append(f"{' and '.join(names)}: one topic for several cameras: {topic!r}")
    joint_topics = values["joint_states_topics"]
    if not joint_topics:
        problems.append("joint_states_topics: empty; name the topics of the joint states")
    doubled = [topic for topic, count in Counter(joint_topics).items() if count > 1]
    if doubled:
        problems.append(f"joint_states_topics: named more than once: {doubled}")
    for name, value in values.items():
        is_topic = name.endswith("_topic") or re.fullmatch(r"(camera|outputs)\..*\.topic", name)
        for topic in (value,) if is_topic else value if name.endswith("_topics") else ():
            if not TOPIC.fullmatch(topic):
                problems.append(
                    f"{name}: not a ROS topic name: {topic!r} (letters, digits, _ and /): set it to"
                    " the topic that carries these messages"
                )
        if re.fullmatch(r"joint\..*\.scale", name) and value == 0.0:
            problems.append(f"{name}: must not be 0")
    delta = values["action_mode"] == "delta"
    if delta != bool(values["delta_joints"]):
        problems.append(
            f"delta_joints: action_mode is {values['action_mode']!r}, delta_joints is"
            f" {list(values['delta_joints'])}; give both (mode delta) or neither"
        )
    if len(values["instruction"]) > LONGEST_INSTRUCTION:
        problems.append(
            f"instruction: {len(values['instruction'])} characters, allowed are"
            f" {LONGEST_INSTRUCTION}; give the task in a sentence"
        )
    problems += _collision_problems(values)
    problems += _remote_problems(values)
    problems += _precision_problems(values)
    for listing in ("delta_joints", "untracked_joints"):
        strangers = [name for name in values[listing] if name not in values["joints"]]
        if strangers:
            problems.append(f"{listing}: not in joints: {strangers}")
    return problems


def _remote_problems(values: Mapping[str, Any]) -> Iterator[str]:
    url = values["policy_url"]
    if url not in ("", "process"):
        try:
            parts = urlsplit(url)
            good = parts.scheme in ("ws", "wss") and parts.hostname and parts.port != 0
        except ValueError:
            good = False
        if not good or parts.username or parts.query or parts.fragment:
            yield (
                "policy_url: must be empty, process, ws://host:port or wss://host:port, got"
                f" {url!r}"
            )
    for name, needed, where in (
        ("policy_python", url == "process", "process"),
        ("policy_key_file", is_server(url), "a server's address"),
        ("policy_authority", url.startswith("wss://"), "wss://..."),
        ("policy_mapping", is_server(url), "a server's address"),
    ):
        if values[name] and not needed:
            yield f"{name}: goes with a policy_url that is {where}, got {url!r}"


def _precision_problems(values: Mapping[str, Any]) -> Iterator[str]:
    if is_server(values["policy_url"]):
        return
    precision, device = values["precision"], values["device"].partition(":")[0]
    if precision == "float8" and device in ("cpu", "npu"):
        yield f"precision: float8 is for GPUs of NVIDIA, device is {values['device']!r}"
    elif precision == "int8" and device not in ("auto", "cpu", "npu"):
        yield f"precision: int8 is for NPUs and CPUs, device is {values['device']!r}"
    if precision == "float8" and not values["graph_cache"]:
        yield "graph_cache: empty; precision float8 needs the scales that are in it"
    if precision == "float8" and values["dtype"] != "bfloat16":
        yield f"precision: float8 needs dtype bfloat16, it is {values['dtype']!r}"


def _collision_problems(values: Mapping[str, Any]) -> Iterator[str]:
    box, reference = values["workspace_box"], values["collision_reference"]
    if box and (len(box) != 6 or any(low >= high for low, high in zip(box, box[3:], strict=False))):
        yield (
            "workspace_box: must be xmin, ymin, zmin, xmax, ymax, zmax, each minimum below its"
            f" maximum, got {list(box)}"
        )
    if reference and len(reference) != len(values["joints"]):
        yield (
            f"collision_reference: must have one number per joint ({len(values['joints'])}), got"
            f" {len(reference)}"
        )
    for name in ("self_collision", "workspace_box"):
        if values[name] and not values["urdf"]:
            yield f"{name}: needs the robot's URDF; give the file as urdf"


def output_problems(values: Mapping[str, Any], outputs: Sequence[str]) -> Iterator[str]:
    """Joints that do not belong to exactly one output, and topics of several outputs."""
    if not outputs:
        return
    if values["joint_trajectory_topic"] != "~/joint_trajectory":
        yield "joint_trajectory_topic: `outputs` take its place; give one of them"
    owners: dict[str, list[str]] = {}
    topics: dict[str, list[str]] = {}
    for output in outputs:
        names = values[f"outputs.{output}.joints"]
        if not names:
            yield f"outputs.{output}.joints: empty; name the joints of its controller"
        for joint in names:
            owners.setdefault(joint, []).append(output)
        topics.setdefault(values[f"outputs.{output}.topic"], []).append(output)
    unknown = [joint for joint in owners if joint not in values["joints"]]
    if unknown:
        yield f"outputs: not in joints: {unknown}"
    absent = [joint for joint in values["joints"] if joint not in owners]
    if absent:
        yield f"outputs: joints that no output has: {absent}"
    for joint, its in owners.items():
        if len(its) > 1:
            yield f"outputs: joint {joint!r} is named more than once: in {' and '.join(its)}"
    for topic, its in topics.items():
        if topic and len(its) > 1:
            yield f"outputs: one topic for {' and '.join(its)}: {topic!r}"
