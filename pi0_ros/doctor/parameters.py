"""Judging the parameters by themselves: misspelt names, and defaults that nobody has looked at."""

from __future__ import annotations

from collections.abc import Iterator

from pi0_ros.checkpoint.checkpoint import Checkpoint
from pi0_ros.checkpoint.errors import CheckpointError
from pi0_ros.checkpoint.metadata import read_declared
from pi0_ros.doctor.findings import Finding, fail, ok, warn
from pi0_ros.node.declared import fill_declared
from pi0_ros.node.interface import Interface
from pi0_ros.node.parameters import similar_name, unknown_names

USUAL_DT = (0.005, 0.2)
"""Seconds between two steps in which data sets are recorded: 200 to 5 Hz."""

CHECK = "parameters"


def judge_parameters(interface: Interface, checkpoint: Checkpoint | None) -> list[Finding]:
    """All findings about what is given and what is not."""
    return [*_unknown(interface), *_pace(interface, checkpoint)]


def _unknown(interface: Interface) -> Iterator[Finding]:
    parameters = interface.parameters
    unknown = unknown_names(parameters, interface.arguments.overrides)
    for name in unknown:
        near = similar_name(parameters, name)
        text = f"{name}: the node has no parameter of that name and would ignore it"
        if near:
            yield fail(CHECK, f"{text}; did you mean {near}?", f"write {near}")
        else:
            yield warn(CHECK, text, "config/pi0.yaml has all names")
    if not unknown:
        yield ok(CHECK, f"{len(interface.arguments.overrides)} are given, all of them known")


def _pace(interface: Interface, checkpoint: Checkpoint | None) -> Iterator[Finding]:
    """Where nothing else proves `action_dt`: the preflight compares it with a declared pace."""
    dt, fps = interface.parameters.action_dt, None
    if checkpoint is not None:
        try:
            fps = read_declared(checkpoint.path, checkpoint.joints).fps
        except CheckpointError:
            return  # is among the preflight's problems
    given = fill_declared(interface.arguments.overrides)[0]
    low, high = USUAL_DT
    if not fps and "action_dt" not in given and "fps" not in given:
        text = f"neither action_dt nor fps is given: steps are taken to be {dt:g} s apart"
        advice = "give fps as the data set's meta/info.json has it: it decides how fast the arm is"
        yield warn(CHECK, text, advice)
    elif not low <= dt <= high:
        text = f"action_dt is {dt:g} s ({1 / dt:.4g} steps per second)"
        yield warn(CHECK, text, "data sets are recorded at 5 to 200 Hz, as a rule; 30 Hz is 0.0333")
    elif not fps:
        text = f"action_dt is {dt:.4g} s ({1 / dt:.4g} Hz); the checkpoint does not tell its pace"
        yield ok(CHECK, text)
