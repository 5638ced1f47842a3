"""Chunks agree with real-time chunking, where the instruction leaves the choice and they come late.

The short form of the table in docs/simulation.md.
"""

from collections.abc import Iterator

import pytest

from benchmarks.simulated.evaluation import scene_seeds
from benchmarks.simulated.rollout import Loop, rollout
from benchmarks.simulated.score import Score, score
from benchmarks.simulated.setup import read_setup
from pi0_ros.node.loading import load_policy
from pi0_ros.sim.task import TOUCH_CHECKPOINT
from pi0_ros.sim.world import World

SCENES = 4


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    made = World(0)
    yield made
    made.close()


def played(world: World, mode: str) -> Score:
    """The figures with chunks that come 300 ms after their observations."""
    setup = read_setup(checkpoint=str(TOUCH_CHECKPOINT), rtc=mode)
    policy, loop = load_policy(setup.parameters), Loop(setup, delay=0.3, ambiguous=True)
    return score([rollout(world, policy, seed, loop) for seed in scene_seeds(SCENES, 0)])


def test_chunks_change_their_mind_less_often(world: World) -> None:
    off = played(world, "off")
    assert off.rtc_used == 0 and off.rtc_fallbacks == {}
    assert off.changes_of_mind >= SCENES, "the policy has several ways"
    for mode in ("guided", "trained"):
        agreed = played(world, mode)
        assert agreed.rtc_used > 0 and agreed.rtc_fallbacks == {"episode": SCENES}
        assert agreed.changes_of_mind <= off.changes_of_mind / 4
        assert agreed.success_rate == 1.0
        assert agreed.jerk < off.jerk
        assert agreed.chunk_step_rad["p50"] < off.chunk_step_rad["p50"] / 4
