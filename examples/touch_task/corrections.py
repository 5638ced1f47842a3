"""Demonstrations where a trained policy goes: what the expert would do there.

A policy that only saw an expert's ways knows none out of where its own mistakes lead. So it follows
ambiguous instructions in closed loop, with real-time chunking as a robot runs it, and the expert
labels what it meets (DAgger: Ross et al. 2011, "A Reduction of Imitation Learning and Structured
Prediction to No-Regret Online Learning"). Needs this repository's `benchmarks`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.simulated.rollout import Loop, rollout
from benchmarks.simulated.setup import read_setup
from examples.touch_task.demonstrations import (
    Demonstrations,
    Row,
    fitted_size,
    in_blocks,
    labelled_observation,
    right_objects,
)
from pi0_ros.node.loading import load_policy
from pi0_ros.policy.policy import Policy
from pi0_ros.policy.types import ActionChunk, ActionPrefix, Observation
from pi0_ros.sim.expert import Expert
from pi0_ros.sim.task import AMBIGUOUS, ANY_CUBE
from pi0_ros.sim.world import World

_MODES = ("guided", "trained", "trained")
_DELAYS = (0.3, 0.3, 0.3, 0.15, 0.076, 0.0)  # seconds from an observation to its chunk
_SECONDS = 6.0  # of a scene: who hovers goes on hovering
_SLOW = 3.0  # seconds after which a scene is one that the policy does not master
_MASTERED = 0.25  # share of the other scenes that is kept
_MOST = 12  # observations of a scene
_CUBES = 0.8  # share of scenes in which a cube is asked for: the others can hardly go wrong
_NEARER = 0.15  # radians of pan by which another object must be nearer to be chosen instead


class Follower:
    """A policy in closed loop that notes what it meets; a `rollout.Pilot`.

    Attributes:
        rows: of the scene, as `demonstrations.labelled_observation` makes them.
    """

    def __init__(self, policy: Policy, world: World, rng: np.random.Generator) -> None:
        self._policy = policy
        self._world = world
        self._expert = Expert(world)
        self._rng = rng
        self.cameras, self.horizon = policy.cameras, policy.horizon
        self.rtc_max_delay = policy.rtc_max_delay

    def reset(self) -> None:
        """A scene begins."""
        self._policy.reset()
        self._expert.forget()
        self._choices: np.ndarray | None = None
        self.rows: list[Row] = []

    def infer(self, observation: Observation, *, prefix: ActionPrefix | None = None) -> ActionChunk:
        """As the policy; see there."""
        executing = None if prefix is None else prefix.positions
        self._choices = self._choose(executing)
        self.rows.append(
            labelled_observation(self._world, self._expert, self._choices, self.horizon, executing)
        )
        return self._policy.infer(observation, prefix=prefix)

    def _choose(self, executing: np.ndarray | None) -> np.ndarray:
        """[ambiguous] int64: the right object nearest to where the arm is led, -1 for none.

        At random where it is led nowhere yet; another one than before where that is clearly nearer.
        """
        named = self._world.instructions()
        chosen = np.full(len(AMBIGUOUS), -1)
        for i, satisfying in enumerate(right_objects(self._world)):
            right = np.flatnonzero(satisfying)
            if not len(right):
                continue
            if executing is None:
                chosen[i] = self._rng.choice(right)
                continue
            pans = np.array([self._expert.goal(named[k])[0] for k in right])
            distances = np.abs(pans - executing[-1, 0])
            if self._choices is not None:
                distances[right == self._choices[i]] -= _NEARER
            chosen[i] = right[distances.argmin()]
        return chosen


def correct(
    checkpoint: Path, scenes: int, *, seed: int, image_size: int, workers: int = 1
) -> Demonstrations:
    """Let a policy work in many scenes. The result does not depend on `workers`.

    Args:
        checkpoint: directory of the policy, trained with prefixes.
        scenes: how many; of those that it masters only a share is kept.
        seed: of everything.
        image_size: as in `demonstrations.demonstrate`.
        workers: processes.
    """
    return in_blocks(_make_block, scenes, workers, (str(checkpoint), seed, image_size))


def _make_block(scenes: range, checkpoint: str, seed: int, image_size: int) -> Demonstrations:
    torch.set_num_threads(1)
    height, width = fitted_size(image_size)
    world = World(0, width, height)
    loops = {
        mode: Loop(read_setup(checkpoint=checkpoint, rtc=mode), seconds=_SECONDS, ambiguous=True)
        for mode in sorted(set(_MODES))
    }
    policies = {mode: load_policy(loop.setup.parameters) for mode, loop in loops.items()}
    rows = []
    try:
        for scene in scenes:
            rng = np.random.default_rng((seed, 1, scene))
            mode = _MODES[rng.integers(len(_MODES))]
            loop = replace(loops[mode], delay=float(rng.choice(_DELAYS)))
            follower = Follower(policies[mode], world, rng)
            episode = rollout(world, follower, _scene(world, rng), loop)
            mastered = episode.success and episode.seconds < _SLOW
            if not (mastered and rows) or rng.random() < _MASTERED:
                count = min(len(follower.rows), _MOST)
                kept = np.sort(rng.choice(len(follower.rows), count, replace=False))
                rows += [follower.rows[k] for k in kept]
    finally:
        world.close()
    return Demonstrations.of(rows)


def _scene(world: World, rng: np.random.Generator) -> int:
    """The seed of a scene, which decides what a rollout is told there."""
    wants_cube = rng.random() < _CUBES
    while True:
        seed = int(rng.integers(2**31))
        world.reset(seed)
        told = world.ambiguous_instructions()
        if (told[seed % len(told)] == ANY_CUBE) == wants_cube:
            return seed
