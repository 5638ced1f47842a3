"""The closed loop in simulated time, with the scripted expert in the policy's place."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.simulated.drive import CONTROLLERS
from benchmarks.simulated.rollout import PERIOD, Episode, ExpertPilot, Loop, rollout
from benchmarks.simulated.score import boundary_steps
from benchmarks.simulated.setup import NodeSetup, read_setup
from pi0_ros.policy.types import ActionChunk, ActionPrefix, Observation
from pi0_ros.sim.expert import CONTROL_SECONDS
from pi0_ros.sim.world import World

# The widest band for the first chunk, which is late by 300 ms here, and a start in the past, which
# every controller can follow: what is under test is the loop.
SETUP = read_setup(checkpoint="none", max_jump=0.6)
SEEDS = range(2**31, 2**31 + 4)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    made = World(0, 64, 48)
    yield made
    made.close()


def loop(**changes: object) -> Loop:
    return replace(Loop(SETUP), **changes)


def given(**parameters: object) -> NodeSetup:
    return replace(SETUP, parameters=replace(SETUP.parameters, **parameters))


def at_rate(rate: float) -> NodeSetup:
    return given(rate_hz=rate)


class Bad(ExpertPilot):
    """An expert whose chunks are spoilt."""

    def __init__(self, world: World, spoil: float, chunks: int = 1_000_000) -> None:
        super().__init__(world)
        self._spoil, self._chunks = spoil, chunks

    def infer(self, observation: Observation) -> ActionChunk:
        chunk = super().infer(observation)
        if chunk.sequence >= self._chunks:
            return chunk
        return replace(chunk, positions=chunk.positions + np.float32(self._spoil))


class Watcher(ExpertPilot):
    """Remembers what it was shown."""

    cameras = World.CAMERAS

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.seen: list[Observation] = []

    def infer(self, observation: Observation) -> ActionChunk:
        self.seen.append(observation)
        return super().infer(observation)


def assert_same(one: Episode, two: Episode) -> None:
    for name, value in vars(one).items():
        if name != "inference":
            np.testing.assert_array_equal(value, vars(two)[name], err_msg=name)
    assert len(one.inference) == len(two.inference)


@pytest.mark.parametrize("stitched", [True, False])
@pytest.mark.parametrize("delay", [0.0, 0.076, 0.3])
@pytest.mark.parametrize("controller", CONTROLLERS)
def test_the_expert_succeeds(world: World, controller: str, delay: float, stitched: bool) -> None:
    pilot = ExpertPilot(world)
    how = loop(controller=controller, delay=delay, stitched=stitched)
    if controller == "master":
        how = replace(how, setup=given(controller="jtc_replacing", splice_lead=0.1))
    for seed in SEEDS:
        episode = rollout(world, pilot, seed, how)
        assert episode.success and episode.touched in episode.targets, episode
        assert 0.5 < episode.seconds < 4.0
        assert len(episode.commands) * PERIOD == pytest.approx(episode.seconds)


def test_it_succeeds_as_the_node_is_configured(world: World) -> None:
    how = Loop(read_setup(checkpoint="none"))
    assert all(rollout(world, ExpertPilot(world), seed, how).success for seed in SEEDS)


def test_instructions_turn_with_the_seed(world: World) -> None:
    for seed in SEEDS:
        episode = rollout(world, ExpertPilot(world), seed, loop(seconds=0.1))
        assert episode.instruction == world.instructions()[seed % 3]
        assert episode.targets == (world.target(episode.instruction),)
        assert episode.touched is None and episode.seconds == pytest.approx(0.1)


def test_same_arguments_same_episode(world: World) -> None:
    how = loop(delay=0.1)
    first = rollout(world, ExpertPilot(world), SEEDS[0], how)
    other = rollout(world, ExpertPilot(world), SEEDS[1], how)
    assert_same(first, rollout(world, ExpertPilot(world), SEEDS[0], how))
    assert first.commands.shape != other.commands.shape or (first.commands != other.commands).any()


def test_a_pilot_that_hears_another_instruction_touches_something_else(world: World) -> None:
    for seed in SEEDS:
        episode = rollout(world, ExpertPilot(world), seed, loop(ablation="wrong-instruction"))
        assert not episode.success
        assert episode.touched in {p.thing.name for p in world.placements} - {*episode.targets}


def test_chunks_arrive_after_the_delay_and_ticks_meanwhile_are_busy(world: World) -> None:
    how = loop(setup=at_rate(25.0), delay=0.1)
    episode = rollout(world, ExpertPilot(world), SEEDS[0], how)
    # Ticks every 0.04 s; one at 0 begins an inference, those at 0.04 and 0.08 find it running.
    assert episode.boundaries[0] == pytest.approx(0.1)
    assert (episode.commands[:10] == episode.start).all()
    assert (episode.commands[13] != episode.start).any()
    arrivals = [b for b in episode.boundaries if round(b * 100) % 12 == 10]
    assert len(arrivals) == episode.published
    assert episode.ticks == int((episode.seconds - PERIOD) / 0.04 + 1e-6) + 1
    assert episode.busy == episode.ticks - len(episode.inference)
    assert 0.6 < episode.busy / episode.ticks < 0.7


def test_observations_are_of_their_moment(world: World) -> None:
    pilot = Watcher(world)
    episode = rollout(world, pilot, SEEDS[0], loop(seconds=0.5))
    assert len(pilot.seen) == episode.ticks == 5
    assert np.diff([seen.stamp for seen in pilot.seen]).tolist() == [100_000_000] * 4
    np.testing.assert_array_equal(pilot.seen[0].state, episode.start)
    assert all(seen.instruction == episode.instruction for seen in pilot.seen)
    assert all(set(seen.images) == set(World.CAMERAS) for seen in pilot.seen)
    changed = pilot.seen[0].images["wrist"] != pilot.seen[4].images["wrist"]
    assert changed.mean() > 0.05, "the wrist camera moves with the arm"


def test_stitching_takes_the_step_out_of_a_late_chunk(world: World) -> None:
    how = loop(setup=at_rate(25.0), delay=0.3)
    largest = {}
    for stitched in (True, False):
        episode = rollout(world, ExpertPilot(world), SEEDS[1], replace(how, stitched=stitched))
        steps, _ = boundary_steps(episode.start, episode.commands, episode.boundaries)
        largest[stitched] = steps.max()
    assert largest[False] > 0.2
    assert largest[True] < 0.01


class Given(ExpertPilot):
    """Remembers what it was given."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.given: list[tuple[int, ActionPrefix | None]] = []

    def infer(self, observation: Observation, *, prefix: ActionPrefix | None = None) -> ActionChunk:
        self.given.append((observation.stamp, prefix))
        return super().infer(observation)


