"""The DDS form and the deterministic form publish the same for the same observation.

Which ticks fall where differs: the node's timer starts when it is activated, and it misses ticks
while an inference runs. So chunks are matched by the stamp of their observation, and compared in
everything that the observation determines: the images' stamps, the state, the instruction, the
joints. With a real checkpoint the noise too has to be the same, which the node draws for the number
of its chunk and a deterministic replay for the number of its tick; with --again each chunk is
computed from the observation and the noise of its partner.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS is not installed")
pytest.importorskip("pi0_ros.msg", reason="the messages are not built")

from support.recordings import (
    SIX,
    THREE,
    FakePolicy,
    arm_at_work,
    run_offline,
    write_bag,
    write_params,
)
from support.waiting import first_good

from pi0_ros import cli
from pi0_ros.bags.results import read_results
from pi0_ros.diff.compare import compare, match
from pi0_ros.policy.types import ActionChunk


class StillPolicy(FakePolicy):
    """As test/support/fake_node.py: every joint stays where it was observed."""

    def infer(self, observation, noise=None) -> ActionChunk:
        chunk = super().infer(observation, noise)
        still = np.tile(observation.state.astype(np.float32), (self.horizon, 1))
        return ActionChunk(still, chunk.dt, chunk.stamp, 0, 0, chunk.stage_times)


def main(words) -> int:
    return cli.main(["replay", *words])


def test_both_see_the_same_at_one_observation(tmp_path, fake_node, monkeypatch):
    monkeypatch.setattr("pi0_ros.replay.live.NODE_COMMAND", fake_node)
    bag = write_bag(tmp_path / "bag", arm_at_work(seconds=2.0))
    params = write_params(tmp_path / "params.yaml", THREE)
    words = [str(bag), "--checkpoint", str(tmp_path), "--params", str(params), "--out"]
    assert run_offline([*words, tmp_path / "steps", "--deterministic"], StillPolicy) == 0
    steps = read_results(tmp_path / "steps")

    def attempt(rate: str):
        if main([*words, str(tmp_path / "dds"), "--rate", rate, "--overwrite"]) != 0:
            return None, []
        dds = read_results(tmp_path / "dds")
        return dds, match(dds.chunks, steps.chunks)[0]

    def agree(result) -> bool:
        dds, pairs = result
        return dds is not None and len(pairs) >= 0.8 * len(dds.chunks) >= 12

    # A busy machine that loses images or ticks gets more time.
    attempts = [partial(attempt, rate) for rate in ("1", "0.3", "0.1", "0.05")]
    dds, pairs = first_good(attempts, agree)
    assert agree((dds, pairs))
    for a, b in pairs:
        x, y = a.chunk, b.chunk
        assert x.camera_names == y.camera_names == ("front", "wrist")
        difference = np.subtract(a.camera_stamps, b.camera_stamps)
        assert np.abs(difference).max() <= 1000, "the images"
        # The state is the policy's answer, interpolated between two joint states: to the bit.
        np.testing.assert_array_equal(x.positions, y.positions)
        assert x.joint_names == y.joint_names == THREE
        assert (x.instruction, x.dt) == (y.instruction, y.dt) == ("touch the red cube", 0.02)
    difference = compare(dds, steps)
    assert (difference.images, difference.instructions) == (0, 0)


def test_both_get_the_same_chunk_from_a_real_checkpoint(tmp_path, demo_checkpoint):
    bag = write_bag(tmp_path / "bag", arm_at_work(seconds=1.5, joints=SIX))
    params = write_params(tmp_path / "params.yaml", SIX)
    words = [str(bag), "--checkpoint", str(demo_checkpoint), "--params", str(params), "--out"]
    assert main([*words, str(tmp_path / "own"), "--deterministic"]) == 0
    own = read_results(tmp_path / "own")

    def attempt(rate: str):
        status = main([*words, str(tmp_path / "dds"), "--rate", rate, "--overwrite"])
        return status == 0 and read_results(tmp_path / "dds")

    # A busy machine that sees few observations, and none of the grid's, gets more time.
    attempts = [partial(attempt, rate) for rate in ("1", "0.3", "0.1", "0.05")]
    dds = first_good(attempts, lambda result: result and match(result.chunks, own.chunks)[0])
    assert dds, "a replay with chunks"
    options = ["--deterministic", "--again", str(tmp_path / "dds")]
    assert main([*words, str(tmp_path / "steps"), *options]) == 0
    difference = compare(dds, read_results(tmp_path / "steps"))
    assert len(difference.stamps) == len(dds.chunks) >= 1, "every one of them"
    assert difference.joints.max() < 1e-6
    assert (difference.images, difference.instructions) == (0, 0)
    # Without the noise of its partner a chunk is another one: this is not compared for nothing.
    assert compare(dds, own).joints.max() > 1e-3
