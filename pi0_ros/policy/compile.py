"""Compiling the model into graphs: by which compiler, into how many, and what is kept on disk.

A graph is compiled for one shape. Only the prompt's length varies while a robot works, so prompts
are padded to a few lengths, and all of them are compiled before the first observation comes.
"""

import hashlib
import json
import logging
import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pi0_ros.checkpoint.checkpoint import Checkpoint
from pi0_ros.model.config import Pi0Config
from pi0_ros.model.ops import select
from pi0_ros.model.ops.ascend import ATTENTION_KERNELS
from pi0_ros.model.pi0 import Context, Layout, Pi0
from pi0_ros.policy.device import DeviceError

_LOG = logging.getLogger(__name__)
GRAPHS = ("auto", "eager", "inductor", "torchair", "npugraph_ex")
FORMS = ("frame", "two-graph")
PROMPT_LENGTHS = (16, 32, 48)
"""Lengths that prompts are padded to; longer limits of a model are added to them."""


@dataclass(frozen=True)
class GraphOptions:
    """How a model is compiled.

    Attributes:
        graph: `eager`, not at all; `inductor`, torch's own compiler; `torchair`, a GE graph, and
            `npugraph_ex`, a captured graph, both for Ascend; `auto`: torchair on an NPU, elsewhere
            what `pi0_compile` found to be faster, and eager where it was not run.
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
        return self.model(images, prompt, state, noise, unflatten_layout(layout), time_table)


class Prefix(nn.Module):
    """`Pi0.context` with plain tensors in and out."""

    def __init__(self, model: Pi0) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, images: Tensor, prompt: Tensor, state: Tensor, *layout: Tensor
    ) -> tuple[Tensor, ...]:
        context = self.model.context(images, prompt, state, unflatten_layout(layout))
        return (context.state, *(tensor for pair in context.past for tensor in pair))


class Step(nn.Module):
    """`Pi0.denoise_step` with plain tensors as arguments."""

    def __init__(self, model: Pi0) -> None:
        super().__init__()
        self.model = model

    def forward(self, actions: Tensor, time_bias: Tensor, state: Tensor, *rest: Tensor) -> Tensor:
        end = 2 * self.model.config.depth
        past = list(zip(rest[:end:2], rest[1:end:2], strict=True))
        layout = unflatten_layout(rest[end:])
        return self.model.denoise_step(actions, time_bias, Context(state, past), layout)


def flatten_layout(layout: Layout) -> tuple[Tensor, ...]:
    """The tensors of a layout that has all masks and whose RoPE tables are pairs."""
    assert layout.prefix_mask is not None
    return (*layout.prefix_rope, *layout.suffix_rope, layout.prefix_mask, layout.suffix_mask)


def unflatten_layout(tensors: tuple[Tensor, ...]) -> Layout:
    """The inverse of `flatten_layout`."""
    return Layout(tensors[0:2], tensors[2:4], *tensors[4:])


class Graphs:
    """A model, compiled as asked, that computes actions from inputs."""

    def __init__(self, model: Pi0, options: GraphOptions, time_table: Tensor, key: str) -> None:
        """
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
            # What pi0_compile measured is no graph.
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry.name != _MEASURED:
                entry.unlink()
        return True

    def _graph(self, name: str, length: int, kind: type[nn.Module]) -> Callable[..., Any]:
        """The graph of that name for prompts of that length; compiled at its first call."""
        key = (name, length)
        if key not in self._compiled:
            module = kind(self.model)
            cache = None if self._cache is None else self._cache / f"{name}-{length}"
            self._compiled[key] = _compile(module, self.options.graph, cache)
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


def plan_graphs(
    options: GraphOptions,
    config: Pi0Config,
    dtype: torch.dtype,
    device: torch.device,
    cameras: int,
) -> tuple[GraphOptions, str]:
    """Decide what `auto` means, before a model is loaded; nothing is compiled yet.

    Args:
        cameras: number of cameras that the graphs will take.

    Returns:
        The options without `auto`, and the key of the graphs; see `cache_key`.

    Raises:
        ValueError: an Ascend graph on another device.
    """
    key = cache_key(options, config, dtype, device, cameras)
    # Also where `auto` becomes eager, perhaps for want of the measurement that has another key.
    if options.cache is not None and options.graph != "eager":
        warn_of_stale(options.cache, key)
    return replace(options, graph=resolve_graph(options, device, key)), key


def _compile(module: nn.Module, graph: str, cache: Path | None) -> Callable[..., Any]:
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


