"""How the time of an inference grows with cameras, steps, prompt tokens and batch.

At the medium size in one process: each point is the fastest of a few inferences, in CPU time. The
arithmetic predicts how it should grow; what grows faster than that is a surprise.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.race.case import products
from benchmarks.race.machine import Machine, bound, least_seconds
from pi0_ros.checkpoint.formats import read_checkpoint
from pi0_ros.console import progress
from pi0_ros.model.config import Pi0Config
from pi0_ros.model.ops import select
from pi0_ros.model.pi0 import Pi0

VALUES = {
    "cameras": (1, 2, 3),
    "steps": (1, 4, 7, 10),
    "prompt tokens": (4, 16, 32, 48),
    "batch": (1, 2, 4),
}
_SUPER_LINEAR = 1.15


@dataclass(frozen=True)
class Growth:
    """One quantity.

    Attributes:
        seconds, predicted: CPU seconds at `values`, measured and bound by arithmetic and bytes.
        slope, predicted_slope: of lines fitted to them, seconds per unit.
        bend: slope between the last two values / slope from the first to the last; above 1 it
            grows super-linearly. 0 where it does not grow.
        predicted_bend: the same of the prediction.
    """

    values: tuple[int, ...]
    seconds: tuple[float, ...]
    predicted: tuple[float, ...]
    slope: float
    predicted_slope: float
    bend: float
    predicted_bend: float

    @property
    def surprises(self) -> bool:
        return self.bend > _SUPER_LINEAR * max(self.predicted_bend, 1.0)


def scaling(checkpoint: Path, machine: Machine, dtype: torch.dtype) -> dict[str, Growth]:
    """Measure every quantity by itself, the others at 2 cameras, 10 steps, 48 tokens, batch 1.

    Args:
        checkpoint: any number of cameras: only its weights and sizes are used.
        machine: rates for the prediction.
    """
    read = read_checkpoint(checkpoint)
    cpu = torch.device("cpu")
    model = read.load_model(dtype, cpu, select(cpu, dtype))
    out = {}
    points = sum(map(len, VALUES.values()))
    with progress(total=points, desc="scaling", unit="point") as bar:
        for name, values in VALUES.items():
            seconds, predicted = [], []
            for value in values:
                at = {"cameras": 2, "steps": 10, "prompt tokens": 48, "batch": 1, name: value}
                seconds.append(least_seconds(_inference(model, at), 5))
                predicted.append(_predict(model.config, at, machine, dtype.itemsize))
                bar.update()
            out[name] = _growth(values, seconds, predicted)
    return out


def _inference(model: Pi0, at: dict[str, int]) -> Callable[[], Any]:
    c = replace(model.config, num_steps=at["steps"])
    g = torch.Generator().manual_seed(0)
    batch, cameras, length = at["batch"], at["cameras"], at["prompt tokens"]
    images = torch.rand(batch, cameras, 3, c.image_size, c.image_size, generator=g) * 2 - 1
    tokens = torch.randint(3, c.vocab_size, (batch, length), generator=g)
    state = torch.randn(batch, c.max_state_dim, generator=g)
    noise = torch.randn(batch, c.horizon, c.max_action_dim, generator=g)
    valid = torch.ones(batch, cameras * c.tokens_per_image + length, dtype=torch.bool)

    def run() -> None:
        with torch.inference_mode():
            model.config = c
            table = times.unbind()
            context = model.context(images, prompt, state, layout)
            actions = noise
            for time_bias in table:
                actions = model.denoise_step(actions, time_bias, context, layout)

    with torch.inference_mode():
        prompt, layout = model.embed_prompt(tokens), model.layout(valid)
        model.config = c
        times = model.time_table()
    return run


def _predict(c: Pi0Config, at: dict[str, int], machine: Machine, item: int) -> float:
    c = replace(c, num_steps=at["steps"])
    found = products(c, at["cameras"], at["prompt tokens"])
    grown = [
        replace(p, m=p.m * at["batch"]) if p.weight else replace(p, count=p.count * at["batch"])
        for p in found
    ]
    return sum(bound(grown, machine, item).values())


def _growth(values: Sequence[int], seconds: Sequence[float], predicted: Sequence[float]) -> Growth:
    def bend(found: Sequence[float]) -> float:
        mean = (found[-1] - found[0]) / (values[-1] - values[0])
        last = (found[-1] - found[-2]) / (values[-1] - values[-2])
        return float(last / mean) if mean > 0 else 0.0

    return Growth(
        tuple(values),
        tuple(seconds),
        tuple(predicted),
        float(np.polyfit(values, seconds, 1)[0]),
        float(np.polyfit(values, predicted, 1)[0]),
        bend(seconds),
        bend(predicted),
    )