def test_the_pilot_is_given_what_executes(world: World) -> None:
    """From the second chunk on, with the delay of earlier scenes: 300 ms, the lead of 40 and up to
    the next step."""
    pilot = Given(world)
    episode = rollout(world, pilot, SEEDS[0], loop(delay=0.3, setup=given(rtc="guided")))
    first, *others = pilot.given
    assert first[1] is None and episode.rtc_fallbacks == {"episode": 1}
    assert episode.rtc_used == len(others) > 2
    for stamp, prefix in others:
        assert prefix is not None and prefix.delay == 9
        # A command holds where the trajectory is one period later; the last step is the splice.
        begun = (stamp - first[0]) / 1e9
        due = np.round((begun + CONTROL_SECONDS * np.arange(1, 9)) / PERIOD).astype(int) - 1
        due = due[due < len(episode.commands)]
        np.testing.assert_allclose(prefix.positions[: len(due)], episode.commands[due], atol=1e-4)
    off = Given(world)
    rollout(world, off, SEEDS[0], loop(delay=0.3))
    assert all(prefix is None for _, prefix in off.given)


def test_nan_is_never_published(world: World) -> None:
    episode = rollout(world, Bad(world, np.nan), SEEDS[0], loop())
    assert episode.refused == {"nonfinite": 5}
    assert episode.latched and episode.published == 0
    assert episode.seconds == pytest.approx(0.41), "the fifth chunk in a row ends it"
    assert (episode.commands == episode.start).all()


def test_a_chunk_far_off_is_refused_and_a_good_one_goes_on(world: World) -> None:
    episode = rollout(world, Bad(world, 1.0, chunks=4), SEEDS[0], loop())
    assert episode.refused == {"limits": 4}
    assert not episode.latched and episode.success


def test_what_is_late_beyond_its_end_is_not_executed(world: World) -> None:
    """A chunk of 50 steps at 25 Hz covers 2 s."""
    planned = rollout(world, ExpertPilot(world), SEEDS[0], loop(delay=2.1, seconds=5.0))
    assert planned.refused == {"expired": 2} and planned.rejected == 0
    raw = rollout(world, ExpertPilot(world), SEEDS[0], loop(delay=2.1, seconds=5.0, stitched=False))
    assert raw.refused == {} and raw.rejected == 2
    for episode in (planned, raw):
        assert episode.published == 0 and len(episode.boundaries) == 0
        assert (episode.commands == episode.start).all()


def test_an_arm_that_hears_nothing_more_is_stopped(world: World) -> None:
    """At a tick every two seconds, it must not run on for the whole chunk."""
    episode = rollout(world, ExpertPilot(world), SEEDS[0], loop(setup=at_rate(0.5), seconds=1.9))
    assert (episode.published, episode.stops) == (1, 1)
    speed = np.abs(np.diff(episode.commands, axis=0)).max(axis=1) / PERIOD
    assert speed[:50].max() > 0.5
    assert speed[80:].max() == 0.0


def test_config_files_are_found_and_checked() -> None:
    assert SETUP.parameters.camera_names == World.CAMERAS
    assert SETUP.parameters.joint_names == World.JOINTS
    assert SETUP.limits.names == World.JOINTS
    with pytest.raises(ValueError, match="rate_hz: must be in"):
        read_setup(checkpoint="none", rate_hz=0.0)
