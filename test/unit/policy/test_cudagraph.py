"""Frames captured into CUDA graphs, with a stand-in for torch.cuda: same actions, fresh inputs."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import cuda_graphs
from support.cuda_graphs import Cuda
from torch import Tensor, nn

from pi0_ros.checkpoint.random import write_random_checkpoint
from pi0_ros.model.config import TINY, TINY_PI05
from pi0_ros.policy import device, graph_cache
from pi0_ros.policy.capture import Captured, CapturePool
from pi0_ros.policy.compile import GraphOptions
from pi0_ros.policy.device import DeviceError
from pi0_ros.policy.policy import Policy
from pi0_ros.policy.types import Observation

SMALL = {"depth": 2, "vision_depth": 1, "num_steps": 2}
INSTRUCTIONS = ("touch the red cube", "touch the red cube, then the blue one and stop a b c d e f")


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    return cuda_graphs.pretend(monkeypatch)


@pytest.fixture(scope="module", params=["pi0", "pi05"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp(request.param) / "checkpoint"
    sizes = TINY if request.param == "pi0" else TINY_PI05
    write_random_checkpoint(path, replace(sizes, **SMALL))
    return path


@pytest.fixture
def on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs of CUDA are made of a model whose tensors stay on the CPU."""
    monkeypatch.setattr(graph_cache, "resolve_graph", lambda options, *_: options.graph)


def observation(seed: int, instruction: str) -> Observation:
    rng = np.random.default_rng(seed)
    images = {name: rng.integers(0, 256, (64, 64, 3), np.uint8) for name in ("front", "wrist")}
    return Observation(images, rng.uniform(-0.5, 0.5, 6), instruction)


def assert_same_actions(ours: Policy, eager: Policy) -> None:
    """Instructions change and come back, observations differ from frame to frame."""
    ours.reset()
    eager.reset()
    for seed, which in enumerate((0, 0, 1, 0, 1, 1)):
        seen = observation(seed, INSTRUCTIONS[which])
        np.testing.assert_allclose(
            ours.infer(seen).positions, eager.infer(seen).positions, atol=1e-5
        )


def test_a_frame_is_one_replay_with_the_actions_of_eager(
    checkpoint: Path, cuda: Cuda, on_cuda: None
) -> None:
    ours = Policy.load(checkpoint, graph=GraphOptions("cudagraph"))
    lengths = ours.graphs.prompt_lengths()
    assert len(cuda.graphs) == len(lengths), "all are captured before the first observation"
    assert {pool for pool, _ in cuda.modes} == {(0, 1)}, "graphs share their memory"
    assert {mode for _, mode in cuda.modes} == {"thread_local"}
    before = sum(graph.replays for graph in cuda.graphs)
    assert_same_actions(ours, Policy.load(checkpoint, graph=GraphOptions("eager")))
    assert sum(graph.replays for graph in cuda.graphs) == before + 6
    assert len(cuda.graphs) == len(lengths), "nothing is captured while the robot works"
    assert not ours.graphs.falls_back
    stages = ours.infer(observation(0, INSTRUCTIONS[0])).stage_times
    assert list(stages) == ["prepare", "frame", "finish"]


