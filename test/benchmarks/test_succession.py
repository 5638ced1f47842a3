"""Which object a chunk heads for, and how far it is from the chunk before."""

from collections.abc import Iterator

import numpy as np
import pytest

from benchmarks.simulated.succession import Succession, changes
from pi0_ros.policy.types import ActionChunk
from pi0_ros.sim.expert import Expert
from pi0_ros.sim.world import World

START = 1_000_000_000_000
DT = 0.04
MS = 1_000_000


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    made = World(3, 64, 48)
    yield made
    made.close()


def chunk(positions: np.ndarray, stamp: int) -> ActionChunk:
    return ActionChunk(positions.astype(np.float32), DT, stamp, 0, seed=0)


def test_a_chunk_heads_for_the_object_at_its_end(world: World) -> None:
    expert, succession = Expert(world), Succession(world)
    order = (0, 0, 2, 1, 1)
    for number, which in enumerate(order):
        succession.note(chunk(expert.chunk(world.instructions()[which]), START), START + number)
    names = [placement.thing.name for placement in world.placements]
    assert succession.aims == [names[which] for which in order]
    assert changes(tuple(succession.aims)) == 2
    assert changes(()) == changes(("red cube",)) == 0


def test_chunks_are_compared_at_the_arrival_of_the_later_one(world: World) -> None:
    """Both move a joint by 0.01 a step; the second is 0.2 ahead."""
    succession = Succession(world)
    ramp = np.zeros((50, 6))
    ramp[:, 2] = 0.01 * np.arange(50)
    succession.note(chunk(ramp, START), START + 100 * MS)
    # The second begins 5 steps later, from where the first is then: 0.05 further on, and 0.2.
    later = ramp.copy()
    later[:, 2] += 0.05 + 0.2
    succession.note(chunk(later, START + 200 * MS), START + 330 * MS)
    assert succession.steps == pytest.approx([0.2], abs=1e-6)
    # Nothing is wanted before the first action: both are taken there.
    succession.note(chunk(later, START + 200 * MS), START + 200 * MS)
    assert succession.steps[1] == 0.0
    # After its end the first holds.
    succession.note(chunk(ramp, START + 5000 * MS), START + 5000 * MS)
    assert succession.steps[2] == pytest.approx(0.49 + 0.25, abs=1e-6)


def test_what_is_not_finite_heads_nowhere(world: World) -> None:
    succession = Succession(world)
    succession.note(chunk(np.full((50, 6), np.nan), START), START)
    assert succession.aims == [] and succession.steps == []
