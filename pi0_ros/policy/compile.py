"""What is compiled, and by which compiler. Keys of cached graphs follow this file and the model."""

import copy
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pi0_ros.errors import UserError
from pi0_ros.model.ops import cuda
from pi0_ros.model.ops.ascend import ATTENTION_KERNELS, ROTARY_FORMS
from pi0_ros.model.pi0 import Context, Layout, Pi0
from pi0_ros.model.quantised import PRECISIONS
from pi0_ros.model.rtc import KINDS, MODES, Guided, Trained

CAPTURED = ("cudagraph", "inductor_cudagraph")
"""Graphs that hold a whole frame, whatever the form asked for."""

GRAPHS = ("auto", "eager", "inductor", *CAPTURED, "torchair", "npugraph_ex")
NEEDS = dict.fromkeys(CAPTURED, "cuda") | {"torchair": "npu", "npugraph_ex": "npu"}
"""Graph -> the only kind of device that it is for."""

DEFAULT_GRAPH = {"npu": "torchair", "cuda": "cudagraph"}
"""Kind of device -> what `auto` is where nothing was measured; elsewhere eager."""

CONTESTANTS = {"cpu": ("eager", "inductor"), "cuda": CAPTURED}
"""Kind of device -> what `pi0 compile` measures for `auto`, the quickest to start first."""

TORCHAIR_MODES = {"torchair": "max-autotune", "npugraph_ex": "npugraph_ex"}
"""Graph -> torchair's name of it."""

FORMS = ("frame", "two-graph")


class GraphError(UserError, ValueError):
    """A graph that cannot be had here; the message says why and what to do."""


