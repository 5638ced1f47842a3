"""The policy elsewhere, as the parameters `policy_...` say: how to reach it, whether it fits."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from pi0_ros.errors import UserError
from pi0_ros.node.parameters import NodeParameters
from pi0_ros.node.preflight_checkpoint import fit_problems, joint_units, policy_arguments
from pi0_ros.serve.load import LoadArguments
from pi0_ros.share import user_path

if TYPE_CHECKING:
    from pi0_ros.motion.limits import JointLimits
    from pi0_ros.policy.card import PolicyCard
    from pi0_ros.serve.mapping import KeyMapping
    from pi0_ros.serve.remote import RemotePolicy, RobotSide

LOAD_POLICY = "pi0_ros.serve.load:load_policy"


def in_process(
    parameters: NodeParameters, arguments: LoadArguments, load: str = LOAD_POLICY
) -> RemotePolicy:
    """The policy in a process of its own, loaded and warm; see `RemotePolicy`.

    Args:
        arguments: what it is loaded from.
        load: "module:function" that takes them.
    """
    from pi0_ros.serve.links import ChildLink
    from pi0_ros.serve.remote import RemotePolicy

    joints = len(parameters.joints)
    # On the way everything is in the checkpoint's unit.
    arguments = replace(arguments, scale=(1.0,) * joints, offset=(0.0,) * joints)
    link = ChildLink(arguments, load, os.path.expanduser(parameters.policy_python))
    return RemotePolicy(link, _robot_side(parameters))


def on_server(parameters: NodeParameters, limits: JointLimits | None = None) -> RemotePolicy:
    """The policy of the server at `policy_url`, which is compared at every connection.

    Raises:
        PolicyEnded: nobody answers.
        WrongPolicy: what answers does not fit; lists everything.
        UserError, OSError: a file is missing or holds something else.
    """
    from pi0_ros.serve.key import read_key
    from pi0_ros.serve.links import ServerLink
    from pi0_ros.serve.remote import RemotePolicy

    p = parameters
    key = read_key(user_path(p.policy_key_file)) if p.policy_key_file else ""
    authority = user_path(p.policy_authority) if p.policy_authority else None
    link = ServerLink(p.policy_url, key, authority)
    return RemotePolicy(link, _robot_side(p), partial(served_problems, p, limits))


def server_problems(parameters: NodeParameters, limits: JointLimits | None) -> list[str]:
    """What is wrong with the server at `policy_url` and its policy; empty where nothing is."""
    from pi0_ros.serve.remote import PolicyEnded, WrongPolicy

    try:
        on_server(parameters, limits).close()
    except (PolicyEnded, WrongPolicy, UserError, OSError, ValueError) as error:
        return [f"policy_url: {error}"]
    return []


def served_problems(
    parameters: NodeParameters, limits: JointLimits | None, card: PolicyCard | None
) -> Sequence[str]:
    """Everything in which the parameters do not fit the policy of a server.

    Args:
        card: None: a server that does not describe its policy.
    """
    if card is None:
        return _unsaid_problems(parameters)
    problems = fit_problems(parameters, card, card.declared, limits)
    if parameters.rtc not in ("off", card.rtc):
        problems.append(
            f"rtc: {parameters.rtc}, but the server's policy was loaded with rtc {card.rtc}; start"
            f" it with --rtc {parameters.rtc}"
        )
    missing = [name for name in card.served if name not in parameters.camera_names]
    if missing:
        problems.append(
            f"cameras: the server's policy takes {list(card.served)}, this robot lacks {missing};"
            " start the server with --cameras and those that it has"
        )
    unserved = [
        name for name in parameters.camera_names if name in card.cameras and name not in card.served
    ]
    if unserved:
        problems.append(
            f"cameras: {unserved} are not among those that the server's policy takes,"
            f" {list(card.served)}; leave them out, or start the server with them"
        )
    return problems


def _unsaid_problems(parameters: NodeParameters) -> list[str]:
    """What the parameters have to say where a server does not."""
    problems = []
    mapping = _mapping(parameters)
    if parameters.rtc != "off":
        problems.append(
            f"rtc: {parameters.rtc}, which servers of openpi do not have; set it to off"
        )
    if not parameters.horizon:
        problems.append("horizon: the server does not say it; give the steps of its chunks")
    if not parameters.action_mode:
        problems.append(
            "action_mode: the server does not say whether its actions are absolute positions of the"
            " joints; give absolute, or delta with delta_joints. Velocities and poses of the tool"
            " are neither"
        )
    unknown = [name for name in parameters.camera_names if mapping.key_of(name) is None]
    if unknown:
        problems.append(
            f"cameras: {unknown} have no key in policy_mapping; it has {list(mapping.images)}"
        )
    counts = tuple(mapping.state.values())
    joints = len(parameters.joints)
    if 0 not in counts and sum(counts) != joints:
        problems.append(
            f"joints: policy_mapping has keys for {sum(counts)} numbers of the state, there are"
            f" {joints} joints"
        )
    return problems


def _mapping(parameters: NodeParameters) -> KeyMapping | None:
    from pi0_ros.serve.mapping import read_mapping

    return read_mapping(parameters.policy_mapping) if parameters.policy_mapping else None


def _robot_side(parameters: NodeParameters) -> RobotSide:
    from pi0_ros.serve.remote import RobotSide

    return RobotSide(
        units=joint_units(parameters),
        dt=parameters.action_dt,
        cameras=parameters.camera_names,
        mapping=_mapping(parameters),
        horizon=parameters.horizon,
        delta_mask=policy_arguments(parameters)["delta_mask"],
        images=parameters.policy_images,
    )
