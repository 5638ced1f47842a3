"""This package's process in the race: `python -m benchmarks.race.ours`."""

import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.race.worker import Contestant, Stages, serve
from pi0_ros.checkpoint.formats import read_checkpoint
from pi0_ros.policy.compile import GraphOptions
from pi0_ros.policy.graphs import load_graphs
from pi0_ros.policy.policy import DTYPES, Policy
from pi0_ros.policy.types import Observation
from pi0_ros.policy.units import JointUnits


def load(job: dict[str, Any]) -> Contestant:
    """The policy as a job wants it: checkpoint, inputs, dtype, steps, prompt, compiler."""
    inputs = load_file(job["inputs"])
    read = read_checkpoint(job["checkpoint"])
    read = replace(read, config=replace(read.config, num_steps=job["steps"]))
    cache = None if job.get("cache") is None else Path(job["cache"])
    options = GraphOptions(job["graph"], job["form"], cache)
    dtype, cpu = DTYPES[job["dtype"]], torch.device("cpu")
    graphs = load_graphs(read, options, dtype, cpu, len(read.cameras))
    tokens = inputs["tokens"][: job["prompt"]].tolist()
    policy = Policy(
        read,
        graphs,
        lambda text: tokens,
        cameras=read.cameras,
        joint_units=JointUnits.radians(read.joints),
        delta_mask=np.zeros(read.joints, bool),
        action_dt=0.02,
        seed=0,
        prompt_state=read.prompt_state or 0,
    )
    images = {name: inputs[f"image.{i}"].numpy() for i, name in enumerate(read.cameras)}
    observation = Observation(images, inputs["state"].numpy(), "as given")
    noise = inputs["noise"][0].numpy()
    stages = Stages()
    if graphs.is_eager:
        stages.wrap(graphs.model.vision, "forward", "vision")
        stages.wrap(graphs.model, "context", "prefix")
        stages.wrap(graphs.model, "denoise_step", "denoise")
    else:
        stages.wrap(graphs, "infer", "denoise")

    def infer() -> Tensor:
        return torch.from_numpy(policy.infer(observation, noise).positions)

    def count() -> None:
        # Without the inference mode that the method brings along, see `Calls`.
        inspect.unwrap(Policy.infer)(policy, observation, noise)

    return Contestant(infer, count, stages, True, {"torch": torch.__version__})


if __name__ == "__main__":
    serve(load)
