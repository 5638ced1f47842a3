"""Several observations in one inference: each chunk is the one that its observation gets alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pi0_ros.checkpoint.random import write_random_checkpoint
from pi0_ros.model.config import TINY
from pi0_ros.policy import graphs
from pi0_ros.policy.batching import BATCH_SIZES
from pi0_ros.policy.compile import GraphOptions
from pi0_ros.policy.policy import Policy
from pi0_ros.policy.types import ActionPrefix, ChunkRequest, Observation

INSTRUCTIONS = ("go", "touch the red cube", "touch the blue ball over there, please", "go")


def requests(count: int, rtc: str = "off") -> list[ChunkRequest]:
    rng = np.random.default_rng(count)
    made = []
    for number in range(count):
        images = {name: rng.integers(0, 256, (48, 64, 3), np.uint8) for name in ("front", "wrist")}
        state = rng.uniform(-1, 1, 6)
        prefix = None
        if rtc != "off" and number % 3:
            positions = rng.uniform(-1, 1, (50, 6)).astype(np.float32)
            prefix = ActionPrefix(positions, np.linspace(1, 0, 50, dtype=np.float32), number)
        observation = Observation(images, state, INSTRUCTIONS[number % 4], number)
        made.append(ChunkRequest(observation, 3 * number, prefix))
    return made


def assert_alike(policy: Policy, asked: list[ChunkRequest]) -> None:
    together = policy.infer_batch(asked)
    for request, chunk in zip(asked, together, strict=True):
        alone = policy.infer(request.observation, None, request.prefix, request.sequence)
        assert (chunk.stamp, chunk.sequence) == (request.observation.stamp, request.sequence)
        np.testing.assert_allclose(chunk.positions, alone.positions, rtol=0, atol=1e-5)
    assert len({chunk.positions.tobytes() for chunk in together}) == len(asked)


@pytest.mark.parametrize("rtc", ["off", "guided", "trained"])
@pytest.mark.parametrize("variant", ["demo_checkpoint", "demo_pi05"])
def test_a_batch_is_as_good_as_one_by_one(
    variant: str, rtc: str, request: pytest.FixtureRequest
) -> None:
    checkpoint: Path = request.getfixturevalue(variant)
    policy = Policy.load(
        checkpoint,
        graph=GraphOptions("eager", rtc=rtc),
        rtc_max_delay=10 * (rtc == "trained"),
        batch_sizes=(1, 2, 4),
    )
    for count in (2, 3, 4, 7):
        assert_alike(policy, requests(count, rtc))
    same = [r.observation.instruction for r in requests(8)]
    assert len(set(same)) == 3


@pytest.mark.parametrize("form", ["frame", "two-graph"])
@pytest.mark.parametrize("variant", ["demo_checkpoint", "demo_pi05"])
def test_batches_of_graphs_are_filled_up(
    variant: str, form: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The compiler is left out: what counts are the shapes that it would get."""
    monkeypatch.setattr(graphs, "compile_module", lambda module, *_: module)
    checkpoint: Path = request.getfixturevalue(variant)
    options = GraphOptions("inductor", form=form)
    policy = Policy.load(checkpoint, graph=options, batch_sizes=(1, 4))
    compiled = set(policy.graphs._compiled)
    assert_alike(policy, requests(3))
    assert_alike(policy, requests(6))
    assert set(policy.graphs._compiled) == compiled, "all were compiled while loading"
    assert {batch for _, batch, _ in compiled} == {1, 4}


def test_one_wrong_request_spoils_the_batch(demo_checkpoint: Path) -> None:
    policy = Policy.load(demo_checkpoint, batch_sizes=(1, 2))
    good, bad = requests(2)
    bad.observation.images.pop("wrist")
    with pytest.raises(ValueError, match="lacks the cameras"):
        policy.infer_batch([good, bad])
    assert policy.infer_batch([good])[0].sequence == good.sequence


@pytest.mark.slow
@pytest.mark.compile
@pytest.mark.timeout(1800)
def test_inductor_compiles_every_size_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smallest = replace(TINY, depth=2, vision_depth=1, num_steps=1)
    write_random_checkpoint(tmp_path / "checkpoint", smallest)
    monkeypatch.setattr(graphs, "PROMPT_LENGTHS", {"pi0": (smallest.prompt_length,)})
    compiled, eager = (
        Policy.load(tmp_path / "checkpoint", graph=GraphOptions(graph), batch_sizes=BATCH_SIZES)
        for graph in ("inductor", "eager")
    )
    with torch.compiler.set_stance("fail_on_recompile"):
        for count in (1, 2, 3, 4, 7, 8):
            asked = requests(count)
            assert_alike(compiled, asked)
            pairs = zip(compiled.infer_batch(asked), eager.infer_batch(asked), strict=True)
            for ours, plain in pairs:
                np.testing.assert_allclose(ours.positions, plain.positions, rtol=0, atol=1e-5)
