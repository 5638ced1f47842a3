"""Lowering the model to GE graphs with torchair, on tensors that have shapes but no memory.

Import this only after `stand_ins.load()`. It replaces two functions of torchair for the rest of
the process: the one that starts the graph engine on a device, and the one that asks the installed
CANN which inputs of its operators it knows (a recent CANN is assumed).
"""

import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch_npu  # noqa: F401  registers the device and its operators
import torchair
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torchair._ge_concrete_graph import compat_ir, fx2ge_converter

from pi0_ros.model.config import Pi0Config
from pi0_ros.model.ops import Ops, select
from pi0_ros.model.pi0 import Layout, Pi0
from pi0_ros.model.rtc import Guided, Trained
from pi0_ros.policy.compile import (
    Frame,
    GraphOptions,
    Prefix,
    Step,
    flatten_layout,
    in_super_kernels,
)

fx2ge_converter.initialize_graph_engine = lambda *args, **kwargs: None
compat_ir.is_cann_compat = lambda *args, **kwargs: ""

DTYPE = torch.bfloat16
# They mark where a scope begins and ends, and become attributes instead of nodes.
_MARKERS = {"air.scope_enter.default", "air.scope_exit.default"}


@dataclass
class Lowered:
    """One compiled graph.

    Attributes:
        repeats: how often an inference runs it.
        ge: torchair's graph, a protobuf message; None if the conversion failed.
        fx: the graph of PyTorch operators that it was made from.
        unsupported: operators that torchair has no converter for, and what the conversion said.
    """

    name: str
    repeats: int
    ge: Any = None
    fx: torch.fx.Graph | None = None
    unsupported: list[str] = field(default_factory=list)


def lower(config: Pi0Config, options: GraphOptions, cameras: int = 2) -> list[Lowered]:
    """The graphs of one inference: the whole frame as one, or prefix and denoise step as two.

    Args:
        options: as of the node; its graph is torchair's.
    """
    npu = torch.device("npu")
    ops = operators(options, "torchair")
    with fake_model(config, ops, cameras) as (model, inputs):
        if options.super_kernel:
            model = in_super_kernels(model)
        images, prompt, state, noise, layout, times = inputs
        flat = flatten_layout(layout)
        made = []
        if config.pi05:
            # Its graphs get token ids and their number, and make the rest.
            prompt = torch.empty(prompt.shape[:2], dtype=torch.int64, device=npu)
            count = torch.empty(1, dtype=torch.int32, device=npu)
            made, flat = [*layout.suffix_rope, layout.suffix_mask], (*layout.prefix_rope, count)
        earlier = _earlier(options.rtc, noise, times)
        if options.form == "frame":
            arguments = (images, prompt, state, noise, times, *earlier, *flat)
            return [lower_module("frame", 1, Frame(model, options.rtc), arguments)]
        prefix = lower_module("prefix", 1, Prefix(model), (images, prompt, state, *flat))
        shape = (1, _prefix_tokens(config, cameras), config.kv_heads, config.head_dim)
        past = [torch.empty(shape, device=npu) for _ in range(2 * config.depth)]
        token = torch.empty(1, 1, config.expert_width, device=npu)
        rest = (*made, *past) if config.pi05 else (token, *past, *flat)
        earlier = Guided(*earlier).steps()[0] if options.rtc == "guided" else earlier
        step = (noise, times[0], *earlier, *rest)
        return [prefix, lower_module("step", config.num_steps, Step(model, options.rtc), step)]


