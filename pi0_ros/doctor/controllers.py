"""Judging the controllers: who listens to the outputs, and whether it takes what the node sends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pi0_ros.doctor.findings import Finding, fail, ok, warn
from pi0_ros.doctor.reaction import Reaction, lag_of, measure
from pi0_ros.doctor.samples import Collected, Controller
from pi0_ros.node.interface import Interface
from pi0_ros.node.parameter_table import Output
from pi0_ros.node.preflight import units_of

CHECK = "controller"
_OF_TRAJECTORIES = (
    "allow_partial_joints_goal",
    "interpolate_from_desired_state",
    "open_loop_control",
    "constraints.goal_time",
)
"""Parameters that joint_trajectory_controller has, and none that forwards commands."""


def judge_controllers(interface: Interface, collected: Collected) -> list[Finding]:
    if not collected.live:
        return []
    findings = []
    for output in interface.parameters.effective_outputs:
        findings += _output(interface, collected, output)
    return [*findings, *_node(collected)]


def _output(interface: Interface, collected: Collected, output: Output) -> Iterator[Finding]:
    topic = interface.absolute(output.topic)
    others = [e.node for e in collected.publishers.get(topic, ()) if e.node != interface.name]
    if others:
        text = f"{topic}: {', '.join(sorted(others))} publishes commands too"
        yield fail(CHECK, text, "two publishers would fight over the arm: stop one")
    there = [e for e in collected.subscribers.get(topic, ()) if e.node != interface.name]
    wanted = output.type.replace("/", "/msg/")
    for endpoint in there:
        if endpoint.type != wanted:
            text = f"{topic}: {endpoint.node} takes {endpoint.type}, the node sends {wanted}"
            yield fail(CHECK, text, f"set outputs.<name>.type to {endpoint.type}")
    nodes = sorted({e.node for e in there if e.type == wanted})
    if not nodes:
        advice = "give its topic as joint_trajectory_topic, or as outputs.<name>.topic; start it"
        yield warn(CHECK, f"{topic}: no controller subscribes, so nothing would be sent", advice)
        return
    yield ok(CHECK, f"{topic}: {', '.join(nodes)} subscribes")
    asked = [collected.controllers.get(node, Controller(node, None)) for node in nodes]
    silent = [one.node for one in asked if one.parameters is None]
    told = [one for one in asked if "joints" in (one.parameters or {})]
    for controller in told:
        yield from _controller(interface, collected, output, controller)
    if silent and not told:
        text = f"{', '.join(silent)}: tells no parameters, so its joints are not compared"
        yield warn(CHECK, text)
    elif not told:
        text = f"{', '.join(nodes)}: has no parameter `joints`; is it a controller?"
        yield warn(CHECK, text, "compare its joints with the output's yourself")


def _controller(
    interface: Interface, collected: Collected, output: Output, controller: Controller
) -> Iterator[Finding]:
    name = controller.node
    state = collected.states.get(name.rpartition("/")[2])
    if state not in (None, "active"):
        advice = f"ros2 control switch_controllers --activate {name.rpartition('/')[2]}"
        yield fail(CHECK, f"{name} is {state}: it executes nothing", advice)
    values = controller.parameters or {}
    of_trajectories = any(key in values for key in _OF_TRAJECTORIES)
    yield from _joints(output, name, values, of_trajectories)
    yield from _interfaces(name, values)
    if not of_trajectories:
        return
    yield from _replacement(interface, name, values)
    references = collected.references.get(name, ())
    lag = lag_of(references)
    if lag is not None:
        yield ok("lag", f"{name}: the arm is {lag * 1e3:.0f} ms behind its command (measured)")
    else:
        lag = tracking_lag(collected)
    units = dict(zip(interface.parameters.joint_names, units_of(interface.parameters), strict=True))
    yield from _tolerances(lag, output, name, values, units)
    yield from _way(interface, collected, controller)
    reaction = measure(collected.sent.get(interface.absolute(output.topic), ()), references)
    if reaction is not None:
        yield _reaction(name, reaction)


def _joints(
    output: Output, name: str, values: dict[str, Any], of_trajectories: bool
) -> Iterator[Finding]:
    joints, ours = list(values["joints"]), list(output.joints)
    extra = [joint for joint in ours if joint not in joints]
    missing = [joint for joint in joints if joint not in ours]
    if extra:
        text = f"{name} has no joint {', '.join(extra)}: it refuses every message; it has {joints}"
        advice = "give those joints to the output of their own controller (`outputs`)"
        yield fail(CHECK, text, advice)
    if missing and not (of_trajectories and values.get("allow_partial_joints_goal")):
        text = f"{name} wants {', '.join(missing)} too: it refuses messages without"
        yield fail(CHECK, text, "add them to `joints`, or set allow_partial_joints_goal there")
    elif missing:
        text = f"{name} holds {', '.join(missing)}, which the node does not command"
        yield warn(CHECK, text)
    if not extra and not missing:
        if not of_trajectories and joints != ours:
            text = f"{name} takes positions in the order {joints}, the output has {ours}"
            yield fail(CHECK, text, f"set outputs.{output.name}.joints to the controller's order")
        else:
            yield ok(CHECK, f"{name} has the output's {len(ours)} joints")


def _interfaces(name: str, values: dict[str, Any]) -> Iterator[Finding]:
    forwarded = values.get("interface_name", "position")
    if forwarded != "position":
        text = f"{name} forwards to the interface {forwarded}, the node sends positions"
        yield fail(CHECK, text, "use a controller with the interface position")
    commanded = values.get("command_interfaces")
    if commanded is not None and "position" not in commanded:
        text = f"{name} commands {commanded}: its gains decide how the arm follows"
        yield warn(CHECK, text, "check the lag, and tracking_* of the node")
    states = values.get("state_interfaces")
    if states is not None and "position" not in states:
        yield fail(CHECK, f"{name} has no position state interface, only {states}")


def _replacement(interface: Interface, name: str, values: dict[str, Any]) -> Iterator[Finding]:
    """Whether the node's `controller` fits, and what a trajectory that comes late begins at."""
    replaces = bool(values.get("allow_trajectory_replacement", False))
    wanted = "jtc_replacing" if replaces else "jtc"
    given = interface.parameters.controller
    shown = f"{name} {'replaces' if replaces else 'does not replace'} trajectories"
    if "allow_trajectory_replacement" in values:
        shown += f" (allow_trajectory_replacement is {str(replaces).lower()})"
    if given in (wanted, "other"):
        yield ok(CHECK, f"{shown}; the node's controller is {given}")
    else:
        why = "a trajectory that begins in the future would start at the measured position"
        if replaces:
            why = "a stamp in the past means `start now` to it, so chunks would be late"
        text = f"{shown}, the node's controller is {given}: {why}"
        advice = f"set the node's parameter controller to {wanted}"
        if replaces:
            advice = f"set allow_trajectory_replacement to false there, which is exact, or {advice}"
        yield fail(CHECK, text, advice)
    key = "interpolate_from_desired_state"
    key = key if key in values else "open_loop_control"
    if values.get(key) is False:
        text = f"{name}: {key} is false: a trajectory that comes late begins where the arm is"
        yield warn(CHECK, text, f"set {key} to true: the arm lags behind its command")


