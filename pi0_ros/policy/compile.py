"""What is compiled, and by which compiler. Keys of cached graphs follow this file and the model."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pi0_ros.model.ops.ascend import ATTENTION_KERNELS
from pi0_ros.model.pi0 import Context, Layout, Pi0

GRAPHS = ("auto", "eager", "inductor", "torchair", "npugraph_ex")
FORMS = ("frame", "two-graph")


@dataclass(frozen=True)
class GraphOptions:
    """How a model is compiled.

    Attributes:
        graph: `eager`, not at all; `inductor`, torch's own compiler; `torchair`, a GE graph, and
            `npugraph_ex`, a captured graph, both for Ascend; `auto`: torchair on an NPU, elsewhere
            what `pi0 compile` found to be faster, and eager where it was not run.
        form: `frame`, the whole inference in one graph with its denoise steps unrolled: one launch.
            `two-graph`, the prefix and one denoise step: faster to compile.
        cache: directory in which compiled graphs survive a restart; None: they do not.
        attention, weights_nz: the attention kernel and the layout of weights on an NPU; see
            `Ascend`.
    """

    graph: str = "auto"
    form: str = "frame"
    cache: Path | None = None
    attention: str = "fia"
    weights_nz: bool = False

    def __post_init__(self) -> None:
        for name, value, known in (
            ("graph", self.graph, GRAPHS),
            ("form", self.form, FORMS),
            ("attention", self.attention, ATTENTION_KERNELS),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")


class Prompt(NamedTuple):
    """A prompt as graphs take it.

    Attributes:
        tokens: pi0: from `Pi0.embed_prompt`, made once per instruction. pi0.5, whose prompt changes
            with the state: [1, length] int64 ids, which the graph embeds.
        layout: pi0: `flatten_layout`. pi0.5: the prefix's RoPE tables, and int32 [1], the number of
            valid prefix tokens, of which the graph makes masks and positions.
    """

    tokens: Tensor
    layout: tuple[Tensor, ...]

    def unpacked(self, model: Pi0, cameras: int) -> tuple[Tensor, Layout]:
        """The embedded prompt and the layout, for `Pi0.context`."""
        if not model.config.pi05:
            return self.tokens, unflatten_layout(self.layout)
        tokens = cameras * model.config.tokens_per_image + self.tokens.shape[1]
        *rope, count = self.layout
        layout = model.padded_layout(count, tokens, tuple(rope))
        return model.embed_prompt(self.tokens), layout


class Frame(nn.Module):
    """`Pi0.forward` with plain tensors as arguments, which is what graph caches take."""

    def __init__(self, model: Pi0) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        images: Tensor,
        prompt: Tensor,
        state: Tensor,
        noise: Tensor,
        time_table: Tensor,
        *layout: Tensor,
    ) -> Tensor:
        embedded, made = Prompt(prompt, layout).unpacked(self.model, images.shape[1])
        return self.model(images, embedded, state, noise, made, time_table)


class Prefix(nn.Module):
    """`Pi0.context` with plain tensors in and out: what `Step` takes after actions and time."""

    def __init__(self, model: Pi0) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, images: Tensor, prompt: Tensor, state: Tensor, *layout: Tensor
    ) -> tuple[Tensor, ...]:
        embedded, made = Prompt(prompt, layout).unpacked(self.model, images.shape[1])
        context = self.model.context(images, embedded, state, made)
        past = [tensor for pair in context.past for tensor in pair]
        if context.state is None:
            return (*made.suffix_rope, made.suffix_mask, *past)
        return (context.state, *past)


class Step(nn.Module):
    """`Pi0.denoise_step` with plain tensors as arguments.

    `rest` is what `Prefix` gives, and for pi0 the flattened layout, which pi0.5's `Prefix` makes.
    """

    def __init__(self, model: Pi0) -> None:
        super().__init__()
        self.model = model

    def forward(self, actions: Tensor, time: Tensor, *rest: Tensor) -> Tensor:
        if self.model.config.pi05:
            state, past = None, rest[3:]
            layout = Layout(rest[:2], rest[:2], None, rest[2])
        else:
            end = 1 + 2 * self.model.config.depth
            state, past, layout = rest[0], rest[1:end], unflatten_layout(rest[end:])
        pairs = list(zip(past[::2], past[1::2], strict=True))
        return self.model.denoise_step(actions, time, Context(state, pairs), layout)


def flatten_layout(layout: Layout) -> tuple[Tensor, ...]:
    """The tensors of a layout that has all masks and whose RoPE tables are pairs."""
    assert layout.prefix_mask is not None and layout.suffix_mask is not None
    return (*layout.prefix_rope, *layout.suffix_rope, layout.prefix_mask, layout.suffix_mask)


def unflatten_layout(tensors: tuple[Tensor, ...]) -> Layout:
    """The inverse of `flatten_layout`."""
    return Layout(tensors[0:2], tensors[2:4], *tensors[4:])


def compile_module(module: nn.Module, graph: str, cache: Path | None) -> Callable[..., Any]:
    """One graph of a module, compiled at its first call, for the shapes of that call.

    Args:
        graph: `inductor`, `torchair` or `npugraph_ex`.
        cache: directory of its files; None: it does not survive this process.
    """
    if graph == "inductor":
        if cache is not None:
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(cache.parent)
        return torch.compile(module, fullgraph=True, dynamic=False)
    import torchair

    config = torchair.CompilerConfig()
    config.mode = "max-autotune" if graph == "torchair" else "npugraph_ex"
    if graph == "torchair":
        config.experimental_config.frozen_parameter = True
        config.experimental_config.tiling_schedule_optimize = True
    if cache is None:
        backend = torchair.get_npu_backend(compiler_config=config)
        return torch.compile(module, backend=backend, fullgraph=True, dynamic=False)
    # Others' files must not be loaded as graphs.
    cache.mkdir(parents=True, exist_ok=True, mode=0o700)
    return torchair.inference.cache_compile(
        module.forward,
        config=config,
        dynamic=False,
        cache_dir=str(cache),
        ge_cache=graph == "torchair",
    )
