"""What a policy is loaded from, as plain values that another process can be given."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from pi0_ros.share import user_path

if TYPE_CHECKING:
    from pi0_ros.policy.card import PolicyCard
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
    resize: str = "auto"


def as_line(load: str, arguments: LoadArguments) -> bytes:
    """What the policy's own process reads: `load` and its arguments.

    Args:
        load: "module:function", importable by the process; takes the arguments.
    """
    return json.dumps({"load": load, "arguments": asdict(arguments)}).encode() + b"\n"


def arguments_from_json(values: Mapping[str, Any]) -> LoadArguments:
    """JSON has no tuples."""
    plain = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
    return LoadArguments(**plain)


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
        user_path(arguments.checkpoint),
        device=arguments.device,
        dtype=arguments.dtype,
        seed=arguments.seed,
        cameras=arguments.cameras,
        joint_units=JointUnits(arguments.scale, arguments.offset),
        action_mode=arguments.action_mode or None,
        delta_mask=arguments.delta_mask,
        discrete_state_input=arguments.discrete_state_input,
        action_dt=arguments.action_dt,
        tokenizer=user_path(arguments.tokenizer) if arguments.tokenizer else None,
        options=ReadOptions(**arguments.options),
        graph=GraphOptions(**{**arguments.graph, "cache": user_path(cache) if cache else None}),
        rtc_max_delay=arguments.rtc_max_delay,
        resize=arguments.resize,
    )


def card_of(policy: Policy, action_dt: float = 0.0) -> PolicyCard:
    """The card of a policy that is loaded.

    Args:
        action_dt: seconds between two actions; 0: as the checkpoint records it, if it does.
    """
    from pi0_ros.checkpoint.metadata import read_declared
    from pi0_ros.policy.card import PolicyCard

    checkpoint = policy.checkpoint
    declared = read_declared(checkpoint.path, checkpoint.joints)
    if action_dt:
        declared = replace(declared, fps=1 / action_dt, fps_source="as it was started")
    mask = tuple(bool(value) for value in policy.delta_mask)
    return PolicyCard(
        format=checkpoint.format,
        cameras=checkpoint.cameras,
        served=policy.cameras,
        joints=checkpoint.joints,
        horizon=checkpoint.horizon,
        state=checkpoint.state,
        action=checkpoint.action,
        action_mode="delta" if any(mask) else "absolute",
        delta_mask=mask if any(mask) else None,
        prompt_state=policy.prompt_state,
        declared=declared,
        image_size=checkpoint.config.image_size,
        antialias=checkpoint.image.antialias,
        rtc=policy.graphs.options.rtc,
        rtc_max_delay=policy.rtc_max_delay,
    )