def _tolerances(
    lag: float | None, output: Output, name: str, values: dict[str, Any], units: Mapping[str, str]
) -> Iterator[Finding]:
    """Path tolerances, within which a lagging arm has to be or the controller stops."""
    given = {j: values.get(f"constraints.{j}.trajectory") or 0.0 for j in output.joints}
    given = {joint: value for joint, value in given.items() if value > 0}
    if not given:
        yield ok(CHECK, f"{name} checks no path tolerances")
        return
    tight = min(given, key=lambda joint: given[joint])
    shown = f"{name}: constraints.{tight}.trajectory is {given[tight]:g} {units[tight]}"
    if lag is None:
        text = f"{shown}; beyond it the controller stops, and the arm's lag is not known yet"
        yield warn(CHECK, text, "run the doctor again while the node moves the arm")
        return
    speed = given[tight] / lag if lag else np.inf
    text = f"{shown}; the arm lags {lag * 1e3:.0f} ms, so it stops beyond"
    text += f" {speed:.2f} {units[tight]}/s"
    yield warn(CHECK, text, "make it wider (or 0: not checked), or lower velocity_scale")


def tracking_lag(collected: Collected) -> float | None:
    """Seconds, of the running node's own estimate; None where it has none."""
    for status in collected.diagnostics.values():
        if lag := status.get("tracking_lag_s"):
            return float(lag)
    return None


