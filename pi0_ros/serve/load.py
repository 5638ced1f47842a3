"""What a policy is loaded from, as plain values that another process can be given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pi0_ros.policy.policy import Policy


@dataclass(frozen=True)
class LoadArguments:
    """The arguments of `pi0_ros.policy.policy.Policy.load`, as JSON values.

    Attributes:
        checkpoint, tokenizer: paths; "" is no tokenizer. `~` is the home directory.
        scale, offset: per joint, radians = scale * the checkpoint's unit + offset.
        action_mode: "" is what the checkpoint says.
        delta_mask: per joint; None: no joint's actions are relative.
        discrete_state_input: None is what the checkpoint says.
        options: keyword arguments of `pi0_ros.checkpoint.formats.ReadOptions`.
        graph: keyword arguments of `pi0_ros.policy.compile.GraphOptions`; the cache is a path or
            None.
        threads: of torch, 0 is torch's own choice.
        rtc_max_delay: 0 is what the checkpoint says.
    """

    checkpoint: str
    device: str
    dtype: str
    seed: int
    cameras: tuple[str, ...]
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    action_mode: str
    delta_mask: tuple[bool, ...] | None
    discrete_state_input: bool | None
    action_dt: float
    tokenizer: str
    options: Mapping[str, Any]
    graph: Mapping[str, Any]
    threads: int
    rtc_max_delay: int = 0


def load_policy(arguments: LoadArguments) -> Policy:
    """Load and warm up the policy, in the thread that will infer.

    Raises:
        ValueError: the checkpoint is broken, or does not fit the arguments; lists everything.
    """
    # torch takes seconds to import, which a node that only starts need not wait for.
    import torch

    from pi0_ros.checkpoint.formats import ReadOptions
    from pi0_ros.policy.compile import GraphOptions
    from pi0_ros.policy.policy import Policy
    from pi0_ros.policy.units import JointUnits

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    cache = arguments.graph.get("cache")
    return Policy.load(
        Path(arguments.checkpoint).expanduser(),
        device=arguments.device,
        dtype=arguments.dtype,
        seed=arguments.seed,
        cameras=arguments.cameras,
        joint_units=JointUnits(arguments.scale, arguments.offset),
        action_mode=arguments.action_mode or None,
        delta_mask=arguments.delta_mask,
        discrete_state_input=arguments.discrete_state_input,
        action_dt=arguments.action_dt,
        tokenizer=Path(arguments.tokenizer).expanduser() if arguments.tokenizer else None,
        options=ReadOptions(**arguments.options),
        graph=GraphOptions(
            **{**arguments.graph, "cache": Path(cache).expanduser() if cache else None}
        ),
        rtc_max_delay=arguments.rtc_max_delay,
    )
