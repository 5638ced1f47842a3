"""The policy as the node uses it: loading it by the parameters, and checking its chunks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np

from pi0_ros.node.parameters import NodeParameters
from pi0_ros.policy.types import ActionChunk, Observation


class PolicyLike(Protocol):
    """What the node needs of a policy; pi0_ros.policy.policy.Policy is one.

    Attributes:
        horizon: steps per chunk.
    """

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


def load_policy(parameters: NodeParameters) -> PolicyLike:
    """Load the checkpoint as the parameters say, warmed up; `~` in its paths is the home directory.

    Raises:
        ValueError: the checkpoint is broken, or does not fit the parameters; lists everything.
    """
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
        Path(parameters.checkpoint).expanduser(),
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
        tokenizer=Path(parameters.tokenizer).expanduser() if parameters.tokenizer else None,
        graph=GraphOptions(
            parameters.graph,
            parameters.graph_form,
            Path(parameters.graph_cache).expanduser() if parameters.graph_cache else None,
            parameters.npu_attention,
            parameters.npu_weights == "nz",
        ),
    )


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
