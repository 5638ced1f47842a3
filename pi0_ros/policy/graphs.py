"""A model that infers, compiled or not.

A graph is compiled for one shape. Only the prompt's length varies while a robot works, so prompts
are padded to a few lengths, and all of them are compiled before the first observation comes.
"""

import shutil
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pi0_ros.checkpoint.checkpoint import Checkpoint
from pi0_ros.model.config import Pi0Config
from pi0_ros.model.ops import Rope, select
from pi0_ros.model.pi0 import Layout, Pi0
from pi0_ros.model.quantised import Calibration, require
from pi0_ros.model.rtc import Guided, Trained
from pi0_ros.policy.capture import Captured, CapturePool
from pi0_ros.policy.compile import (
    CAPTURED,
    Frame,
    GraphOptions,
    Prefix,
    Prompt,
    Step,
    compile_module,
    flatten_layout,
    in_super_kernels,
)
from pi0_ros.policy.device import Transfer, check_fits, check_precision
from pi0_ros.policy.graph_cache import MEASURED, plan_graphs, read_calibration

_WORKING_BYTES = 1_500_000_000
"""Activations, buffers of graphs, and what the driver and the libraries keep; an estimate."""

PROMPT_LENGTHS = {"pi0": (16, 32, 48), "pi05": (64, 128)}
"""Lengths that prompts are padded to, by variant; longer limits of a model are added to them."""


class Eager(NamedTuple):
    """A prompt as it is computed with where nothing is compiled: embedding and layout."""

    embedded: Tensor
    layout: Layout


class Graphs:
    """A model, compiled as asked, that computes actions from inputs."""

    def __init__(
        self,
        model: Pi0,
        options: GraphOptions,
        time_table: Tensor,
        key: str,
        clean: Tensor | None = None,
    ) -> None:
        """See `load_graphs`.

        Args:
            model: with the operators that `select` has for `options.graph`.
            options, key: from `plan_graphs`; the key is the subdirectory of `options.cache`.
            time_table: from `Pi0.time_table`.
            clean: with `options.rtc` trained: the row of `Pi0.time_rows` at flow time 0.
        """
        self.model = model
        self.clean = clean
        self.options = options
        self.time_table = time_table
        self.key = key
        self._cache = None if options.cache is None else options.cache / key
        self._ropes: dict[int, Rope] = {}
        self._compiled: dict[tuple[str, int, int], Callable[..., Any]] = {}
        self.transfer = Transfer(model.device)
        self._pool = CapturePool(model.device) if options.graph in CAPTURED else None

    @property
    def is_eager(self) -> bool:
        return self.options.graph == "eager"

    def prompt_lengths(self) -> list[int]:
        """Lengths to compile for; empty where nothing is compiled."""
        if self.is_eager:
            return []
        c = self.model.config
        known = PROMPT_LENGTHS[c.variant]
        return sorted({min(n, c.prompt_length) for n in known} | {c.prompt_length})

    def padded_length(self, length: int) -> int:
        """The length that a prompt of `length` tokens is padded to."""
        return next((n for n in self.prompt_lengths() if n >= length), length)

    def prompt(self, tokens: Tensor, cameras: int) -> Prompt | Eager:
        """What `infer` takes of a prompt.

        Args:
            tokens: [1, length] int64 on the host.
        """
        model, device = self.model, self.model.device
        images, length = cameras * model.config.tokens_per_image, tokens.shape[1]
        if not self.is_eager:
            tokens = F.pad(tokens, (0, self.padded_length(length) - length))
        total = images + tokens.shape[1]
        if model.config.pi05 and not self.is_eager:
            upload = self.transfer.upload
            count = upload(np.array([images + length], np.int32))
            return Prompt(upload(tokens.numpy()), (*self._prefix_rope(total), count))
        valid = torch.arange(total, device=device)[None] < images + length
        layout = model.layout(valid, always_masked=not self.is_eager)
        embedded = model.embed_prompt(tokens.to(model.embed_tokens.device))
        if self.is_eager:
            return Eager(embedded, layout)
        return Prompt(embedded, flatten_layout(layout))

    def infer(
        self,
        images: Tensor,
        prompt: Prompt | Eager,
        state: Tensor,
        noise: Tensor,
        lap: Callable[..., None] = lambda stage, waits=True: None,
        rtc: Guided | Trained | None = None,
    ) -> Tensor:
        """Normalised actions on the host; other arguments as those of `Pi0.forward`.

        Args:
            prompt: from `prompt`.
            lap: called with the name of each stage at its end: `frame`, or `prefix` and `denoise`;
                the last one ends when the actions are on the host.
            rtc: of the kind that `options.rtc` names.
        """
        if isinstance(prompt, Eager):
            embedded, layout = prompt
            context = self.model.context(images, embedded, state, layout)
            lap("prefix")
            actions = self.model.denoise(noise, self.time_table, context, layout, rtc)
            actions = self.transfer.download(actions)
            lap("denoise", waits=False)
            return actions
        tokens, flat = prompt
        shape = len(images), tokens.shape[1]
        if self.options.form == "frame":
            frame = self._graph("frame", shape, Frame)
            earlier = () if rtc is None else rtc
            actions = frame(images, tokens, state, noise, self.time_table, *earlier, *flat)
            actions = self.transfer.download(actions)
            lap("frame", waits=False)
            return actions
        context = self._graph("prefix", shape, Prefix)(images, tokens, state, *flat)
        lap("prefix")
        step = self._graph("step", shape, Step)
        rest = context if self.model.config.pi05 else (*context, *flat)
        actions = rtc.restore(noise) if isinstance(rtc, Trained) else noise
        steps = rtc.steps() if isinstance(rtc, Guided) else [rtc or ()] * len(self.time_table)
        for time, earlier in zip(self.time_table.unbind(), steps, strict=True):
            actions = step(actions, time, *earlier, *rest)
        actions = self.transfer.download(actions)
        lap("denoise", waits=False)
        return actions

    @property
    def falls_back(self) -> bool:
        """Whether a capture failed, so that frames run operator by operator."""
        return self._pool is not None and self._pool.failed

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

    def _prefix_rope(self, tokens: int) -> Rope:
        """RoPE tables of a prefix without gaps; made once per length."""
        if tokens not in self._ropes:
            model = self.model
            positions = torch.arange(tokens, device=model.device)[None]
            self._ropes[tokens] = model.ops.rope_tables(positions, model.config, model.dtype)
        return self._ropes[tokens]

    def _graph(
        self, name: str, shape: tuple[int, int], kind: type[nn.Module]
    ) -> Callable[..., Any]:
        """The graph of that name for (batch, prompt length); compiled at its first call."""
        key, (batch, length) = (name, *shape), shape
        if key not in self._compiled:
            model = in_super_kernels(self.model) if self.options.super_kernel else self.model
            module = kind(model) if kind is Prefix else kind(model, self.options.rtc)
            folder = f"{name}-{length}" if batch == 1 else f"{name}-{length}-batch-{batch}"
            cache = None if self._cache is None else self._cache / folder
            compiled = compile_module(module, self.options.graph, cache)
            if self._pool is not None:
                compiled = Captured(module, compiled, self._pool)
            self._compiled[key] = compiled
        return self._compiled[key]


