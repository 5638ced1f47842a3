"""Training of the small pi0 of the touch task on a CPU, from random weights or a checkpoint's."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from examples.touch_task.data import STATE_MODES, TrainingData
from examples.touch_task.demonstrations import Demonstrations
from examples.touch_task.objective import Pointer, losses, pointing_losses
from examples.touch_task.optimiser import Optimiser, schedule
from examples.touch_task.tokenizer import write_task_tokenizer
from examples.touch_task.weights import (
    checkpoint_tensors,
    line_up_numbers,
    new_model,
    statistics_of,
    take_over,
)
from pi0_ros import console
from pi0_ros.checkpoint.directory import CONFIG
from pi0_ros.checkpoint.save import save_checkpoint
from pi0_ros.checkpoint.tokenizer import STATE_SENTENCES
from pi0_ros.model.config import TINY, TINY_PI05, Pi0Config
from pi0_ros.policy.prompt import load_tokenizer
from pi0_ros.sim.expert import CONTROL_SECONDS
from pi0_ros.sim.stage import CAMERAS, JOINTS
from pi0_ros.sim.task import SENTENCES

CONFIGS = {"pi0": TINY, "pi05": TINY_PI05}
_SAVE_EVERY = 100  # steps: what an interrupted training leaves behind


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights.

    Attributes:
        variant: `pi0` or `pi05`.
        seed: of demonstrations, initial weights, draws and noise.
        scenes: how many the expert works in; each gives eight observations.
        wrist_share: share of them of the variant `wrist`.
        pointing_steps: steps in which the prefix alone learns to point.
        steps: steps of the whole model.
        batch: observations per step.
        draws: noises and times per observation.
        rate: highest learning rate.
        average: decay per step of the average of the weights, which is what is saved.
        pointing_weight: of the pointing losses beside the flow loss.
        patch_weight: of the patches beside the goal.
        max_delay: longest prefix, in steps, that is given as already sent; see `objective`.
        start: directory of the checkpoint whose weights and statistics training begins with; "":
            random weights.
        corrections: scenes in which the policy of `start` leads the arm and the expert says what to
            do; see `corrections`.
        keep: share of the first weights in those that are saved (Wortsman et al. 2022, "Robust
            fine-tuning of zero-shot models").
    """

    variant: str = "pi0"
    seed: int = 0
    scenes: int = 3600
    wrist_share: float = 0.3
    pointing_steps: int = 1800
    steps: int = 3600
    batch: int = 24
    draws: int = 2
    rate: float = 2e-3
    average: float = 0.995
    pointing_weight: float = 0.5
    patch_weight: float = 0.5
    max_delay: int = 12
    start: str = ""
    corrections: int = 0
    keep: float = 0.0


@dataclass(frozen=True)
class Losses:
    """One loss per step, in order.

    Attributes:
        goal, patches: how badly the prefix points, from the first step on.
        flow: of the whole model, which begins where the prefix has learned alone.
    """

    goal: list[float]
    patches: list[float]
    flow: list[float]


def train(
    demonstrations: Demonstrations,
    directory: Path,
    recipe: Recipe,
    config: Pi0Config | None = None,
) -> Losses:
    """Train on demonstrations and write a checkpoint directory in LeRobot 0.4's format.

    The same arguments give the same weights on one machine with one thread.

    Args:
        directory: gets the checkpoint with tokenizer, statistics and processors.
        config: default: the tiny one of the recipe's variant.
    """
    config = CONFIGS[recipe.variant] if config is None else config
    generator = torch.Generator().manual_seed(recipe.seed + 1)
    write_task_tokenizer(directory, SENTENCES, STATE_SENTENCES if config.pi05 else ())
    statistics = statistics_of(Path(recipe.start)) if recipe.start else None
    data = TrainingData(demonstrations, config, directory, generator, statistics)
    model = new_model(config, len(JOINTS), recipe.seed)
    if config.pi05:
        line_up_numbers(model, load_tokenizer(directory, None), recipe.seed)
    if recipe.start:
        take_over(model, Path(recipe.start), directory)
    first = checkpoint_tensors(model)
    pointer = Pointer(config, len(JOINTS), recipe.seed)
    curves = Losses([], [], [])

    optimiser = Optimiser((model, pointer), recipe.rate, recipe.average)
    bar = console.progress(range(recipe.pointing_steps), desc="learns to point", unit="step")
    for step in bar:
        goal, patches = pointing_losses(model, pointer, data.draw(recipe.batch))
        # The falling half of the schedule belongs to the whole model.
        loss = goal + recipe.patch_weight * patches
        optimiser.step(loss, schedule(step, 2 * recipe.pointing_steps))
        curves.goal.append(goal.item())
        curves.patches.append(patches.item())
        _show(bar, step, goal=curves.goal, patches=curves.patches)

    optimiser = Optimiser((model, pointer), recipe.rate, recipe.average)
    bar = console.progress(range(recipe.steps), desc="learns to move", unit="step")
    for step in bar:
        batch = data.draw(recipe.batch, recipe.max_delay)
        flow, goal, patches = losses(model, pointer, batch, recipe.draws, generator)
        loss = flow + recipe.pointing_weight * (goal + recipe.patch_weight * patches)
        optimiser.step(loss, schedule(step, recipe.steps))
        curves.flow.append(flow.item())
        curves.goal.append(goal.item())
        curves.patches.append(patches.item())
        _show(bar, step, flow=curves.flow, goal=curves.goal, patches=curves.patches)
        if step + 1 == recipe.steps or (step + 1) % _SAVE_EVERY == 0:
            optimiser.swap_average()
            kept = {
                name: trained.lerp(first[name], recipe.keep)
                for name, trained in checkpoint_tensors(model).items()
            }
            _save(directory, config, kept, data, recipe.max_delay)
            optimiser.swap_average()
    return curves


def _show(bar: tqdm, step: int, **curves: list[float]) -> None:
    """Recent means beside the progress bar."""
    if step % 50 == 49:
        bar.set_postfix({name: f"{sum(c[-50:]) / 50:.3f}" for name, c in curves.items()})


def _save(
    directory: Path,
    config: Pi0Config,
    tensors: dict[str, Tensor],
    data: TrainingData,
    max_delay: int,
) -> None:
    """Write the checkpoint, and into its config.json the names of the joints and their pace."""
    save_checkpoint(
        directory,
        config,
        tensors,
        cameras=CAMERAS,
        state=data.state,
        action=data.action,
        state_mode=STATE_MODES[config.variant],
        rtc_max_delay=max_delay,
    )
    file = directory / CONFIG
    document = json.loads(file.read_text())
    document["input_features"]["observation.state"]["names"] = list(JOINTS)
    document["output_features"]["action"]["names"] = list(JOINTS)
    document["fps"] = round(1 / CONTROL_SECONDS)
    file.write_text(json.dumps(document, indent=2) + "\n")
