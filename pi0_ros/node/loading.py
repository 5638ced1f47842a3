"""Loading the policy as the parameters say, in this process or in one of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Protocol

from pi0_ros.errors import UserError
from pi0_ros.node.parameters import NodeParameters
from pi0_ros.node.preflight import load_limits
from pi0_ros.node.preflight_checkpoint import policy_arguments, read_options
from pi0_ros.node.remote import in_process, on_server
from pi0_ros.policy.types import ActionChunk, Observation
from pi0_ros.serve.load import LoadArguments
from pi0_ros.serve.load import load_policy as load_from


class PolicyLike(Protocol):
    """What the node needs of a policy; pi0_ros.policy.policy.Policy is one.

    Attributes:
        horizon: steps per chunk.

    With the parameter `rtc` it has the attribute `rtc_max_delay`, too, and `infer` takes a prefix.
    """

    @property
    def horizon(self) -> int: ...

    def infer(self, observation: Observation) -> ActionChunk: ...

    def reset(self) -> None:
        """Begin a new episode."""


LoadPolicy = Callable[[NodeParameters], PolicyLike]


class LoadError(UserError, RuntimeError):
    """The policy could not be loaded; the message names the checkpoint and the cause."""

    def __init__(self, parameters: NodeParameters, cause: BaseException) -> None:
        kind = "" if isinstance(cause, ValueError) else f"{type(cause).__name__}: "
        what = f"the checkpoint {parameters.checkpoint!r}"
        if parameters.policy_server:
            what = f"the policy at {parameters.policy_url}"
        super().__init__(
            f"{what} cannot be loaded: {kind}{cause}\n"
            "(--ros-args --log-level pi0:=debug shows where it failed)"
        )


def make_policy(parameters: NodeParameters) -> PolicyLike:
    """The policy where `policy_url` says: in this process, in one of its own, or on a server.

    Raises:
        ValueError: the checkpoint is broken, or does not fit the parameters; lists everything.
        PolicyEnded: the process ended while it loaded; nobody answers at the server's address.
    """
    if not parameters.policy_url:
        return load_policy(parameters)
    if parameters.policy_server:
        return on_server(parameters, load_limits(parameters))
    return in_process(parameters, load_arguments(parameters))


def load_policy(parameters: NodeParameters) -> PolicyLike:
    """Load the checkpoint as the parameters say, warmed up; `~` in its paths is the home directory.

    Raises:
        ValueError: the checkpoint is broken, or does not fit the parameters; lists everything.
    """
    if not parameters.checkpoint:
        raise ValueError("checkpoint: empty; in this process it is needed, whatever policy_url is")
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
        discrete_state_input=asked["discrete_state_input"],
        action_dt=parameters.action_dt,
        tokenizer=parameters.tokenizer,
        options=asdict(read_options(parameters)),
        graph={
            "graph": parameters.graph,
            "form": parameters.graph_form,
            "cache": parameters.graph_cache or None,
            "attention": parameters.npu_attention,
            "weights_nz": parameters.npu_weights == "nz",
            "rotary": parameters.npu_rotary,
            "padded_masks": parameters.npu_masks == "padded",
            "super_kernel": parameters.npu_super_kernel,
            "rtc": parameters.rtc,
            "kernels": parameters.cuda_kernels,
            "precision": parameters.precision,
        },
        threads=parameters.threads,
        rtc_max_delay=parameters.rtc_max_delay,
        resize=parameters.resize,
    )