def _earlier(rtc: str, noise: torch.Tensor, times: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """What a graph takes for real-time chunking."""
    target, horizon = torch.empty_like(noise), noise.shape[1]
    if rtc == "guided":
        shape, single = (len(times), horizon, 1), torch.float32
        gain, rate = (torch.empty(shape, dtype=single, device="npu") for _ in range(2))
        return Guided(target, gain, rate)
    if rtc == "trained":
        given = torch.empty(horizon, 1, dtype=torch.bool, device="npu")
        return Trained(target, given, torch.empty_like(times[0]))
    return ()


def operators(options: GraphOptions, graph: str) -> Ops:
    """The operators that the node would take."""
    return select(
        torch.device("npu"),
        DTYPE,
        graph,
        attention=options.attention,
        rotary=options.rotary,
        padded_masks=options.padded_masks,
        precision=options.precision,
    )


def eager_calls(config: Pi0Config, options: GraphOptions) -> Counter[str]:
    """Operators that the host calls in one inference without a graph, views included."""
    with (
        fake_model(config, operators(options, "eager")) as (model, inputs),
        _Calls() as calls,
        torch.inference_mode(),
    ):
        model(*inputs)
    return calls.counts


class _Calls(TorchDispatchMode):
    """Counts the operators that reach the device's dispatch."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        self.counts[str(func)] += 1
        return func(*args, **(kwargs or {}))


def _prefix_tokens(c: Pi0Config, cameras: int) -> int:
    return cameras * c.tokens_per_image + c.prompt_length


@contextmanager
def fake_model(c: Pi0Config, ops: Ops, cameras: int = 2) -> Iterator[tuple[Pi0, tuple[Any, ...]]]:
    """A model on a pretend NPU and the arguments of its `forward`, masks among them.

    New tensors in the body are fake, and in the model's dtype.
    """
    tokens, suffix = _prefix_tokens(c, cameras), c.horizon + (not c.pi05)
    default = torch.get_default_dtype()
    torch.set_default_dtype(DTYPE)
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    shapes = [_rope(c, ops, tokens), _rope(c, ops, suffix)]
    wide = [_mask(c, ops, tokens, tokens), _mask(c, ops, suffix, tokens + suffix)]
    try:
        with fake, torch.device("npu"):
            ropes = [(torch.empty(shape), torch.empty(shape)) for shape in shapes]
            masks = [torch.empty(shape, dtype=torch.bool) for shape in wide]
            model = ops.prepare(Pi0(c, ops).eval().requires_grad_(False))
            row = model.time_rows(np.ones(1)).shape[1:]
            del model.time_in  # as `load_graphs` does
            # As the policy's graphs take it: one graph serves every prompt that fits its length.
            # Not made by `Pi0.layout`, since nothing can be computed here.
            layout = Layout(*ropes, *masks)
            size = c.image_size
            inputs = (
                torch.empty(1, cameras, 3, size, size, dtype=torch.float32),
                torch.empty(1, c.prompt_length, c.prefix_width),
                torch.empty(1, c.max_state_dim, dtype=torch.float32),
                torch.empty(1, c.horizon, c.max_action_dim, dtype=torch.float32),
                layout,
                torch.empty(c.num_steps, *row),
            )
        # A default device makes every call that is traced slower: from here on it is named.
        with fake:
            yield model, inputs
    finally:
        torch.set_default_dtype(default)


def _rope(c: Pi0Config, ops: Ops, tokens: int) -> torch.Size:
    """The shape of the backend's tables."""
    return ops.rope_tables(torch.zeros(1, tokens, dtype=torch.int64), c, DTYPE)[0].shape


def _mask(c: Pi0Config, ops: Ops, queries: int, keys: int) -> torch.Size:
    """The shape of the backend's masks."""
    mask = torch.zeros(1, 1, queries, keys, dtype=torch.bool)
    return ops.attention_mask(mask, c.heads // c.kv_heads, DTYPE).shape


def lower_module(name: str, repeats: int, module: nn.Module, inputs: tuple[Any, ...]) -> Lowered:
    """Lower a module for fake inputs on the NPU; see `Lowered` for the name and the repeats."""
    out = Lowered(name, repeats)
    config = torchair.CompilerConfig()
    config.mode = "max-autotune"
    config.experimental_config.frozen_parameter = True
    config.experimental_config.tiling_schedule_optimize = True
    # Converts and optimises as always, then runs the PyTorch operators instead of the graph.
    config.debug.run_eagerly = True
    graph_class = fx2ge_converter.GeConcreteGraph
    save, optimize = graph_class.save_fx_graph, graph_class.optimize_graph_without_runtime

    def keep_fx(self: Any, gm: torch.fx.GraphModule) -> Any:
        if out.fx is not None:
            raise RuntimeError(f"{name}: torch.compile made more than one graph of it")
        out.fx = gm.graph
        # Before the conversion, which makes up a converter where there is none.
        out.unsupported += _unsupported(gm.graph)
        return save(self, gm)

    def keep_ge(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = optimize(self, *args, **kwargs)
        out.ge = self.graph
        return result

    graph_class.save_fx_graph = keep_fx
    graph_class.optimize_graph_without_runtime = keep_ge
    torch._dynamo.reset()
    # The addresses of parameters do stay the same.
    warnings.filterwarnings("ignore", message="When enable frozen_parameter")
    try:
        compiled = torch.compile(
            module,
            backend=torchair.get_npu_backend(compiler_config=config),
            fullgraph=True,
            dynamic=False,
        )
        with torch.no_grad():
            compiled(*inputs)
    except torch._dynamo.exc.BackendCompilerFailed as error:
        out.unsupported.append(str(error.inner_exception).strip().splitlines()[0])
    finally:
        graph_class.save_fx_graph, graph_class.optimize_graph_without_runtime = save, optimize
    return out


def _unsupported(graph: torch.fx.Graph) -> list[str]:
    """Operators of a graph that torchair registers no converter for."""
    targets = {node.target for node in graph.nodes if node.op == "call_function"}
    return sorted(
        str(target)
        for target in targets
        if isinstance(target, torch._ops.OpOverload)
        and str(target) not in _MARKERS
        and fx2ge_converter._get_converter(target) is None
    )
