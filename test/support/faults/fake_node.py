"""pi0_node with the fake policy. FAULT_SABOTAGE breaks the node itself, for the judge to see it."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import Any

from pi0_ros.node.loading import load_arguments, make_policy
from pi0_ros.node.main import main
from pi0_ros.node.remote import in_process
from support.faults import fake_policy


def load(parameters: Any) -> Any:
    """The fake policy, where the parameters say."""
    if parameters.policy_server:
        return make_policy(parameters)
    if not parameters.policy_url:
        return fake_policy.load(parameters)
    arguments = load_arguments(parameters)
    return in_process(parameters, arguments, load="support.faults.fake_policy:load")


def sabotage(how: str) -> None:
    """Make a node that an arm must not be trusted to."""
    import numpy as np

    from pi0_ros.motion import executor as mover

    plan, stop = mover.plan, mover.stop
    if how == "zeros":  # what a watchdog does that means well

        def zeros(*args: Any, **options: Any) -> Any:
            planned = stop(*args, **options)
            path = planned.trajectory
            still = np.zeros_like(path.positions)
            return replace(planned, trajectory=replace(path, positions=still, velocities=still))

        mover.stop = zeros
    elif how == "no limits":

        def unlimited(chunk: Any, limits: Any, tolerances: Any, *rest: Any) -> Any:
            inf = np.full(len(limits.names), 1e6)
            wide = replace(
                limits, lower=-inf, upper=inf, velocity=inf, acceleration=inf, unscaled=None
            )
            open_tolerances = mover.Tolerances(1e6, 1e6, 1e6, 1e6)
            return plan(chunk, wide, open_tolerances, *rest)

        mover.plan = unlimited
    else:
        raise ValueError(how)


if __name__ == "__main__":
    if os.environ.get("FAULT_SABOTAGE"):
        sabotage(os.environ["FAULT_SABOTAGE"])
    sys.exit(main(load=load, check=lambda *_: []))
