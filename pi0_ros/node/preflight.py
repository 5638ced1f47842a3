"""The check before the policy is loaded: do parameters, checkpoint, limits and topics fit?

A mismatch that is found here does not move an arm wrongly later.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pi0_ros.errors import ProblemsError, UserError
from pi0_ros.node.interface import Topic, node_topics
from pi0_ros.node.parameters import NodeParameters
from pi0_ros.node.preflight_checkpoint import checkpoint_problems, read_options, unit_names
from pi0_ros.node.remote import server_problems
from pi0_ros.share import user_path

if TYPE_CHECKING:
    from pi0_ros.checkpoint.checkpoint import Checkpoint
    from pi0_ros.collision.check import CollisionCheck
    from pi0_ros.motion.limits import JointLimits


class PreflightError(UserError, ValueError):
    """Parameters, checkpoint, limits and graph do not fit each other.

    Attributes:
        problems: everything that is wrong, one sentence or more each.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        lines = "".join(f"\n  - {textwrap.indent(p, '    ').lstrip()}" for p in problems)
        super().__init__(f"{len(problems)} problem(s) found before loading:{lines}")


def preflight(
    parameters: NodeParameters,
    topics: Mapping[str, Sequence[str]] | None,
    resolve: Callable[[str], str] = lambda name: name,
) -> list[str]:
    """Everything that is wrong; empty where nothing is.

    Reads the checkpoint's JSON, statistics and tensor headers, not its weights; or asks the server
    at `policy_url`.

    Args:
        topics: topic -> message types on the graph; None where there is no graph.
        resolve: makes a topic name absolute, remaps applied.
    """
    problems: list[str] = []
    limits = _read_limits(parameters, problems)
    try:
        load_check(parameters, limits)
    except ProblemsError as error:
        problems += [f"collision check: {problem}" for problem in error.problems]
    if parameters.policy_server:
        problems += server_problems(parameters, limits)
    else:
        checkpoint = _read_checkpoint(parameters, problems)
        if checkpoint is not None:
            problems += checkpoint_problems(parameters, checkpoint, limits)
    if topics is not None:
        problems += type_problems(node_topics(parameters), topics, resolve)
    return problems


def type_problems(
    needed: Sequence[Topic],
    topics: Mapping[str, Sequence[str]],
    resolve: Callable[[str], str] = lambda name: name,
) -> list[str]:
    """Topics of the graph that have only other types than the node's; see `preflight`."""
    problems = []
    for topic in needed:
        name = resolve(topic.name)
        there = topics.get(name, ())
        if there and topic.type not in there:
            verb = "publishes" if topic.sent else "subscribes to"
            problems.append(
                f"{name} ({topic.purpose}) has the type {' and '.join(there)}, the node {verb}"
                f" {topic.type}: give another topic by parameter or remapping"
            )
    return problems


def load_limits(parameters: NodeParameters) -> JointLimits | None:
    """Of the joints; None without a file.

    Raises:
        LimitsError: lists everything that is wrong with the files.
    """
    p = parameters
    if not p.limit_files:
        return None
    from pi0_ros.motion.limits import read_limits

    return read_limits(
        p.limit_files,
        p.joint_names,
        p.default_acceleration,
        p.allow_wide_limits,
        [joint.unit for joint in p.joints],
    )


def units_of(parameters: NodeParameters) -> tuple[str, ...]:
    """ "rad" or "m" per joint, whether or not the limits can be used."""
    from pi0_ros.motion.limits import LimitsError

    try:
        limits = load_limits(replace(parameters, allow_wide_limits=True))
    except LimitsError:  # is among the preflight's problems
        limits = None
    return unit_names(parameters, limits)


def load_check(parameters: NodeParameters, limits: JointLimits | None) -> CollisionCheck | None:
    """The check for collisions and the workspace; None where it is off.

    Raises:
        ProblemsError: lists everything that is wrong with the files; pinocchio is missing.
    """
    p = parameters
    if not (p.self_collision or p.workspace_box):
        return None
    from pi0_ros.collision.check import CollisionCheck

    reference = p.collision_reference
    if not reference and limits is not None:
        reference = np.clip(0.0, limits.lower, limits.upper)
    return CollisionCheck(
        user_path(p.urdf),
        p.joint_names,
        self_collision=p.self_collision,
        srdf=user_path(p.srdf) if p.srdf else None,
        margin=p.collision_margin,
        box=p.workspace_box,
        tool=p.tool_frame,
        reference=reference,
    )


def _read_limits(parameters: NodeParameters, problems: list[str]) -> JointLimits | None:
    try:
        return load_limits(parameters)
    except ProblemsError as error:
        problems += error.problems
    return None


def _read_checkpoint(parameters: NodeParameters, problems: list[str]) -> Checkpoint | None:
    # torch takes seconds to import, which --help and a misspelt parameter need not wait for.
    from pi0_ros.checkpoint.errors import CheckpointError
    from pi0_ros.checkpoint.formats import read_checkpoint

    try:
        path = user_path(parameters.checkpoint)
        return read_checkpoint(path, options=read_options(parameters))
    except (CheckpointError, OSError) as error:
        problems.append(str(error))
    return None
