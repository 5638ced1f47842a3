"""Lowering the model to GE graphs with torchair, on tensors that have shapes but no memory.

Import this only after `ascend_stubs.load()`. It replaces two functions of torchair for the rest of
the process: the one that starts the graph engine on a device, and the one that asks the installed
CANN which inputs of its operators it knows (a recent CANN is assumed).
"""

import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch_npu  # noqa: F401  registers the device and its operators
import torchair
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torchair._ge_concrete_graph import compat_ir, fx2ge_converter

from pi0_ros.model.config import Pi0Config
from pi0_ros.model.gemma import Rotary
from pi0_ros.model.ops import ascend as npu
from pi0_ros.model.ops.reference import KeysValues
from pi0_ros.model.pi0 import Layout, Pi0

fx2ge_converter.initialize_graph_engine = lambda *args, **kwargs: None
compat_ir.is_cann_compat = lambda *args, **kwargs: ""

DTYPE = torch.bfloat16
FORMS = ("frame", "two-graph")


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


class Part(nn.Module):
    """One function of a model as a module, so that weights are parameters of the graph."""

    def __init__(self, model: Pi0, function: str) -> None:
        super().__init__()
        self.model = model
        self.function = function

    def forward(self, *args: Any) -> Any:
        return getattr(self.model, self.function)(*args)


def lower(config: Pi0Config, form: str, attention: str, cameras: int = 2) -> list[Lowered]:
    """The graphs of one inference: the whole frame as one, or prefix and denoise step as two.

    Args:
        form: one of `FORMS`.
        attention: see `npu.Settings`.
    """
    npu.configure(attention=attention, dense_views=True)
    with _fake_model(config) as (model, inputs):
        images, prompt, state, noise, layout, times = inputs
        if form == "frame":
            return [lower_module("frame", 1, Part(model, "forward"), inputs)]
        context = _context(config, _prefix_tokens(config, cameras) + 1)
        step = (noise, times[0], context, layout)
        return [
            lower_module("prefix", 1, Part(model, "context"), (images, prompt, state, layout)),
            lower_module("step", config.num_steps, Part(model, "denoise_step"), step),
        ]


def eager_calls(config: Pi0Config, attention: str) -> Counter[str]:
    """Operators that the host calls in one inference without a graph, views included."""
    npu.configure(attention=attention)
    with _fake_model(config) as (model, inputs), _Calls() as calls, torch.inference_mode():
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


def _context(c: Pi0Config, tokens: int) -> list[KeysValues]:
    shape = (1, tokens, c.kv_heads, c.head_dim)
    device = torch.device("npu")
    return [
        (torch.empty(shape, device=device), torch.empty(shape, device=device))
        for _ in range(c.depth)
    ]


@contextmanager
def _fake_model(c: Pi0Config, cameras: int = 2) -> Iterator[tuple[Pi0, tuple[Any, ...]]]:
    """A model on a pretend NPU and the arguments of its `forward`, masks among them.

    New tensors in the body are fake, on the NPU, and in the model's dtype.
    """
    tokens = _prefix_tokens(c, cameras)
    default = torch.get_default_dtype()
    torch.set_default_dtype(DTYPE)
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    try:
        with fake, torch.device("npu"):
            model = npu.prepare(Pi0(c).eval().requires_grad_(False))
            turns = (_turn(c, tokens), _turn(c, 1), _turn(c, c.horizon))
            # As the policy's graphs take it: one graph serves every prompt that fits its length.
            masks = (
                torch.empty(1, 1, queries, keys, dtype=torch.bool)
                for queries, keys in (
                    (tokens, tokens),
                    (1, tokens + 1),
                    (c.horizon, tokens + 1 + c.horizon),
                )
            )
            layout = Layout(*turns, *masks)
            size = c.image_size
            inputs = (
                torch.empty(1, cameras, 3, size, size, dtype=torch.float32),
                torch.empty(1, c.prompt_length, c.prefix_width),
                torch.empty(1, c.max_state_dim, dtype=torch.float32),
                torch.empty(1, c.horizon, c.max_action_dim, dtype=torch.float32),
                layout,
                torch.empty(c.num_steps, 1, 1, c.expert_width),
            )
        # A default device makes every call that is traced slower: from here on it is named.
        with fake:
            yield model, inputs
    finally:
        torch.set_default_dtype(default)


def _turn(c: Pi0Config, tokens: int) -> Rotary:
    shape = (1, tokens, c.heads + 2 * c.kv_heads, c.head_dim)
    return torch.empty(shape), torch.empty(shape)


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
        and fx2ge_converter._get_converter(target) is None
    )
