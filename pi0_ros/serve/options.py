"""What the options of `pi0 serve` make: the policy, and how its server is reached."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pi0_ros.policy.card import PolicyCard
    from pi0_ros.policy.policy import Policy
    from pi0_ros.serve.server import ServerOptions


def server_options(args: argparse.Namespace) -> ServerOptions:
    """How the server is reached.

    Raises:
        UserError, OSError: a file is missing or holds something else.
    """
    import ssl

    from pi0_ros.serve.key import read_key
    from pi0_ros.serve.mapping import read_mapping
    from pi0_ros.serve.server import ServerOptions

    tls = None
    if args.tls_cert is not None:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(args.tls_cert, args.tls_key)
    return ServerOptions(
        key=read_key(args.api_key_file) if args.api_key_file else "",
        tls=tls,
        most_clients=args.clients,
        largest=args.max_message << 20,
        mapping=read_mapping(args.mapping) if args.mapping else None,
        default_prompt=args.prompt,
    )


def load(args: argparse.Namespace) -> tuple[Policy, PolicyCard]:
    """The policy in the checkpoint's own units, and what it says of itself.

    Raises:
        ValueError: the checkpoint is broken, or does not fit the options; lists everything.
    """
    import torch

    from pi0_ros.checkpoint.formats import ReadOptions, read_checkpoint
    from pi0_ros.policy.batching import BATCH_SIZES
    from pi0_ros.policy.policy import Policy
    from pi0_ros.profile.load_options import graph_options
    from pi0_ros.serve.load import card_of

    if args.threads:
        torch.set_num_threads(args.threads)
    options = ReadOptions(base=str(args.base or ""), asset=args.asset, horizon=args.horizon)
    mask = None
    if args.delta is not None:
        joints = read_checkpoint(args.checkpoint, options=options).joints
        mask = [number in args.delta for number in range(joints)]
    state = {None: None, "prompt": True, "none": False}[args.discrete_state_input]
    policy = Policy.load(
        args.checkpoint,
        device=args.device,
        dtype=args.dtype,
        seed=args.seed,
        cameras=args.cameras,
        action_mode=args.action_mode,
        delta_mask=mask,
        tokenizer=args.tokenizer,
        options=options,
        graph=graph_options(args, args.graph, args.cache),
        rtc_max_delay=args.rtc_max_delay,
        batch_sizes=[size for size in BATCH_SIZES if size <= args.batch],
        discrete_state_input=state,
    )
    return policy, card_of(policy, args.action_dt)
