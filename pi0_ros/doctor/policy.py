"""Judging parameters, checkpoint and limits: what `configure` would refuse, before it is tried."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from pi0_ros.checkpoint.checkpoint import Checkpoint
from pi0_ros.checkpoint.errors import CheckpointError
from pi0_ros.checkpoint.formats import read_checkpoint
from pi0_ros.checkpoint.metadata import read_declared
from pi0_ros.doctor.findings import Finding, fail, ok, warn
from pi0_ros.motion.limits import WIDE, LimitsError
from pi0_ros.node.declared import fill_declared
from pi0_ros.node.interface import Interface
from pi0_ros.node.parameters import NodeParameters, similar_name, unknown_names
from pi0_ros.node.preflight import load_limits, preflight
from pi0_ros.node.preflight_checkpoint import plain_name, read_options
from pi0_ros.policy.prompt import TokenizerError, load_tokenizer, tokenize, unknown_tokens
from pi0_ros.share import user_path

USUAL_DT = (0.005, 0.2)
"""Seconds between two steps in which data sets are recorded: 200 to 5 Hz."""


def judge_parameters(interface: Interface, checkpoint: Checkpoint | None) -> list[Finding]:
    return [*_unknown(interface), *_pace(interface, checkpoint)]


def _unknown(interface: Interface) -> Iterator[Finding]:
    parameters = interface.parameters
    unknown = unknown_names(parameters, interface.arguments.overrides)
    for name in unknown:
        near = similar_name(parameters, name)
        text = f"{name}: the node has no parameter of that name and would ignore it"
        if near:
            yield fail("parameters", f"{text}; did you mean {near}?", f"write {near}")
        else:
            yield warn("parameters", text, "config/pi0.yaml has all names")
    if not unknown:
        yield ok("parameters", f"{len(interface.arguments.overrides)} are given, all of them known")


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
        yield warn("parameters", text, advice)
    elif not low <= dt <= high:
        text = f"action_dt is {dt:g} s ({1 / dt:.4g} steps per second)"
        advice = "data sets are recorded at 5 to 200 Hz, as a rule; 30 Hz is 0.0333"
        yield warn("parameters", text, advice)
    elif not fps:
        text = f"action_dt is {dt:.4g} s ({1 / dt:.4g} Hz); the checkpoint does not tell its pace"
        yield ok("parameters", text)


def judge_policy(parameters: NodeParameters) -> tuple[list[Finding], Checkpoint | None]:
    """All findings of the preflight but the graph's; the checkpoint where it can be read."""
    wide = replace(parameters, allow_wide_limits=True)
    problems = preflight(wide, None)
    findings = [fail("preflight", problem) for problem in problems]
    findings += _limits(wide, allowed=parameters.allow_wide_limits)
    if parameters.policy_server:
        if not problems:
            findings.append(ok("preflight", f"the policy at {parameters.policy_url} fits"))
        return findings, None
    try:
        path = user_path(parameters.checkpoint)
        checkpoint = read_checkpoint(path, options=read_options(parameters))
    except (CheckpointError, OSError):
        return findings, None  # is among the problems
    if not problems:
        text = (
            f"{checkpoint.format} checkpoint {checkpoint.path}: cameras"
            f" {list(parameters.camera_names)}, {checkpoint.joints} joints,"
            f" {checkpoint.config.horizon} steps of {parameters.action_dt:g} s fit"
        )
        findings.append(ok("preflight", text))
    left_out = [name for name in checkpoint.cameras if name not in parameters.camera_names]
    if left_out and not problems:
        text = f"cameras {left_out} of the checkpoint are left out: the model does not see them"
        findings.append(warn("preflight", text, "right only if training had such cases"))
    if not parameters.limit_files:
        advice = "give joint_limits.yaml as joint_limits, or the URDF as urdf"
        findings.append(warn("preflight", "no joint_limits: the node makes only dry runs", advice))
    findings += _joint_order(parameters, checkpoint)
    findings.append(_tokenizer(parameters, checkpoint))
    return findings, checkpoint


def _limits(parameters: NodeParameters, allowed: bool) -> Iterator[Finding]:
    """What the files of limits say that is legal and unlikely."""
    try:
        limits = load_limits(parameters)
    except LimitsError:
        return  # is among the problems
    if limits is None:
        return
    for sentence in limits.remarks:
        yield warn("limits", sentence)
    for sentence in limits.wide:
        yield warn("limits", sentence, "" if allowed else f"configure refuses them. {WIDE}")


def _joint_order(parameters: NodeParameters, checkpoint: Checkpoint) -> Iterator[Finding]:
    try:
        declared = read_declared(checkpoint.path, checkpoint.joints)
    except CheckpointError:
        return  # is among the problems
    if not declared.joints:
        text = "the checkpoint records no joint names: the order of `joints` cannot be proved"
        yield warn("order", text, "compare it with the data set's meta/info.json")
        return
    pairs = list(zip(parameters.joint_names, declared.joints, strict=False))
    if all(plain_name(ours) == plain_name(theirs) for ours, theirs in pairs):
        yield ok("order", f"`joints` are in the order of the checkpoint ({declared.joints_source})")
    else:
        listed = ", ".join(f"{ours} = {theirs}" for ours, theirs in pairs)
        text = f"names differ from the checkpoint's ({declared.joints_source}): {listed}"
        yield warn("order", text, "make sure that each pair is the same joint")


def _tokenizer(parameters: NodeParameters, checkpoint: Checkpoint) -> Finding:
    """Whether it reads the instruction."""
    given = user_path(parameters.tokenizer) if parameters.tokenizer else None
    instruction = parameters.instruction if parameters.instruction.strip() else "touch the cube"
    config = checkpoint.config
    try:
        tokenizer = load_tokenizer(checkpoint.path, given)
        tokenize(
            tokenizer,
            instruction,
            cleans=checkpoint.cleans_prompt,
            length=config.prompt_length,
            vocab_size=config.vocab_size,
        )
    except (TokenizerError, ValueError, ImportError) as error:
        return fail("tokenizer", str(error))
    unknown = unknown_tokens(tokenizer, instruction)
    if unknown:
        text = f"{unknown} tokens of {instruction!r} are unknown to it"
        advice = "use the words and the script (small letters?) of the training data"
        return warn("tokenizer", text, advice)
    return ok("tokenizer", f"reads {instruction!r}")
