"""The trained policy obeys, and no longer does when something is wrong around it.

So a swap, a unit, an order or a colour that goes wrong anywhere between an image and the published
point turns these tests red. They take a slow rate and few scenes; `python -m benchmarks.simulated`
takes many.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import accumulate

import pytest

from benchmarks.simulated.ablations import ABLATIONS, NONE
from benchmarks.simulated.evaluation import scene_seeds
from benchmarks.simulated.rollout import Loop, rollout
from benchmarks.simulated.setup import read_setup
from pi0_ros.node.loading import load_policy
from pi0_ros.policy.policy import Policy
from pi0_ros.sim.task import TOUCH_CHECKPOINT, VARIANTS
from pi0_ros.sim.world import World

SCENES = 8
HEALTHY = 7  # of them are touched at least
FAULTY = 4  # at most
LOOP = Loop(read_setup(checkpoint=str(TOUCH_CHECKPOINT), rate_hz=4.0))
# Enough for a policy that sees everything. With more, one whose front camera is black finds things
# with the wrist camera.
SECONDS = {"touch": 3.0, "wrist": 5.0}
# Scenes with hidden colours need the wrist camera, the others the front camera more than it.
OF_WRIST = ("black-wrist",)
FAULTS = [name for name in ABLATIONS if name != NONE]


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy(LOOP.setup.parameters)


@pytest.fixture(scope="module")
def worlds() -> Iterator[dict[str, World]]:
    made = {variant: World(0, variant=variant) for variant in VARIANTS}
    yield made
    for world in made.values():
        world.close()


def successes(policy: Policy, world: World, ablation: str) -> Iterator[bool]:
    """Whether the object was touched, scene by scene."""
    how = replace(LOOP, ablation=ablation, seconds=SECONDS[world.variant])
    return (rollout(world, policy, seed, how).success for seed in scene_seeds(SCENES, 0))


def reach(outcomes: Iterator[bool], count: int) -> bool:
    """Whether at least so many are true; runs no scene after that is decided."""
    return any(total == count for total in accumulate(map(int, outcomes)))


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_obeys(policy: Policy, worlds: dict[str, World], variant: str) -> None:
    assert reach(successes(policy, worlds[variant], NONE), HEALTHY)


@pytest.mark.parametrize("fault", FAULTS)
def test_it_fails(policy: Policy, worlds: dict[str, World], fault: str) -> None:
    variant = "wrist" if fault in OF_WRIST else "touch"
    failures = (not success for success in successes(policy, worlds[variant], fault))
    assert reach(failures, SCENES - FAULTY)