def _way(interface: Interface, collected: Collected, controller: Controller) -> Iterator[Finding]:
    """How long a message is on its way: less than a request and its answer, and one period."""
    if not controller.round_trips:
        return
    trip = float(np.percentile(controller.round_trips, 95))
    period = _period(collected, controller)
    text = f"{controller.node}: a request and its answer take {trip * 1e3:.1f} ms (p95)"
    if period is None:
        text += ", its period is not known (update_rate)"
    else:
        text += f", its period is {period * 1e3:.1f} ms"
    wanted, given = trip + (period or 0.0), interface.parameters.splice_lead
    text += f": messages are on their way for less than {wanted * 1e3:.1f} ms (an estimate)"
    if given < wanted:
        text += f"; splice_lead is {given * 1e3:.1f} ms"
        yield warn("lead", text, f"splice_lead: {np.ceil(wanted * 1e3) / 1e3:g}")
    else:
        yield ok("lead", f"{text}; splice_lead is {given * 1e3:.1f} ms")


def _reaction(name: str, reaction: Reaction) -> Finding:
    """What was measured, other than `_way`'s estimate; only while the node moves the arm."""
    if not reaction.late:
        text = f"{name}: followed all {reaction.messages} trajectories from their splice points on"
        return ok("lead", text)
    text = (
        f"{name}: did not follow {reaction.late} of {reaction.messages} trajectories at their"
        f" splice points, but up to {reaction.longest * 1e3:.1f} ms after they came: steps"
    )
    return fail("lead", text, f"splice_lead: more than {reaction.longest:.3f}")


def _period(collected: Collected, controller: Controller) -> float | None:
    """Seconds between two cycles of a controller."""
    namespace = controller.node.rpartition("/")[0]
    manager = collected.controllers.get(f"{namespace}/controller_manager")
    for source in (controller, manager):
        rate = (source.parameters or {}).get("update_rate") if source is not None else None
        if isinstance(rate, int) and rate > 0:
            return 1 / rate
    return None


def _node(collected: Collected) -> Iterator[Finding]:
    """What the running node itself says about the arm."""
    limits = collected.diagnostics.get("limits", {})
    if limits.get("latched"):
        yield fail("node", f"latched by {limits['latched']}", "mend that, then call ~/reset")
    lag = tracking_lag(collected)
    if lag is not None:
        yield ok(
            "lag", f"the arm lags {lag * 1e3:.0f} ms behind its command, by the node's estimate"
        )


def controller_nodes(interface: Interface, collected: Collected) -> Sequence[str]:
    """Full names of the nodes to ask: subscribers of the outputs, and their controller managers."""
    topics = [interface.absolute(o.topic) for o in interface.parameters.effective_outputs]
    nodes = {e.node for topic in topics for e in collected.subscribers.get(topic, ())}
    managers = {f"{node.rpartition('/')[0]}/controller_manager" for node in nodes}
    present = {e.node for ends in collected.publishers.values() for e in ends}
    return sorted((nodes | (managers & present)) - {interface.name})