def test_stages_of_inductor_are_captured_together(
    checkpoint: Path, cuda: Cuda, on_cuda: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = []

    def compile_(function, **options):
        assert options == {"fullgraph": True, "dynamic": False}
        compiled.append(function.__name__)
        return lambda *arguments: (calls.append(function.__name__), function(*arguments))[1]

    calls: list[str] = []
    monkeypatch.setattr(torch, "compile", compile_)
    ours = Policy.load(checkpoint, graph=GraphOptions("inductor_cudagraph", "two-graph"))
    lengths = ours.graphs.prompt_lengths()
    assert compiled == ["context", "denoise_step"] * len(lengths)
    assert len(cuda.graphs) == len(lengths)
    assert calls.count("denoise_step") == SMALL["num_steps"] * calls.count("context")
    calls.clear()
    assert_same_actions(ours, Policy.load(checkpoint, graph=GraphOptions("eager")))
    assert not calls, "frames are replayed"


def test_a_failed_capture_is_one_warning_and_the_same_actions(
    checkpoint: Path, cuda: Cuda, on_cuda: None, caplog: pytest.LogCaptureFixture
) -> None:
    cuda.error = "CUDA error: operation failed due to a previous error during capture"
    with caplog.at_level(logging.WARNING):
        ours = Policy.load(checkpoint, graph=GraphOptions("cudagraph"))
        assert_same_actions(ours, Policy.load(checkpoint, graph=GraphOptions("eager")))
    said = [r.message for r in caplog.records if "cannot be captured" in r.message]
    assert len(said) == 1 and "previous error during capture" in said[0]
    assert ours.graphs.falls_back
    assert len(cuda.modes) == 1, "a capture that failed is not tried for the other lengths"


def test_the_host_waits_once_per_frame(
    checkpoint: Path, cuda: Cuda, on_cuda: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images go to pinned memory as they are, and are resized on the device."""
    pinned: list[torch.Size] = []

    def empty(*shape: int, pin_memory: bool = False, **options: Any) -> Tensor:
        made = real(*shape, **options)
        if pin_memory:
            pinned.append(made.shape)
        return made

    real = torch.empty
    monkeypatch.setattr(torch, "empty", empty)
    monkeypatch.setattr(device.Transfer, "is_asynchronous", True, raising=False)
    monkeypatch.setattr(
        device.Transfer,
        "__init__",
        lambda self, on: self.__dict__.update(device=on, _free={}, _used=[]),
    )
    ours = Policy.load(checkpoint, graph=GraphOptions("cudagraph"))
    for seed in range(2):
        ours.infer(observation(seed, INSTRUCTIONS[0]))
    cuda.waits, before = 0, len(pinned)
    for seed in range(3):
        ours.infer(observation(seed, INSTRUCTIONS[0]))
    assert cuda.waits == 3
    assert len(pinned) == before, "buffers are used again"
    assert pinned.count(torch.Size([64, 64, 3])) == 2, "an image of each camera, as it came"
    eager = Policy.load(checkpoint, graph=GraphOptions("eager"), resize="host")
    assert_same_actions(ours, eager)


class Sums(nn.Module):
    KEPT = ("kept",)

    def forward(self, fresh: Tensor, kept: Tensor, *more: Tensor) -> Tensor:
        return sum(more, fresh + kept)


def test_every_tensor_argument_gets_a_buffer(cuda: Cuda) -> None:
    """Whatever a frame takes, such as the earlier actions of real-time chunking, is copied in."""
    sums = Captured(Sums(), Sums(), CapturePool(torch.device("cpu")))
    one = torch.ones(3)
    first = sums(one, one, one, one)
    assert sums._graph is not None
    assert first.tolist() == [4.0] * 3
    # A tensor that was changed in place is seen, except one that is declared as kept.
    with torch.inference_mode():
        reused = torch.ones(3)
        kept = torch.full((3,), 10.0)
        assert sums(reused, kept, reused, reused).tolist() == [13.0] * 3
        reused.fill_(2.0)
        assert sums(reused, kept, reused, reused).tolist() == [16.0] * 3
        assert sums(reused, kept + 1, reused, reused).tolist() == [17.0] * 3
    assert first.tolist() == [4.0] * 3, "a later frame wrote into an earlier result"
    assert one.tolist() == [1.0] * 3


def test_other_shapes_than_the_captured_are_refused(cuda: Cuda) -> None:
    sums = Captured(Sums(), Sums(), CapturePool(torch.device("cpu")))
    one = torch.ones(3)
    sums(one, one, one)
    with pytest.raises(ValueError, match=r"captured for fresh torch.float32 \[3\] got .* \[1\]"):
        sums(one[:1], one, one)
    with pytest.raises(ValueError, match=r"for more torch.float32 \[3\] got torch.float64 \[3\]"):
        sums(one, one, one.double())
    with pytest.raises(ValueError, match="3 arguments got 2"):
        sums(one, one)


def test_what_cannot_be_captured_runs_all_the_same(
    cuda: Cuda, caplog: pytest.LogCaptureFixture
) -> None:
    class Reads(nn.Module):
        KEPT = ()

        def forward(self, x: Tensor) -> Tensor:
            return x * x.sum().item()

    reads = Captured(Reads(), Reads(), CapturePool(torch.device("cpu")))
    assert reads(torch.ones(2)).tolist() == [2.0, 2.0]
    assert reads(torch.ones(2) * 2).tolist() == [8.0, 8.0]
    assert "not permitted when stream is capturing" in caplog.text


@pytest.mark.parametrize("graph", ["cudagraph", "inductor_cudagraph"])
def test_cuda_graphs_need_a_gpu(checkpoint: Path, graph: str) -> None:
    with pytest.raises(DeviceError, match="needs a GPU of NVIDIA, the device is cpu"):
        Policy.load(checkpoint, graph=GraphOptions(graph))