# ---- which compiler, and the cache --------------------------------------------------------------

_MEASURED = "measured.json"


def resolve_graph(options: GraphOptions, device: torch.device, key: str) -> str:
    """The compiler that `options.graph` stands for on a device.

    Raises:
        ValueError: an Ascend graph on another device.
    """
    if options.graph in ("torchair", "npugraph_ex") and device.type != "npu":
        raise DeviceError(f"graph '{options.graph}' needs an NPU, the device is {device}")
    if options.graph != "auto":
        return options.graph
    if device.type == "npu":
        return "torchair"
    measured = read_measurement(options.cache, key)
    return "eager" if measured is None else choose(measured)


def choose(measured: dict[str, float]) -> str:
    """The compiler that `auto` takes on a CPU, from seconds per inference.

    Inductor has to be a tenth faster: less is noise, and its first start takes minutes.
    """
    return "inductor" if measured["inductor"] < 0.9 * measured["eager"] else "eager"


def read_measurement(cache: Path | None, key: str) -> dict[str, float] | None:
    """Compiler -> seconds per inference, as `write_measurement` left it; None where it did not."""
    file = None if cache is None else cache / key / _MEASURED
    if file is None or not file.is_file():
        return None
    try:
        seconds = json.loads(file.read_text())
        measured = {graph: float(seconds[graph]) for graph in ("eager", "inductor")}
    except (ValueError, TypeError, KeyError) as error:
        _LOG.warning("%s cannot be read and is measured anew by pi0_compile: %s", file, error)
        return None
    return measured


def write_measurement(cache: Path, key: str, seconds: dict[str, float]) -> None:
    """Keep what was measured for `auto`."""
    (cache / key).mkdir(parents=True, exist_ok=True, mode=0o700)
    (cache / key / _MEASURED).write_text(json.dumps(seconds, indent=2) + "\n")


def warn_of_stale(cache: Path, key: str) -> bool:
    """Say so where a cache has graphs, but none for this key."""
    others = [path.name for path in cache.glob("[0-9a-f]*") if len(path.name) == len(key)]
    stale = bool(others) and key not in others
    if stale:
        _LOG.warning(
            "graph cache %s: sources, versions or sizes are not those of the %d graphs there; "
            "compiling anew",
            cache,
            len(others),
        )
    return stale


def cache_key(
    options: GraphOptions,
    config: Pi0Config,
    dtype: torch.dtype,
    device: torch.device,
    cameras: int,
) -> str:
    """A hash of everything that a compiled graph depends on but the weights.

    Graph caches do not check this themselves: the sources of the model and of this file, versions
    of torch, torch_npu and CANN, the chip, sizes, dtype, number of cameras and the options.
    """
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for source in [*sorted((root / "model").rglob("*.py")), Path(__file__)]:
        digest.update(source.read_bytes())
    facts: dict[str, Any] = {
        "torch": torch.__version__,
        "device": device.type,
        "chip": chip_name(device),
        "threads": torch.get_num_threads() if device.type == "cpu" else None,
        "sizes": asdict(config),
        "dtype": str(dtype),
        "cameras": cameras,
        "form": options.form,
        "attention": options.attention,
        "weights_nz": options.weights_nz,
    }
    if device.type == "npu":
        import torch_npu

        facts["torch_npu"] = torch_npu.__version__
        facts["cann"] = _cann_version()
    digest.update(json.dumps(facts, sort_keys=True).encode())
    return digest.hexdigest()[:16]


def chip_name(device: torch.device) -> str:
    """What computes: the name of the NPU, the GPU or the processor."""
    if device.type in ("npu", "cuda"):
        return str(getattr(torch, device.type).get_device_name(device))
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    # An ARM kernel gives numbers instead of a name.
    names = ("model name", "CPU implementer", "CPU part")
    found = {line.partition(":")[0].strip(): line.partition(":")[2].strip() for line in lines}
    return " ".join(found[name] for name in names if name in found) or platform.machine()


def _cann_version() -> str:
    """Where CANN is, and the text of its version file; empty where it is not sourced."""
    home = os.environ.get("ASCEND_TOOLKIT_HOME") or os.environ.get("ASCEND_HOME_PATH")
    if not home:
        return ""
    # CANN 9 keeps one file per part, older releases one for all.
    files = [Path(home) / "version.cfg", Path(home) / "compiler" / "version.info"]
    files += sorted(Path(home).glob("share/info/*/version.info"))
    return home + "".join(file.read_text() for file in files if file.is_file())
