"""A model that infers, compiled or not.

A graph is compiled for one shape. Only the prompt's length varies while a robot works, so prompts
are padded to a few lengths, and all of them are compiled before the first observation comes.
"""

import shutil
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pi0_ros.checkpoint.checkpoint import Checkpoint
from pi0_ros.model.ops import select
from pi0_ros.model.pi0 import Layout, Pi0
from pi0_ros.policy.compile import (
    Frame,
    GraphOptions,
    Prefix,
    Step,
    compile_module,
    flatten_layout,
)
from pi0_ros.policy.graph_cache import MEASURED, plan_graphs

PROMPT_LENGTHS = (16, 32, 48)
"""Lengths that prompts are padded to; longer limits of a model are added to them."""


class Graphs:
    """A model, compiled as asked, that computes actions from inputs."""

    def __init__(self, model: Pi0, options: GraphOptions, time_table: Tensor, key: str) -> None:
        """See `load_graphs`.

        Args:
            model: with the operators that `select` has for `options.graph`.
            options, key: from `plan_graphs`; the key is the subdirectory of `options.cache`.
            time_table: from `Pi0.time_table`.
        """
        self.model = model
        self.options = options
        self.time_table = time_table
        self.key = key
        self._cache = None if options.cache is None else options.cache / key
        self._compiled: dict[tuple[str, int], Callable[..., Any]] = {}

    @property
    def is_eager(self) -> bool:
        return self.options.graph == "eager"

    def prompt_lengths(self) -> list[int]:
        """Lengths to compile for; empty where nothing is compiled."""
        limit = self.model.config.prompt_length
        return [] if self.is_eager else sorted({min(n, limit) for n in PROMPT_LENGTHS} | {limit})

    def padded_length(self, length: int) -> int:
        """The length that a prompt of `length` tokens is padded to."""
        return next((n for n in self.prompt_lengths() if n >= length), length)

    def infer(
        self,
        images: Tensor,
        prompt: Tensor,
        state: Tensor,
        noise: Tensor,
        layout: Layout,
        lap: Callable[[str], None],
    ) -> Tensor:
        """Normalised actions; arguments as those of `Pi0.forward`.

        Args:
            lap: called with the name of each stage at its end: `frame`, or `prefix` and `denoise`.
        """
        if self.is_eager:
            context = self.model.context(images, prompt, state, layout)
            lap("prefix")
            actions = noise
            for time_bias in self.time_table.unbind():
                actions = self.model.denoise_step(actions, time_bias, context, layout)
            lap("denoise")
            return actions
        flat, length = flatten_layout(layout), prompt.shape[1]
        if self.options.form == "frame":
            frame = self._graph("frame", length, Frame)
            actions = frame(images, prompt, state, noise, self.time_table, *flat)
            lap("frame")
            return actions
        context = self._graph("prefix", length, Prefix)(images, prompt, state, *flat)
        lap("prefix")
        step = self._graph("step", length, Step)
        actions = noise
        for time_bias in self.time_table.unbind():
            actions = step(actions, time_bias, *context, *flat)
        lap("denoise")
        return actions

    def drop_cache(self) -> bool:
        """Forget what was compiled, in memory and on disk; False where nothing was on disk."""
        self._compiled.clear()
        if self._cache is None or not self._cache.is_dir():
            return False
        for entry in self._cache.iterdir():
            # What `pi0 compile` measured is not a graph.
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry.name != MEASURED:
                entry.unlink()
        return True

    def _graph(self, name: str, length: int, kind: type[nn.Module]) -> Callable[..., Any]:
        """The graph of that name for prompts of that length; compiled at its first call."""
        key = (name, length)
        if key not in self._compiled:
            module = kind(self.model)
            cache = None if self._cache is None else self._cache / f"{name}-{length}"
            self._compiled[key] = compile_module(module, self.options.graph, cache)
        return self._compiled[key]


def load_graphs(
    checkpoint: Checkpoint,
    options: GraphOptions,
    dtype: torch.dtype,
    device: torch.device,
    cameras: int,
) -> Graphs:
    """A checkpoint's model with the operators for its device and compiler; nothing is compiled yet.

    Args:
        cameras: number of cameras that the graphs will take.

    Raises:
        ValueError: the device does not fit the compiler, or the model the device.
    """
    options, key = plan_graphs(options, checkpoint.config, dtype, device, cameras)
    ops = select(
        device, dtype, options.graph, attention=options.attention, weights_nz=options.weights_nz
    )
    model = checkpoint.load_model(dtype, device, ops)
    return Graphs(model, options, model.time_table(checkpoint.accumulates_time), key)
