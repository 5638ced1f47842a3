"""pi0_node with a fake policy that takes its time, as a process for signals to be sent to.

Environment: LOAD_SECONDS, INFER_SECONDS, WORK. It prints "loading" and "inferring" as these begin.
"""

import os
import sys
import time

import numpy as np
from support.harness import FakePolicy

from pi0_ros.node.main import main
from pi0_ros.policy.types import ActionChunk, Observation


class SlowPolicy(FakePolicy):
    def work(self) -> None:
        """A moment inside native code, where no signal reaches: torch's if asked for."""
        if os.environ.get("WORK") == "torch":
            import torch

            torch.mm(torch.ones(300, 300), torch.ones(300, 300))
        else:
            time.sleep(0.01)

    def infer(self, observation: Observation) -> ActionChunk:
        print("inferring", flush=True)
        end = time.monotonic() + float(os.environ.get("INFER_SECONDS", "0"))
        while time.monotonic() < end:
            self.work()
        positions = np.tile(observation.state.astype(np.float32), (self.horizon, 1))
        return ActionChunk(positions, 0.02, observation.stamp, 0, 0, {"model": 0.0})


def load(parameters) -> SlowPolicy:
    print("loading", flush=True)
    time.sleep(float(os.environ.get("LOAD_SECONDS", "0")))
    return SlowPolicy()


sys.exit(main(load=load, check=lambda *_: []))
