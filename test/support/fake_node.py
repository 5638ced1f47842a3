"""The real node with a policy that holds still, for replays without a checkpoint.

Environment: FAKE_SECONDS is how long an inference takes, FAKE_NODE one of "" (works), "dies" (ends
with status 3 in the first inference) and "hangs" (does not react to SIGINT and SIGTERM).
"""

import os
import signal
import sys
import time

import numpy as np

from pi0_ros.node import main as node_main
from pi0_ros.node.parameters import NodeParameters
from pi0_ros.policy.types import ActionChunk, Observation

MODE = os.environ.get("FAKE_NODE", "")


class StillPolicy:
    """Wants every joint to stay where it was observed, for 50 steps."""

    horizon = 50
    device = "cpu"

    def __init__(self, parameters: NodeParameters) -> None:
        self.cameras = parameters.camera_names
        self.dt = parameters.action_dt
        self.sequence = 0

    def reset(self) -> None:
        self.sequence = 0

    def infer(self, observation: Observation) -> ActionChunk:
        if MODE == "dies":
            print("the fake policy dies", flush=True)
            os._exit(3)
        seconds = float(os.environ.get("FAKE_SECONDS", "0.02"))
        time.sleep(seconds)
        self.sequence += 1
        return ActionChunk(
            positions=np.tile(observation.state.astype(np.float32), (self.horizon, 1)),
            dt=self.dt,
            stamp=observation.stamp,
            sequence=self.sequence - 1,
            seed=0,
            stage_times={"all": seconds},
        )


if __name__ == "__main__":
    if MODE == "hangs":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    sys.exit(node_main.main(load=StillPolicy, check=lambda *_: []))