@dataclass(frozen=True)
class GraphOptions:
    """How a model is compiled.

    Attributes:
        graph: `eager`, not at all; `inductor`, torch's own compiler; `cudagraph`, the operators of
            a frame captured into one CUDA graph, and `inductor_cudagraph`, the kernels that
            inductor makes of its context and its step, captured together; `torchair`, a GE graph,
            and `npugraph_ex`, a captured graph, both for Ascend; `auto`: what `pi0 compile` found
            to be faster, and where it was not run torchair on an NPU, cudagraph on CUDA, eager on
            a CPU.
        form: `frame`, the whole inference in one graph with its denoise steps unrolled: one launch.
            `two-graph`, the prefix and one denoise step: faster to compile.
        cache: directory in which compiled graphs survive a restart; None: they do not.
        attention, weights_nz, rotary, padded_masks: kernels and layouts on an NPU; see `Ascend`.
        super_kernel: with `torchair`, each denoise step is one super kernel of CANN, if it can
            make one.
        rtc: `off`, or how chunks agree with earlier actions; see `model.rtc`.
        kernels: which of this package's kernels a GPU of NVIDIA uses; see `Cuda`.
        precision: of the products of vision and prefix, see `model.quantised`; the scales of
            `float8` lie in the cache.
    """

    graph: str = "auto"
    form: str = "frame"
    cache: Path | None = None
    attention: str = "fia"
    weights_nz: bool = False
    rotary: str = "per-head"
    padded_masks: bool = False
    super_kernel: bool = False
    rtc: str = "off"
    kernels: str = "auto"
    precision: str = "full"

    def __post_init__(self) -> None:
        for name, value, known in (
            ("graph", self.graph, GRAPHS),
            ("form", self.form, FORMS),
            ("attention", self.attention, ATTENTION_KERNELS),
            ("rotary", self.rotary, ROTARY_FORMS),
            ("rtc", self.rtc, MODES),
            ("kernels", self.kernels, cuda.CHOICES),
            ("precision", self.precision, PRECISIONS),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        if self.super_kernel and self.graph not in ("auto", "torchair"):
            raise GraphError(f"super kernels are for graph 'torchair', got {self.graph!r}")


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
    """`Pi0.forward` with plain tensors as arguments, which is what graph caches take.

    Before those of the layout come the tensors of real-time chunking, unless it is off.

    Attributes:
        KEPT: arguments that outlive a frame and are never changed in place: the same tensor as
            last time holds what it held then.
    """

    KEPT = ("prompt", "time_table", "layout")

    def __init__(self, model: Pi0, rtc: str = "off") -> None:
        super().__init__()
        self.model, self.rtc = model, rtc

    def forward(
        self,
        images: Tensor,
        prompt: Tensor,
        state: Tensor,
        noise: Tensor,
        time_table: Tensor,
        *layout: Tensor,
    ) -> Tensor:
        rtc, layout = split_rtc(self.rtc, layout)
        embedded, made = Prompt(prompt, layout).unpacked(self.model, images.shape[1])
        return self.model(images, embedded, state, noise, made, time_table, rtc)


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

    `rest` is what `Prefix` gives, and for pi0 the flattened layout, which pi0.5's `Prefix` makes;
    before both the tensors of real-time chunking, unless it is off.
    """

    def __init__(self, model: Pi0, rtc: str = "off") -> None:
        super().__init__()
        self.model, self.rtc = model, rtc

    def forward(self, actions: Tensor, time: Tensor, *rest: Tensor) -> Tensor:
        rtc, rest = split_rtc(self.rtc, rest)
        if self.model.config.pi05:
            state, past = None, rest[3:]
            layout = Layout(rest[:2], rest[:2], None, rest[2])
        else:
            end = 1 + 2 * self.model.config.depth
            state, past, layout = rest[0], rest[1:end], unflatten_layout(rest[end:])
        pairs = list(zip(past[::2], past[1::2], strict=True))
        return self.model.denoise_step(actions, time, Context(state, pairs), layout, rtc)


def split_rtc(
    mode: str, tensors: tuple[Tensor, ...]
) -> tuple[Guided | Trained | None, tuple[Tensor, ...]]:
    """What real-time chunking has of the tensors, which come first, and the rest."""
    if mode == "off":
        return None, tensors
    return KINDS[mode](*tensors[:3]), tensors[3:]


def flatten_layout(layout: Layout) -> tuple[Tensor, ...]:
    """The tensors of a layout that has all masks and whose RoPE tables are pairs."""
    assert layout.prefix_mask is not None and layout.suffix_mask is not None
    return (*layout.prefix_rope, *layout.suffix_rope, layout.prefix_mask, layout.suffix_mask)


def unflatten_layout(tensors: tuple[Tensor, ...]) -> Layout:
    """The inverse of `flatten_layout`."""
    return Layout(tensors[0:2], tensors[2:4], *tensors[4:])


def torchair_config(graph: str) -> Any:
    """The configuration of a graph of `TORCHAIR_MODES`.

    Raises:
        GraphError: the installed torchair does not have that mode.
    """
    import torchair

    config = torchair.CompilerConfig()
    try:
        config.mode = TORCHAIR_MODES[graph]
    except (AttributeError, ValueError) as error:
        raise GraphError(
            f"graph '{graph}': the torchair of torch_npu {metadata.version('torch_npu')} has no "
            f"mode {TORCHAIR_MODES[graph]!r} ({error}). Use graph 'torchair', or a "
            "torch_npu that has it (docs/ascend.md)"
        ) from error
    if graph == "torchair":
        config.experimental_config.frozen_parameter = True
        config.experimental_config.tiling_schedule_optimize = True
    return config


def in_super_kernels(model: Pi0) -> Pi0:
    """The same model whose denoise steps are traced within a super-kernel scope of torchair."""
    import torchair

    model = copy.copy(model)
    velocity = model.velocity

    def scoped(*arguments: Any) -> Tensor:
        with torchair.scope.super_kernel("denoise_step"):
            return velocity(*arguments)

    model.velocity = scoped
    return model


def compile_module(module: nn.Module, graph: str, cache: Path | None) -> Callable[..., Any]:
    """One graph of a module, compiled at its first call, for the shapes of that call.

    Args:
        graph: a compiler of `GRAPHS`; `cudagraph` compiles nothing, see `capture`.
        cache: directory of its files; None: it does not survive this process.
    """
    if graph == "cudagraph":
        return module
    if graph in ("inductor", "inductor_cudagraph"):
        if cache is not None:
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(cache.parent)
        if graph == "inductor_cudagraph":
            return _with_compiled_stages(module)
        return torch.compile(module, fullgraph=True, dynamic=False)
    import torchair

    config = torchair_config(graph)
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


def _with_compiled_stages(frame: nn.Module) -> nn.Module:
    """A frame whose model has its context and its denoise step compiled by inductor.

    A whole frame takes inductor minutes, since its steps are unrolled.
    """
    frame = copy.copy(frame)
    frame._modules = {"model": copy.copy(frame.model)}
    for stage in ("context", "denoise_step"):
        method = getattr(frame.model, stage)
        setattr(frame.model, stage, torch.compile(method, fullgraph=True, dynamic=False))
    return frame
