"""Many scenes, in this process, in several, or over DDS: an episode of each."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.simulated.rollout import Episode, ExpertPilot, Loop, Pilot, rollout
from pi0_ros import console
from pi0_ros.errors import UserError
from pi0_ros.node.loading import make_policy
from pi0_ros.sim.world import World

FIRST_SEED = 2**31
"""Scenes of training have seeds below this, so no scene here was ever trained on."""

MOST_SCENES = 100_000


@dataclass(frozen=True)
class Evaluation:
    """What is evaluated.

    Attributes:
        loop: how the loop is closed.
        variant: of the task.
        expert: the scripted expert instead of the checkpoint that the parameters name.
    """

    loop: Loop
    variant: str = "touch"
    expert: bool = False


def scene_seeds(scenes: int, seed: int) -> range:
    """Seeds of scenes; those of different `seed` are different.

    Raises:
        UserError: `scenes` is not from 1 to MOST_SCENES, or `seed` is negative.
    """
    if not 1 <= scenes <= MOST_SCENES:
        raise UserError(f"scenes must be from 1 to {MOST_SCENES}, got {scenes}")
    if seed < 0:
        raise UserError(f"seed must be at least 0, got {seed}")
    first = FIRST_SEED + seed * MOST_SCENES
    return range(first, first + scenes)


def evaluate(evaluation: Evaluation, seeds: Sequence[int], *, workers: int = 1) -> list[Episode]:
    """An episode per seed, in order. The result does not depend on `workers`, but for wall times.

    Args:
        workers: processes.

    Raises:
        UserError: mujoco is not installed.
        RenderError: no OpenGL for the cameras' images.
        ValueError: the checkpoint is broken, or does not fit the parameters.
    """
    return _collect(_episodes(evaluation, seeds, workers), len(seeds))


def evaluate_over_dds(
    evaluation: Evaluation,
    seeds: Sequence[int],
    *,
    speed: float | None = None,
    given: Mapping[str, object] | None = None,
) -> list[Episode]:
    """As `evaluate`, by pi0_sim and pi0_node as processes; the delay is added to the inferences.

    Args:
        seeds: count up by one.
        speed: simulated per real time; None: real time.
        given: the node's parameters besides those of config/touch.yaml.

    Raises:
        ImportError: ROS is not here.
        NodeError: the processes did not come together, or one ended.
    """
    from benchmarks.simulated.dds import judge

    with judge(evaluation.loop, evaluation.variant, seeds[0], speed, given or {}) as scenes:
        return _collect(scenes.episodes(seeds), len(seeds))


def _collect(coming: Iterator[Episode], total: int) -> list[Episode]:
    with console.progress(total=total, unit="scene") as bar:
        episodes: list[Episode] = []
        for episode in coming:
            episodes.append(episode)
            bar.set_postfix(touched=f"{sum(e.success for e in episodes)}/{len(episodes)}")
            bar.update()
    return episodes


def _episodes(evaluation: Evaluation, seeds: Sequence[int], workers: int) -> Iterator[Episode]:
    if workers == 1:
        bench = _Bench(evaluation)
        try:
            yield from map(bench.episode, seeds)
        finally:
            bench.world.close()
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(min(workers, len(seeds)), _make_bench, (evaluation,)) as pool:
        yield from pool.imap(_on_bench, seeds)
        pool.close()
        pool.join()


class _Bench:
    """A world and what flies in it, made once per process."""

    def __init__(self, evaluation: Evaluation) -> None:
        self.world = World(variant=evaluation.variant)
        self._loop = evaluation.loop
        self._pilot: Pilot
        if evaluation.expert:
            self._pilot = ExpertPilot(self.world)
        else:
            self._pilot = make_policy(evaluation.loop.setup.parameters)

    def episode(self, seed: int) -> Episode:
        return rollout(self.world, self._pilot, seed, self._loop)


_bench: _Bench | None = None  # of a worker process


def _make_bench(evaluation: Evaluation) -> None:
    global _bench
    _bench = _Bench(evaluation)


def _on_bench(seed: int) -> Episode:
    assert _bench is not None
    return _bench.episode(seed)
