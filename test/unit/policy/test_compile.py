"""Compiled graphs: same actions, no recompilation in the control loop, and the cache's key.

The compilers of Ascend are pretended here; what they make of the model is in test/npu.
"""

import shutil
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pi0_ros.checkpoint.checkpoint import Checkpoint
from pi0_ros.checkpoint.formats import read_checkpoint
from pi0_ros.checkpoint.random import write_random_checkpoint
from pi0_ros.model.config import TINY, Pi0Config
from pi0_ros.policy import graph_cache, graphs
from pi0_ros.policy.compile import GraphError, GraphOptions, flatten_layout, unflatten_layout
from pi0_ros.policy.device import DeviceError
from pi0_ros.policy.graph_cache import (
    cache_key,
    read_measurement,
    resolve_graph,
    warn_of_stale,
    write_measurement,
)
from pi0_ros.policy.graphs import Graphs
from pi0_ros.policy.policy import Policy
from pi0_ros.policy.types import ActionPrefix, Observation

CPU = torch.device("cpu")
FRAME = GraphOptions()
NPU = types.SimpleNamespace(type="npu")
GPU = types.SimpleNamespace(type="cuda")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small enough to be compiled in a few seconds."""
    path = tmp_path_factory.mktemp("graph") / "checkpoint"
    sizes = replace(TINY, depth=2, vision_depth=1, num_steps=2, prompt_length=20)
    write_random_checkpoint(path, sizes)
    return path


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def observation(instruction: str) -> Observation:
    rng = np.random.default_rng(0)
    images = {name: rng.integers(0, 256, (64, 64, 3), np.uint8) for name in ("front", "wrist")}
    return Observation(images, np.linspace(-0.5, 0.5, 6), instruction)


SHORT, LONG = "touch the red cube", "touch the red cube then touch the blue cube then stop a b c"


def assert_same_actions(ours: Policy, eager: Policy) -> None:
    for instruction in (SHORT, LONG, SHORT):
        a, b = ours.infer(observation(instruction)), eager.infer(observation(instruction))
        np.testing.assert_allclose(a.positions, b.positions, atol=1e-5)


@pytest.mark.parametrize("form", ["frame", "two-graph"])
@pytest.mark.compile
@pytest.mark.timeout(600)
def test_graphs_give_the_same_actions_and_never_recompile(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    lengths, stages = [16, 20], ["prefix", "denoise"]
    if form == "frame":
        # The same tracing and guards, without a minute of C++ compilation.
        backend = {"backend": "aot_eager", "fullgraph": True, "dynamic": False}
        monkeypatch.setattr(graphs, "compile_module", lambda m, *_: torch.compile(m, **backend))
        stages = ["frame"]
    else:
        monkeypatch.setattr(graphs, "PROMPT_LENGTHS", {"pi0": (20,)})
        lengths = [20]
    compiled = Policy.load(checkpoint, graph=GraphOptions("inductor", form))
    assert compiled.graphs.prompt_lengths() == lengths
    with torch.compiler.set_stance("fail_on_recompile"):
        assert_same_actions(compiled, Policy.load(checkpoint, graph=GraphOptions("eager")))
        chunk = compiled.infer(observation("pick up a ball"))
    assert list(chunk.stage_times) == ["prepare", *stages, "finish"]


@pytest.mark.parametrize("mode", ["guided", "trained"])
@pytest.mark.parametrize("form", ["frame", "two-graph"])
@pytest.mark.compile
@pytest.mark.timeout(600)
def test_one_graph_serves_every_delay_of_real_time_chunking(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, form: str, mode: str
) -> None:
    backend = {"backend": "aot_eager", "fullgraph": True, "dynamic": False}
    monkeypatch.setattr(graphs, "compile_module", lambda m, *_: torch.compile(m, **backend))
    # One length of prompts: one compilation.
    monkeypatch.setattr(graphs, "PROMPT_LENGTHS", {"pi0": (20,)})
    ours, eager = (
        Policy.load(checkpoint, graph=GraphOptions(graph, form, rtc=mode), rtc_max_delay=9)
        for graph in ("inductor", "eager")
    )
    seen, noise = observation(SHORT), ours.noise(0)
    positions = np.linspace(-0.4, 0.6, 300).reshape(50, 6).astype(np.float32)
    given = [ActionPrefix(positions, np.linspace(1, 0, 50, dtype=np.float32), d) for d in (2, 9)]
    with torch.compiler.set_stance("fail_on_recompile"):
        for prefix in (None, *given):
            a, b = (policy.infer(seen, noise, prefix).positions for policy in (ours, eager))
            np.testing.assert_allclose(a, b, atol=1e-5)


def test_prompts_are_padded_to_few_lengths(checkpoint: Path) -> None:
    read = read_checkpoint(checkpoint)
    model = read.load_model(torch.float32, CPU)
    table = model.time_table()
    compiled = Graphs(model, GraphOptions("inductor"), table, "key")
    assert [compiled.padded_length(n) for n in (1, 12, 16, 17, 20)] == [16, 16, 16, 20, 20]
    eager = Graphs(model, GraphOptions("eager"), table, "key")
    assert [eager.padded_length(n) for n in (1, 12, 17)] == [1, 12, 17]


def test_a_layout_survives_being_flattened(checkpoint: Path) -> None:
    model = read_checkpoint(checkpoint).load_model(torch.float32, CPU)
    layout = model.layout(torch.ones(1, 30, dtype=torch.bool), always_masked=True)
    back = unflatten_layout(flatten_layout(layout))
    for a, b in zip(flatten_layout(layout), flatten_layout(back), strict=True):
        assert a is b
    assert back.suffix_mask is layout.suffix_mask


@pytest.fixture
def torchair(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """A torchair that compiles nothing, and notes how it was called."""
    calls: list[dict[str, Any]] = []

    class CompilerConfig:
        def __init__(self) -> None:
            self.mode = ""
            self.experimental_config = types.SimpleNamespace()

    def cache_compile(function: Callable, **options: Any) -> Callable:
        calls.append(options)
        file = Path(options["cache_dir"]) / "graph"
        damaged = file.is_file() and file.read_text() == "damaged"
        file.write_text("graph")

        def run(*arguments: torch.Tensor) -> Any:
            if damaged:
                raise RuntimeError("this is no graph")
            return function(*arguments)

        return run

    fake = types.ModuleType("torchair")
    fake.CompilerConfig = CompilerConfig
    fake.inference = types.SimpleNamespace(cache_compile=cache_compile)
    monkeypatch.setitem(sys.modules, "torchair", fake)
    # The graph on "an NPU" is asked for by name, so that the tensors can stay on the CPU.
    monkeypatch.setattr(graph_cache, "resolve_graph", lambda options, *_: options.graph)
    yield calls


@pytest.mark.parametrize("form,graphs", [("frame", ["frame"]), ("two-graph", ["prefix", "step"])])
def test_torchair_is_asked_for_static_frozen_cached_graphs(
    checkpoint: Path,
    tmp_path: Path,
    torchair: list[dict[str, Any]],
    form: str,
    graphs: list[str],
) -> None:
    compiled = Policy.load(checkpoint, graph=GraphOptions("torchair", form, tmp_path))
    names = [Path(call["cache_dir"]).name for call in torchair]
    assert sorted(names) == sorted(f"{g}-{n}" for n in (16, 20) for g in graphs)
    for call in torchair:
        assert call["dynamic"] is False
        assert call["ge_cache"] is True
        assert call["config"].mode == "max-autotune"
        assert call["config"].experimental_config.frozen_parameter is True
        assert call["config"].experimental_config.tiling_schedule_optimize is True
        assert Path(call["cache_dir"]).stat().st_mode & 0o077 == 0
    assert_same_actions(compiled, Policy.load(checkpoint, graph=GraphOptions("eager")))
    assert len(torchair) == 2 * len(graphs), "a graph was compiled after the warm-up"


def test_npugraph_ex_is_another_mode(
    checkpoint: Path, tmp_path: Path, torchair: list[dict[str, Any]]
) -> None:
    Policy.load(checkpoint, graph=GraphOptions("npugraph_ex", "frame", tmp_path))
    assert {call["config"].mode for call in torchair} == {"npugraph_ex"}


def test_a_damaged_cache_is_rebuilt_with_a_warning(
    checkpoint: Path,
    tmp_path: Path,
    torchair: list[dict[str, Any]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    options = GraphOptions("torchair", "frame", tmp_path)
    Policy.load(checkpoint, graph=options)
    files = list(tmp_path.rglob("graph"))
    assert len(files) == 2
    files[0].write_text("damaged")
    measured = files[0].parents[1] / "measured.json"
    measured.write_text("{}")
    Policy.load(checkpoint, graph=options)
    assert "cannot be used; compiling anew" in caplog.text
    assert measured.is_file(), "what was measured is no graph"
    assert all(file.read_text() == "graph" for file in tmp_path.rglob("graph"))


def test_a_compiler_that_fails_without_a_cache_is_heard(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Callable[..., Any]:
        def run(*_: object) -> Any:
            raise RuntimeError("no such operator")

        return run

    monkeypatch.setattr(graphs, "compile_module", broken)
    with pytest.raises(RuntimeError, match="no such operator"):
        Policy.load(checkpoint, graph=GraphOptions("inductor"))


def test_the_key_follows_what_a_graph_depends_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def key(
        options: GraphOptions = FRAME,
        sizes: Pi0Config = TINY,
        dtype: torch.dtype = torch.float32,
        cameras: int = 2,
    ) -> str:
        return cache_key(options, sizes, dtype, CPU, cameras)

    assert key() == key()
    keys = [
        key(),
        key(GraphOptions("auto", "two-graph")),
        key(GraphOptions(attention="pfa")),
        key(GraphOptions(rtc="guided")),
        key(GraphOptions(rtc="trained")),
        key(GraphOptions(weights_nz=True)),
        key(cameras=1),
        key(dtype=torch.bfloat16),
        key(sizes=replace(TINY, depth=3)),
    ]
    with monkeypatch.context() as patch:
        patch.setattr(torch, "__version__", "2.99")
        keys.append(key())
    with monkeypatch.context() as patch:
        patch.setattr(graph_cache, "chip_name", lambda device: "another processor")
        keys.append(key())
    assert len(set(keys)) == len(keys)


def test_the_key_follows_sources_of_graphs_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = Path(graph_cache.__file__).parents[1]
    copy = tmp_path / "pi0_ros"
    for room in ("model", "checkpoint", "policy"):
        shutil.copytree(package / room, copy / room)
    monkeypatch.setattr(graph_cache, "__file__", str(copy / "policy" / "graph_cache.py"))

    def key() -> str:
        return cache_key(FRAME, TINY, torch.float32, CPU, 2)

    before = key()
    for other in ("policy/policy.py", "policy/graph_cache.py", "checkpoint/weights.py"):
        (copy / other).write_text((copy / other).read_text() + "# another error text")
    assert key() == before
    for source in ("policy/compile.py", "model/pi0.py", "model/ops/ascend.py"):
        (copy / source).write_text((copy / source).read_text() + "# changed")
        before, last = key(), before
        assert before != last, source


def test_a_mode_that_torchair_lacks_is_refused_before_a_model_is_loaded(
    checkpoint: Path, torchair: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    class OlderConfig:
        def __setattr__(self, name: str, value: str) -> None:
            if value not in ("max-autotune", "reduce-overhead"):
                raise ValueError(f"{value!r} not in optional list")

    sys.modules["torchair"].CompilerConfig = OlderConfig
    monkeypatch.setattr(metadata, "version", lambda name: "2.8.0.post4")
    monkeypatch.setattr(Checkpoint, "load_model", None)
    with pytest.raises(GraphError, match=r"torch_npu 2\.8\.0\.post4 has no mode 'npugraph_ex'"):
        Policy.load(checkpoint, graph=GraphOptions("npugraph_ex"))


def test_a_cache_of_other_keys_is_mentioned(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key = "0" * 16
    assert not warn_of_stale(tmp_path, key)
    (tmp_path / ("1" * 16)).mkdir()
    assert warn_of_stale(tmp_path, key)
    assert "compiling anew" in caplog.text
    (tmp_path / key).mkdir()
    assert not warn_of_stale(tmp_path, key)


def test_auto(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    auto = GraphOptions("auto", "frame", tmp_path)
    assert resolve_graph(auto, NPU, "key") == "torchair"
    assert resolve_graph(auto, CPU, "key") == "eager"
    write_measurement(tmp_path, "key", {"eager": 2.0, "inductor": 1.0})
    assert resolve_graph(auto, CPU, "key") == "inductor"
    write_measurement(tmp_path, "key", {"eager": 1.0, "inductor": 0.95})
    assert resolve_graph(auto, CPU, "key") == "eager"
    assert resolve_graph(auto, GPU, "none") == "cudagraph"
    write_measurement(tmp_path, "card", {"cudagraph": 2.0, "inductor_cudagraph": 1.0})
    assert resolve_graph(auto, GPU, "card") == "inductor_cudagraph"
    write_measurement(tmp_path, "card", {"cudagraph": 1.0, "inductor_cudagraph": 0.95})
    assert resolve_graph(auto, GPU, "card") == "cudagraph"
    (tmp_path / "key" / "measured.json").write_text("{")
    assert read_measurement(tmp_path, "key") is None
    assert "cannot be read" in caplog.text


@pytest.mark.parametrize("graph", ["torchair", "npugraph_ex"])
def test_ascend_graphs_need_an_npu(checkpoint: Path, graph: str) -> None:
    with pytest.raises(DeviceError, match="needs an NPU"):
        Policy.load(checkpoint, graph=GraphOptions(graph))


def test_unknown_options_are_refused() -> None:
    with pytest.raises(ValueError, match="graph must be one of"):
        GraphOptions("tensorrt")
    with pytest.raises(ValueError, match="form must be one of"):
        GraphOptions("eager", "three-graph")
    with pytest.raises(ValueError, match="rtc must be one of off, guided, trained"):
        GraphOptions(rtc="on")
