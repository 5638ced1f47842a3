"""The policy as the node uses it: whether it fits, loading it, and checking its chunks.

`contract_problems` compares parameters, checkpoint, joint limits and the graph before anything is
loaded: what is found here is not found by an arm that moves wrongly.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pi0_ros.errors import UserError
from pi0_ros.node.contract_fit import checkpoint_problems, policy_arguments
from pi0_ros.node.interface import Topic, node_topics
from pi0_ros.node.parameters import NodeParameters
from pi0_ros.policy.types import ActionChunk, Observation
from pi0_ros.serve.load import LoadArguments
from pi0_ros.serve.load import load_policy as load_from

if TYPE_CHECKING:
    from pi0_ros.checkpoint.checkpoint import Checkpoint
    from pi0_ros.motion.limits import JointLimits


class PolicyLike(Protocol):
    """What the node needs of a policy; pi0_ros.policy.policy.Policy is one.

    Attributes:
        horizon: steps per chunk.
    """

    @property
    def horizon(self) -> int: ...

    def infer(self, observation: Observation) -> ActionChunk: ...

    def reset(self) -> None:
        """Begin a new episode."""


LoadPolicy = Callable[[NodeParameters], PolicyLike]


class LoadError(UserError, RuntimeError):
    """The policy could not be loaded; the message names the checkpoint and the cause."""

    def __init__(self, checkpoint: str, cause: BaseException) -> None:
        kind = "" if isinstance(cause, ValueError) else f"{type(cause).__name__}: "
        super().__init__(
            f"the checkpoint {checkpoint!r} cannot be loaded: {kind}{cause}\n"
            "(--ros-args --log-level pi0:=debug shows where it failed)"
        )


class ContractError(UserError, ValueError):
    """Parameters, checkpoint, limits and graph do not fit each other.

    Attributes:
        problems: everything that is wrong, one sentence or more each.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        lines = "".join(f"\n  - {textwrap.indent(p, '    ').lstrip()}" for p in problems)
        super().__init__(f"{len(problems)} problem(s) in the contract:{lines}")


def contract_problems(
    parameters: NodeParameters,
    topics: Mapping[str, Sequence[str]] | None,
    resolve: Callable[[str], str] = lambda name: name,
) -> list[str]:
    """Everything that does not fit; empty when configuring may go on.

    Reads the checkpoint's JSON, statistics and tensor headers, not its weights.

    Args:
        topics: topic -> message types on the graph; None where there is no graph.
        resolve: makes a topic name absolute, remaps applied.
    """
    problems: list[str] = []
    limits = _read_limits(parameters, problems)
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
    """Topics that exist with other types than the node's only; see `contract_problems`."""
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


def _read_limits(parameters: NodeParameters, problems: list[str]) -> JointLimits | None:
    if not parameters.joint_limits:
        return None
    from pi0_ros.motion.limits import LimitsError, read_limits

    path = Path(parameters.joint_limits).expanduser()
    try:
        return read_limits(path, parameters.joint_names, parameters.default_acceleration)
    except LimitsError as error:
        problems += error.problems
    return None


def _read_checkpoint(parameters: NodeParameters, problems: list[str]) -> Checkpoint | None:
    # torch takes seconds to import, which --help and a misspelt parameter need not wait for.
    from pi0_ros.checkpoint.formats import read_checkpoint
    from pi0_ros.checkpoint.weights import CheckpointError

    try:
        return read_checkpoint(Path(parameters.checkpoint).expanduser())
    except (CheckpointError, OSError) as error:
        problems.append(str(error))
    return None


def make_policy(parameters: NodeParameters) -> PolicyLike:
    """The policy in this process, or with `policy_process` in one of its own; see `load_policy`.

    Raises:
        ValueError: the checkpoint is broken, or does not fit the parameters; lists everything.
        PolicyEnded: the process ended while it loaded.
    """
    if not parameters.policy_process:
        return load_policy(parameters)
    from pi0_ros.serve.process import PolicyProcess

    return PolicyProcess(load_arguments(parameters))


def load_policy(parameters: NodeParameters) -> PolicyLike:
    """Load the checkpoint as the parameters say, warmed up; `~` in its paths is the home directory.

    Raises:
        ValueError: the checkpoint is broken, or does not fit the parameters; lists everything.
    """
    return load_from(load_arguments(parameters))


def load_arguments(parameters: NodeParameters) -> LoadArguments:
    """What the policy is loaded from."""
    asked = policy_arguments(parameters)
    mask = asked["delta_mask"]
    return LoadArguments(
        checkpoint=parameters.checkpoint,
        device=parameters.device,
        dtype=parameters.dtype,
        seed=parameters.seed,
        cameras=parameters.camera_names,
        scale=tuple(joint.scale for joint in parameters.joints),
        offset=tuple(joint.offset for joint in parameters.joints),
        action_mode=parameters.action_mode,
        delta_mask=None if mask is None else tuple(mask),
        action_dt=parameters.action_dt,
        tokenizer=parameters.tokenizer,
        graph={
            "graph": parameters.graph,
            "form": parameters.graph_form,
            "cache": parameters.graph_cache or None,
            "attention": parameters.npu_attention,
            "weights_nz": parameters.npu_weights == "nz",
        },
        threads=parameters.threads,
    )
