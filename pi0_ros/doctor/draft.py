"""A parameter file for a robot that has none yet; what is not certain is marked GUESS."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import yaml

from pi0_ros.bags.bag import IMAGE_TYPES
from pi0_ros.checkpoint.checkpoint import Checkpoint
from pi0_ros.checkpoint.metadata import Declared
from pi0_ros.checkpoint.normalization import Normalization
from pi0_ros.doctor.robot import Listener, Robot
from pi0_ros.motion.limit_files import Limit
from pi0_ros.node.parameter_table import JOINT_TRAJECTORY
from pi0_ros.node.preflight_checkpoint import plain_name
from pi0_ros.policy.compatibility import has_statistics

IMAGE, COMPRESSED = IMAGE_TYPES
BOOL = "std_msgs/msg/Bool"
MARK = "GUESS"
_NOT_COLOUR = ("depth", "infra", "disparity", "mask", "/ir/", "_ir/", "camera_info")
_GRIPPER = re.compile("grip|finger|jaw|hand", re.IGNORECASE)
_PLAIN = re.compile(r"[A-Za-z_][\w./-]*", re.ASCII)
_DEGREE = math.pi / 180
_ROOM = 0.1
"""Share of a joint's way by which training data may seem to leave its limits."""


@dataclass
class Draft:
    """Lines below ros__parameters, and how many are guesses."""

    lines: list[str] = field(default_factory=list)
    guesses: int = 0

    def section(self, title: str) -> None:
        self.lines += ["", f"# {title}"]

    def add(self, name: str, value: Any, why: str, guess: str = "") -> None:
        """One parameter: why it is so, or (`guess`) what it rests on and has to be looked at."""
        if guess:
            self.guesses += 1
            why = f"{MARK}: {guess}"
        self.lines += [f"# {_printable(one)}" for one in why.split("\n")]
        key = name if _PLAIN.fullmatch(name) else _quoted(name)
        self.lines.append(f"{key}: {_quoted(value)}")


class _Quoting(yaml.SafeDumper):
    """Quotes every string: rcl takes other plain ones for numbers and truth values than PyYAML."""


_Quoting.add_representer(
    str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')
)


def _quoted(value: Any) -> str:
    """A value on one line of YAML."""
    text = yaml.dump(value, Dumper=_Quoting, default_flow_style=True, width=math.inf)
    return text.removesuffix("...\n").rstrip("\n")


def _printable(text: str) -> str:
    """Names come from topics and files: none may end a comment."""
    return "".join(c if c.isprintable() else "?" for c in text)


def draft(
    robot: Robot, checkpoint: Checkpoint, declared: Declared, limits: Mapping[str, Limit], urdf: str
) -> Draft:
    """The parameters that a checkpoint and a robot lead to.

    Args:
        declared: what the checkpoint's files say beside it.
        limits: joint -> limits, of the URDF; empty without one.
        urdf: path of the URDF for the file; "" without one.
    """
    out = Draft()
    out.section("Model")
    path = str(checkpoint.path.resolve())
    out.add("checkpoint", path, f"{checkpoint.format}, {checkpoint.joints} joints")
    text = "the task in words, until one arrives on the topic instruction"
    out.add("instruction", "", "", text)
    _time(out, robot, checkpoint, declared)
    _cameras(out, robot, checkpoint.cameras)
    joints = _joints(out, robot, checkpoint, declared, limits)
    _units(out, checkpoint, declared, joints, limits)
    _outputs(out, robot, joints)
    out.section("Limits")
    if urdf:
        text = f"position and velocity limits are those of {robot.urdf_source}"
        out.add("urdf", urdf, text)
        text = "URDFs have no accelerations: rad/s^2 (m/s^2) that each joint may do"
        out.add("default_acceleration", 5.0, "", text)
    else:
        text = "no URDF was found: give joint_limits.yaml of ros2_control or MoveIt, or urdf"
        out.add("joint_limits", "", "", f"{text};\nwithout one the node makes only dry runs")
    _stopping(out, robot)
    return out


def _time(out: Draft, robot: Robot, checkpoint: Checkpoint, declared: Declared) -> None:
    out.section("Time")
    fps = declared.fps or 30.0
    guess = "the checkpoint does not tell the pace of its data: see `fps` in its meta/info.json"
    source = f"steps per second ({declared.fps_source})"
    out.add("fps", fps, source, "" if declared.fps else guess)
    horizon = checkpoint.config.horizon / fps
    rate = 10.0 if horizon > 0.2 else min(100.0, round(2 / horizon, 1))
    out.add("rate_hz", rate, f"ticks per second; a chunk lasts {horizon:.3g} s")
    if horizon <= 0.5:
        out.add("starve_timeout", round(horizon / 2, 3), "below a chunk's duration")
    if robot.simulated_time:
        out.add("use_sim_time", True, "/clock is published")
        out.add("frozen_frames", 0, "a simulated camera may show one image for long")