def load_graphs(
    checkpoint: Checkpoint,
    options: GraphOptions,
    dtype: torch.dtype,
    device: torch.device,
    cameras: int,
    calibration: Calibration | None = None,
) -> Graphs:
    """A checkpoint's model with the operators for its device and compiler; nothing is compiled yet.

    Args:
        cameras: number of cameras that the graphs will take.
        calibration: for precision `float8`; by default the one in the cache.

    Raises:
        ValueError: the device does not fit the compiler or the precision, or the model the device.
    """
    check_precision(device, dtype, options.precision)
    if options.precision == "float8":  # before weights are read for nothing
        calibration = require(calibration or read_calibration(options.cache))
    check_fits(device, dtype, lambda: device_bytes(checkpoint.config, dtype))
    options, key = plan_graphs(options, checkpoint.config, dtype, device, cameras)
    ops = select(
        device,
        dtype,
        options.graph,
        attention=options.attention,
        weights_nz=options.weights_nz,
        rotary=options.rotary,
        padded_masks=options.padded_masks,
        kernels=options.kernels,
        precision=options.precision,
        calibration=calibration,
    )
    model = checkpoint.load_model(dtype, device, ops)
    table = model.time_table(checkpoint.accumulates_time)
    clean = model.time_rows(np.zeros(1))[0] if options.rtc == "trained" else None
    # Its results are all that is needed of it; in pi0.5 it is large.
    del model.time_in
    return Graphs(model, options, table, key, clean)


def device_bytes(config: Pi0Config, dtype: torch.dtype) -> int:
    """About how much memory of its device a model takes: its weights, and something to work with.

    pi0's token embedding stays on the host.
    """
    with torch.device("meta"):
        model = Pi0(config)
    count = sum(parameter.numel() for parameter in model.parameters())
    count -= 0 if config.pi05 else model.embed_tokens.numel()
    return count * dtype.itemsize + _WORKING_BYTES
