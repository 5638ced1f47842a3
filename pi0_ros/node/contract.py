"""The policy as the node uses it: loading it by the parameters, and checking that they agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from pi0_ros.node.parameters import NodeParameters
from pi0_ros.policy.types import ActionChunk, Observation


class PolicyLike(Protocol):
    """What the node needs of a policy; pi0_ros.policy.policy.Policy is one.

    Attributes:
        cameras: names of the images that an observation must hold.
        num_joints: length of the state; None when the checkpoint does not say.
        horizon: steps per chunk.
    """

    @property
    def cameras(self) -> Sequence[str]: ...

    @property
    def num_joints(self) -> int | None: ...

    @property
    def horizon(self) -> int: ...

    def infer(self, observation: Observation) -> ActionChunk: ...


LoadPolicy = Callable[[NodeParameters], PolicyLike]


class LoadError(RuntimeError):
    """The policy could not be loaded; the message names the checkpoint and the cause."""

    def __init__(self, checkpoint: str, cause: BaseException) -> None:
        kind = "" if isinstance(cause, ValueError) else f"{type(cause).__name__}: "
        super().__init__(
            f"the checkpoint {checkpoint!r} cannot be loaded: {kind}{cause}\n"
            "(--ros-args --log-level pi0:=debug shows where it failed)"
        )


class ContractError(ValueError):
    """The parameters and the checkpoint do not fit; the message lists every difference."""

    def __init__(self, checkpoint: str, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        lines = "".join(f"\n  - {problem}" for problem in problems)
        super().__init__(f"the parameters do not fit the checkpoint {checkpoint}:{lines}")


def load_policy(parameters: NodeParameters) -> PolicyLike:
    """Load the checkpoint as the parameters say, warmed up."""
    # torch takes seconds to import, which --help and a misspelt parameter need not wait for.
    import torch

    from pi0_ros.policy.graph import GraphOptions
    from pi0_ros.policy.policy import Policy
    from pi0_ros.policy.units import JointUnits, delta_mask

    if parameters.threads:
        # For the calling thread, which is the one that infers.
        torch.set_num_threads(parameters.threads)
    joints = parameters.joints
    return Policy.load(
        parameters.checkpoint,
        device=parameters.device,
        dtype=parameters.dtype,
        seed=parameters.seed,
        cameras=parameters.camera_names,
        joint_units=JointUnits(
            scale=np.array([joint.scale for joint in joints]),
            offset=np.array([joint.offset for joint in joints]),
        ),
        action_mode=parameters.action_mode or None,
        delta_mask=(
            delta_mask(parameters.joint_names, parameters.delta_joints)
            if parameters.delta_joints
            else None
        ),
        action_dt=parameters.action_dt,
        tokenizer=parameters.tokenizer or None,
        graph=GraphOptions(
            parameters.graph,
            parameters.graph_form,
            Path(parameters.graph_cache).expanduser() if parameters.graph_cache else None,
            parameters.npu_attention,
            parameters.npu_weights == "nz",
        ),
    )


def check_contract(parameters: NodeParameters, policy: PolicyLike) -> None:
    """Compare the cameras and joints of the parameters with the policy's.

    Raises:
        ContractError: lists everything that differs.
    """
    problems = []
    wanted, given = list(policy.cameras), list(parameters.camera_names)
    unknown = [name for name in given if name not in wanted]
    if unknown:
        problems.append(f"cameras {unknown}: the checkpoint knows {wanted}")
    absent = [name for name in wanted if name not in given]
    if absent:
        problems.append(f"cameras: the checkpoint also needs {absent}, the parameters have {given}")
    joints = len(parameters.joints)
    if policy.num_joints is not None and policy.num_joints != joints:
        problems.append(
            f"joints: the checkpoint has {policy.num_joints}, the parameters name {joints}:"
            f" {list(parameters.joint_names)}"
        )
    if problems:
        raise ContractError(parameters.checkpoint, problems)


def check_chunk(chunk: ActionChunk, policy: PolicyLike, joints: int) -> None:
    """Check a chunk's shape before its columns are taken for joints.

    Raises:
        ValueError: names the shapes.
    """
    expected = (policy.horizon, joints)
    if chunk.positions.shape != expected:
        raise ValueError(
            f"the policy returned positions of shape {list(chunk.positions.shape)},"
            f" expected {list(expected)} (steps, joints)"
        )