def _cameras(out: Draft, robot: Robot, cameras: Sequence[str]) -> None:
    """Each of the checkpoint's cameras gets the topic whose name resembles it."""
    out.section("Cameras: as the checkpoint names them")
    plain = [t for t in robot.topics_of(IMAGE) if not any(word in t for word in _NOT_COLOUR)]
    packed = {
        t.removesuffix("/compressed")
        for t in robot.topics_of(COMPRESSED)
        if t.endswith("/compressed") and not any(word in t for word in _NOT_COLOUR)
    }
    compressed = not plain and bool(packed)
    left = sorted(packed) if compressed else plain
    offered = ", ".join(left) or "none"
    chosen: dict[str, tuple[str, str]] = {}
    for camera in cameras:
        alike = [t for t in left if camera.lower() in t.lower()]
        if len(alike) == 1 or any(t.startswith(f"/{camera}/") for t in alike):
            topic = next((t for t in alike if t.startswith(f"/{camera}/")), alike[0])
            chosen[camera] = topic, ""
            left.remove(topic)
    for camera in [camera for camera in cameras if camera not in chosen]:
        alike = [t for t in left if camera.lower() in t.lower()] or left
        if alike:
            chosen[camera] = alike[0], f"its name does not tell; there are {offered}"
            left.remove(alike[0])
        else:
            guess = f"no image topic is left for it; there are {offered}"
            chosen[camera] = f"{camera}/image_raw", guess
    out.add("cameras", list(cameras), "")
    if compressed:
        out.add("image_transport", "compressed", "only compressed images are published")
    for camera, (topic, guess) in chosen.items():
        out.add(f"camera.{camera}.topic", topic, "its name is the camera's", guess)


def _joints(
    out: Draft,
    robot: Robot,
    checkpoint: Checkpoint,
    declared: Declared,
    limits: Mapping[str, Limit],
) -> list[str]:
    """The robot's joints in the checkpoint's order."""
    out.section("Joints: in the order of the checkpoint's state")
    seen = [name for positions in robot.positions.values() for name in positions]
    count = checkpoint.joints
    by_plain = {plain_name(name): name for name in seen}
    commanded = [n for listener in robot.listeners for n in listener.joints]
    guess, why = "", f"the names in {declared.joints_source}"
    if declared.joints and all(plain_name(name) in by_plain for name in declared.joints):
        names = [by_plain[plain_name(name)] for name in declared.joints]
    else:
        pools = (commanded, [n for n in seen if n in limits], seen, list(limits))
        pool = next((pool for pool in pools if len(set(pool)) == count), seen or list(limits))
        names = list(dict.fromkeys(pool))[:count]
        guess = "the checkpoint records no names: prove the order with its data set"
        if declared.joints:
            guess = f"the checkpoint's are {list(declared.joints)}: make sure of each pair"
        if len(names) < count:
            guess = f"{len(names)} of {count} were seen: is every joint state published?"
        elif len(set(pool)) > count:
            guess += f"; of {len(set(pool))} joints these are the first: {sorted(set(pool))}"
    out.add("joints", names, why, guess)
    topics = [t for t, positions in robot.positions.items() if set(positions) & set(names)]
    why = "has the joints" if len(topics) == 1 else "each has some of the joints"
    guess = "" if topics else "no joint state came"
    out.add("joint_states_topics", topics or ["joint_states"], why, guess)
    slow = [robot.counts[t] / robot.seconds for t in topics if robot.seconds > 0]
    if slow and min(slow) < 12:
        age = round(2.5 / max(min(slow), 0.1), 2)
        out.add("joint_states_max_age", age, f"they come at {min(slow):.1f} Hz")
        out.add("max_skew", round(age * 0.6, 2), "as slow joint states need it")
    return names


def _units(
    out: Draft,
    checkpoint: Checkpoint,
    declared: Declared,
    joints: Sequence[str],
    limits: Mapping[str, Limit],
) -> None:
    """Radians (metres) = scale * the checkpoint's unit + offset."""
    out.section("Units: radians (metres where prismatic) = scale * the checkpoint's unit + offset")
    for i, joint in enumerate(joints):
        limit = limits.get(joint)
        if declared.unit_scale:
            scale, offset = declared.unit_scale[i], declared.unit_offset[i]
            why, guess = "as the checkpoint's directory declares it", ""
        else:
            scale, offset, guess = guess_unit(checkpoint.state, i, limit, joint)
            why = ""
        prismatic = limit is not None and limit.unit == "m"
        out.add(f"joint.{joint}.scale", scale, why, guess)
        if offset:
            out.add(f"joint.{joint}.offset", round(offset, 6), "goes with the scale")
        if prismatic:
            out.add(f"joint.{joint}.unit", "m", "prismatic in the URDF")


