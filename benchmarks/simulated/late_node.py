"""pi0_node with a policy that takes longer than it does, as a larger one would.

`python -m benchmarks.simulated.late_node MS [arguments of pi0_node]`
"""

from __future__ import annotations

import sys
import time
from typing import Any

from pi0_ros.node.loading import PolicyLike, make_policy
from pi0_ros.node.main import main
from pi0_ros.node.parameters import NodeParameters
from pi0_ros.policy.types import ActionChunk, Observation


class LatePolicy:
    """A policy whose every chunk comes `delay` seconds of real time later; otherwise as it is."""

    def __init__(self, policy: PolicyLike, delay: float) -> None:
        self._policy = policy
        self._delay = delay

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)

    def infer(self, observation: Observation) -> ActionChunk:
        """The policy's chunk."""
        chunk = self._policy.infer(observation)
        time.sleep(self._delay)
        return chunk


def _late(seconds: float) -> int:
    def load(parameters: NodeParameters) -> LatePolicy:
        return LatePolicy(make_policy(parameters), seconds)

    return main(sys.argv[2:], load=load)


if __name__ == "__main__":
    sys.exit(_late(float(sys.argv[1]) / 1e3))
