"""Guided real-time chunking with the true vector-Jacobian product, which the package leaves out.

    PYTHONPATH=.:test python -m support.rtc_jacobian

compares it with the identity on the checkpoints that ship, at the same noise: how near a chunk
comes to what it is guided by, and how far the two ways are apart.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from pi0_ros.checkpoint.formats import read_checkpoint
from pi0_ros.model.flow_time import flow_times
from pi0_ros.model.pi0 import Pi0
from pi0_ros.model.rtc import Guided
from pi0_ros.motion.rtc import prefix_weights
from pi0_ros.policy.compile import GraphOptions
from pi0_ros.policy.graphs import Graphs
from pi0_ros.policy.policy import Policy
from pi0_ros.policy.prompt import load_tokenizer
from pi0_ros.policy.types import ActionPrefix, Observation
from pi0_ros.policy.units import JointUnits

SHIFT, DELAY, DT = 15, 8, 0.04
"""Steps between two observations, steps of the delay, seconds of a step."""


def guided_flow(
    model: Pi0,
    noise: Tensor,
    table: Tensor,
    velocity: Callable[[Tensor, Tensor], Tensor],
    rtc: Guided,
    jacobian: bool,
) -> Tensor:
    """All denoise steps as the formula reads: v' = v - w J^T W (Y - x1), x1 = x - t v(x).

    Args:
        velocity: (actions, row of the time table) -> velocity; may be differentiated.
        jacobian: J is that of x1 by x; otherwise the identity.
    """
    n, x = model.config.num_steps, noise
    for t, row, gain in zip(flow_times(n), table.unbind(), rtc.gain.unbind(), strict=True):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            v = velocity(x, row)
            x1 = x - float(t) * v
            weighted = (n * gain * (rtc.target - x1)).detach()  # w W (Y - x1)
            if jacobian:
                (weighted,) = torch.autograd.grad(x1, x, weighted)
        x = (x - (v - weighted) / n).detach()
    return x


class DifferentiatedGraphs(Graphs):
    """Not compiled; `jacobian` may be switched between two inferences."""

    jacobian = True

    def infer(self, images, prompt, state, noise, lap, rtc=None) -> Tensor:
        # Tensors made under inference_mode cannot be differentiated, their copies can.
        with torch.inference_mode(False), torch.no_grad():
            given = (images, prompt.embedded, state, noise, prompt.layout, self.time_table, rtc)
            given = tree_map(lambda v: v.clone() if isinstance(v, Tensor) else v, given)
            images, embedded, state, noise, layout, table, rtc = given
            context = self.model.context(images, embedded, state, layout)

            def velocity(actions: Tensor, row: Tensor) -> Tensor:
                return self.model.velocity(actions, row, context, layout)

            return guided_flow(self.model, noise, table, velocity, rtc, self.jacobian)


def differentiable(path: Path) -> Policy:
    """A policy whose graphs are `DifferentiatedGraphs`, in plain PyTorch."""
    read = read_checkpoint(path)
    model = read.load_model(torch.float32, torch.device("cpu"))
    options = GraphOptions("eager", rtc="guided")
    graphs = DifferentiatedGraphs(model, options, model.time_table(), "")
    joints = read.joints
    return Policy(
        read,
        graphs,
        load_tokenizer(read.path, None),
        cameras=read.cameras,
        joint_units=JointUnits.radians(joints),
        delta_mask=np.zeros(joints, bool),
        action_dt=DT,
        seed=0,
        prompt_state=read.prompt_state or 0,
    )


def compare(policy: Policy, world: Any, told: str, seed: int, weight: float) -> list[float]:
    """Mean distances in radians: of the first DELAY steps from those that guide them, without
    guidance, with the identity and with the Jacobian; and between the last two, over the chunk.

    The arm executes SHIFT steps of a chunk; the rest of it guides the next one.
    """
    horizon = policy.horizon
    noises = [policy.noise(10 * seed + i) for i in range(2)]
    before = policy.infer(Observation(world.images(), world.positions, told), noises[0]).positions
    for command in before[:SHIFT]:
        world.step(command, DT)
    observation = Observation(world.images(), world.positions, told)
    later = before[np.minimum(np.arange(horizon) + SHIFT, horizon - 1)]
    weights = prefix_weights("exp", DELAY, horizon - SHIFT, horizon)
    prefix = ActionPrefix(later, weights, DELAY, weight)
    chunks = [policy.infer(observation, noises[1]).positions]
    for policy.graphs.jacobian in (False, True):
        chunks.append(policy.infer(observation, noises[1], prefix).positions)
    near = [float(np.abs(chunk - later)[:DELAY].mean()) for chunk in chunks]
    return [*near, float(np.abs(chunks[1] - chunks[2]).mean())]


def main() -> None:
    from pi0_ros.sim.task import INSTRUCTIONS, TOUCH_CHECKPOINT, TOUCH_PI05_CHECKPOINT
    from pi0_ros.sim.world import World

    torch.set_num_threads(1)
    world, rng = World(0), np.random.default_rng(0)
    print("| policy | max. weight | free | identity | Jacobian | between them |")
    print("|---|---|---|---|---|---|")
    for name, path in (("pi0", TOUCH_CHECKPOINT), ("pi0.5", TOUCH_PI05_CHECKPOINT)):
        policy = differentiable(path)
        for weight in (5.0, 10.0):
            rows = []
            for scene in range(20):
                world.reset(scene)
                told = INSTRUCTIONS[int(rng.integers(len(INSTRUCTIONS)))]
                rows.append(compare(policy, world, told, scene, weight))
            cells = " | ".join(f"{1e3 * value:.2f}" for value in np.mean(rows, axis=0))
            print(f"| {name} | {weight:g} | {cells} |")
    world.close()


if __name__ == "__main__":
    main()
