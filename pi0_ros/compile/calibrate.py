"""The scales of float8, and what eight bits do to the actions, by a recording's observations."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from pi0_ros.bags.bag import BagError
from pi0_ros.console import progress
from pi0_ros.model.quantised import observed
from pi0_ros.node.parameters import NodeParameters
from pi0_ros.policy.graph_cache import write_calibration
from pi0_ros.policy.policy import Policy
from pi0_ros.policy.types import ActionChunk, ActionPrefix, Observation
from pi0_ros.replay.case import Case, check_case, load, node_arguments, open_case
from pi0_ros.replay.steps import Steps

GATE = 0.99
"""Least cosine of an observation's raw (normalised) actions with those in full precision."""

MOST = 50
"""Observations, from all over the recording; up to twice as many are in memory."""


def calibrate(args: argparse.Namespace) -> dict[str, float]:
    """Observe the recording in full precision, keep the scales, and compare.

    Args:
        args: of `pi0 compile`.

    Returns:
        `observations`, and the `least` and `mean` cosine of their raw actions.

    Raises:
        UserError: the recording does not fit the checkpoint and the parameters.
    """
    case = open_case(
        args.calibrate, node_arguments(args.checkpoint, args.params, args.ros_args or [])
    )
    check_case(case)
    observations = collect(case)
    common = {"device": args.device, "dtype": args.dtype, "graph": "eager", "rtc": "off"}
    full = replace(case.parameters, **common, precision="full", threads=args.threads)
    expected = _actions(full, observations, args)
    own = replace(full, precision=args.precision, graph_cache=str(args.cache))
    alike = torch.cosine_similarity(_actions(own, observations, args), expected, dim=1)
    return {
        "observations": len(observations),
        "least": float(alike.min()),
        "mean": float(alike.mean()),
    }


def collect(case: Case) -> list[Observation]:
    """What the node would give to the policy, evenly over a recording.

    Raises:
        BagError: it would give nothing.
    """
    watcher = _Watcher(len(case.parameters.joints))
    steps = Steps(case.interface, case.topics, watcher)
    for _ in steps.run(case.bag.messages(case.types)):
        pass
    if not watcher.observations:
        reasons = [f"{reason} ({text})" for reason, (_, text) in steps.first_refused.items()]
        raise BagError(f"{case.bag.path}: no observation; refused: {'; '.join(reasons) or 'none'}")
    return watcher.observations


class _Watcher:
    """Stands where the policy does, and holds the arm still."""

    horizon = 2

    def __init__(self, joints: int) -> None:
        self.observations: list[Observation] = []
        self._joints, self._count, self._stride = joints, 0, 1

    def noise(self, sequence: int) -> np.ndarray:
        return np.empty(0, np.float32)

    def reset(self) -> None:
        pass

    def infer(
        self,
        observation: Observation,
        noise: np.ndarray | None = None,
        prefix: ActionPrefix | None = None,
    ) -> ActionChunk:
        if self._count % self._stride == 0:
            self.observations.append(observation)
        self._count += 1
        if len(self.observations) > 2 * MOST:
            self.observations, self._stride = self.observations[::2], 2 * self._stride
        positions = np.tile(np.asarray(observation.state, np.float32), (self.horizon, 1))
        return ActionChunk(positions, 0.02, observation.stamp, 0, seed=0)


def _actions(
    parameters: NodeParameters, observations: Sequence[Observation], args: argparse.Namespace
) -> Tensor:
    """Raw actions [observations, horizon * joints] in double, each from the noise of its number.

    In full precision on the way to float8, what the products are given becomes the calibration.
    """
    policy = load(parameters)
    assert isinstance(policy, Policy)
    observes = args.precision == "float8" and parameters.precision == "full"
    raw: list[Tensor] = []
    infer = policy.graphs.infer

    def noting(*given: object, **more: object) -> Tensor:
        raw.append(infer(*given, **more))
        return raw[-1]

    policy.graphs.infer = noting
    try:
        with observed(policy.graphs.model) if observes else nullcontext() as calibration:
            for number, seen in enumerate(progress(observations, desc=parameters.precision)):
                policy.infer(seen, policy.noise(number))
            if observes:
                write_calibration(args.cache, calibration())
    finally:
        del policy.graphs.infer  # or the model refers to itself, and stays beside the next one
    joints = len(parameters.joints)
    return torch.stack([actions[0, :, :joints].flatten().double() for actions in raw])