def guess_unit(
    state: Normalization, i: int, limit: Limit | None, joint: str = ""
) -> tuple[float, float, str]:
    """(scale, offset, what it rests on) of a joint, by the training's range and the joint's."""
    if not has_statistics(state):
        return 1.0, 0.0, "the checkpoint has no statistics: is its unit radians?"
    low, high = np.sort(state.offset[i] + np.array([-1.0, 1.0]) * state.scale[i])
    data = f"the training's states lie in [{low:.4g}, {high:.4g}]"
    known = limit is not None and math.isfinite(limit.lower) and math.isfinite(limit.upper)
    if not known:
        degrees = max(-low, high) > 2 * math.pi
        unit = "degrees" if degrees else "radians"
        return (_DEGREE if degrees else 1.0), 0.0, f"{data}, which looks like {unit}"
    way, middle = limit.upper - limit.lower, (limit.upper + limit.lower) / 2
    own = "metres" if limit.unit == "m" else "radians"
    percent = (way / 100, limit.lower, "0 to 100 % of its way")
    candidates = [
        (1.0, 0.0, own),
        *([percent] if _GRIPPER.search(joint) else []),  # 100 degrees are a gripper's way as well
        *([(_DEGREE, 0.0, "degrees")] if own == "radians" else [(0.001, 0.0, "millimetres")]),
        percent,
        (way / 200, middle, "-100 to 100 % of its way"),
    ]
    for scale, offset, unit in candidates:
        ends = np.array([low, high]) * scale + offset
        outside = "%" in unit and (low < -101 or high > 101)
        room = _ROOM * way
        if ends[0] >= limit.lower - room and ends[1] <= limit.upper + room and not outside:
            fits = f"{data}, its limits are [{limit.lower:.4g}, {limit.upper:.4g}]: {unit}"
            return float(f"{scale:.8g}"), offset, fits
    return 1.0, 0.0, f"{data}, beyond its limits [{limit.lower:.4g}, {limit.upper:.4g}] in any unit"


def _outputs(out: Draft, robot: Robot, joints: Sequence[str]) -> None:
    """Where the commands go: one controller with all joints, or several."""
    out.section("Controllers")
    wanted = set(joints)
    told = [one for one in robot.listeners if wanted & set(one.joints)]
    whole = [one for one in told if set(one.joints) >= wanted and one.type == JOINT_TRAJECTORY]
    silent = [one for one in robot.listeners if not one.joints]
    if whole:
        one = whole[0]
        out.add("joint_trajectory_topic", one.topic, f"{_name(one)} has all joints")
    elif told:
        taken: set[str] = set()
        for one in told:
            if not taken.isdisjoint(one.joints):
                continue  # the first listener of a joint gets it
            taken |= set(one.joints)
            name = one.topic.strip("/").split("/")[0]
            out.add(f"outputs.{name}.topic", one.topic, f"{_name(one)} has these joints")
            own = [joint for joint in one.joints if joint in wanted]
            out.add(f"outputs.{name}.joints", own, "in its order")
            out.add(f"outputs.{name}.type", one.type, "")
        served = {joint for one in told for joint in one.joints}
        if missing := [joint for joint in joints if joint not in served]:
            out.add("outputs.other.topic", "other/joint_trajectory", "", f"nobody has {missing}")
            out.add("outputs.other.joints", missing, "")
    elif silent:
        one = next((one for one in silent if one.type == JOINT_TRAJECTORY), silent[0])
        guess = f"{_name(one)} listens and does not tell its joints"
        if one.type == JOINT_TRAJECTORY:
            out.add("joint_trajectory_topic", one.topic, "", guess)
        else:
            out.add("outputs.all.topic", one.topic, "", guess)
            out.add("outputs.all.joints", list(joints), "", "the order has to be the controller's")
            out.add("outputs.all.type", one.type, "")
    else:
        topic = "/joint_trajectory_controller/joint_trajectory"
        out.add("joint_trajectory_topic", topic, "", "no controller was seen: start it, or name it")
    replaces = [
        one for one in told if one.parameters.get("allow_trajectory_replacement", False) is True
    ]
    if replaces:
        why = f"{_name(replaces[0])} has allow_trajectory_replacement"
        out.add("controller", "jtc_replacing", why)
        out.add("splice_lead", 0.1, "goes with it")
    elif told and any(one.parameters for one in told):
        out.add("controller", "jtc", "joint_trajectory_controller that replaces nothing")
    else:
        guess = "joint_trajectory_controller; it did not tell its parameters"
        out.add("controller", "jtc", "", guess)


def _name(listener: Listener) -> str:
    return listener.node or f"whoever took {listener.topic}"


def _stopping(out: Draft, robot: Robot) -> None:
    out.section("Stopping")
    stops = [t for t in robot.topics_of(BOOL) if "stop" in t.lower()]
    topic = stops[0] if stops else "emergency_stop"
    guess = "its name" if stops else "nobody publishes one: std_msgs/Bool, true stops at once"
    out.add("emergency_stop_topic", topic, "", guess)


def as_yaml(found: Draft, robot: Robot, date: str) -> str:
    head = [
        f"# Parameters of the node pi0, drafted by `pi0 doctor --write` on {date} from",
        f"# {_printable(robot.source)}. {found.guesses} lines are guesses: search for {MARK},",
        "# look at each, then let `pi0 doctor --params THIS_FILE` judge the whole.",
        "# config/pi0.yaml explains every parameter.",
        "/**:",
        "  ros__parameters:",
    ]
    lines = [f"    {line}" if line else "" for line in found.lines if line != "# "]
    return "\n".join([*head, *lines]) + "\n"
