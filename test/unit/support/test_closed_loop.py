"""The executor in the closed loop of support.closed_loop, and the judge of that loop."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.closed_loop.episode import Episode, Outcome, play
from support.closed_loop.families import FAMILIES, FORMS, draw
from support.closed_loop.judge import Bounds, Excuse, apart_since, judge, late_to_rest
from support.closed_loop.node import Node

FAST = 200 // len(FAMILIES) + 1
SLOW = 2000 // len(FAMILIES) + 1
"""Episodes of each family."""


def problems_of(family: str, seeds: range) -> list[str]:
    return [f"seed {seed}: {problem}" for seed in seeds for problem in play(family, seed).problems]


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_commanded_is_fit_for_an_arm(family: str) -> None:
    assert not problems_of(family, range(FAST))


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_commanded_is_fit_for_an_arm_in_many_episodes(family: str) -> None:
    assert not problems_of(family, range(1000, 1000 + SLOW))


def test_the_same_seed_plays_the_same_episode() -> None:
    one, two = play("everything", 1), play("everything", 1)
    assert one.verdict == two.verdict and one.verdict.moved > 0.1


def test_every_controller_is_drawn() -> None:
    drawn = {draw("ideal", seed).form.name for seed in range(100)}
    assert drawn == {form.name for form in FORMS}


# Executors that are wrong on purpose ------------------------------------------------------------


class AsTheyCome(Node):
    """Chunks go to the controller without limits and without splicing."""

    def chunk(self, chunk, now):
        trajectory = super().chunk(chunk, now)
        if trajectory is None:
            return None
        times = tuple(round(chunk.dt * 1e9) * (i + 1) for i in range(len(chunk.positions)))
        positions = chunk.positions.astype(np.float64)
        velocities = np.gradient(positions, chunk.dt, axis=0)
        velocities[-1] = 0.0
        return replace(
            trajectory, stamp=chunk.stamp, times=times, positions=positions, velocities=velocities
        )


class FromMeasured(Node):
    """A stop holds the measured position at once."""

    def tick(self, now):
        trajectory, measured = super().tick(now), self.measured(now)
        if trajectory is None or measured is None:
            return trajectory
        return replace(
            trajectory,
            positions=np.repeat(measured.positions[None], len(trajectory.times), axis=0),
            velocities=np.zeros_like(trajectory.velocities),
        )


class NeverLatches(Node):
    """Faults do not stop it."""

    def tick(self, now):
        trajectory = super().tick(now)
        if "follow" in self.enable.latched:
            self.enable.reset()
            self.enable.enable(0.0)
        return trajectory


class Believes(Node):
    """Every joint state is taken as it comes: angles are not unwrapped."""

    def see(self, stamp, positions, velocities, now):
        self._states.evidence.put = lambda told, stamp: told
        super().see(stamp, positions, velocities, now)


class Suspects(Node):
    """A lag of 10 ms and 10 mrad are a fault."""

    def __init__(self, conditions, settings):
        strict = {"tracking_tolerance": 0.01, "tracking_lag": 0.01}
        super().__init__(conditions, replace(settings, **strict))


class OnePoint(Node):
    """Trajectories of one point."""

    def chunk(self, chunk, now):
        trajectory = super().chunk(chunk, now)
        if trajectory is None:
            return None
        last = {"positions": trajectory.positions[-1:], "velocities": trajectory.velocities[-1:]}
        return replace(trajectory, times=trajectory.times[-1:], **last)


class StopsOnce(Node):
    """A stop that executes is never replaced by a harder one."""

    def tick(self, now):
        if not (self.executor._stopping and self.enable.latched):
            return super().tick(now)
        return None


class NotANumber(Node):
    def chunk(self, chunk, now):
        trajectory = super().chunk(chunk, now)
        if trajectory is not None:
            trajectory.positions[0] = np.nan
        return trajectory


@pytest.mark.parametrize(
    ("wrong", "family", "says"),
    [
        (AsTheyCome, "arm lags by up to 80 ms", "steps by"),
        (AsTheyCome, "ideal", "accelerates at"),
        (FromMeasured, "emergency stop", "steps by"),
        (FromMeasured, "angles that wrap", "steps by"),
        (NeverLatches, "controller takes nothing", "no fault latched"),
        (NeverLatches, "a joint is stuck or slow", "no fault latched"),
        (Believes, "angles that wrap", "false latch"),
        (Suspects, "arm lags by up to 80 ms", "false latch"),
        (StopsOnce, "emergency stop", "still moves"),
        (OnePoint, "ideal", "1 points"),
        (NotANumber, "ideal", "rejects a trajectory: not finite"),
    ],
)
def test_an_executor_that_is_wrong_is_seen(wrong: type[Node], family: str, says: str) -> None:
    def outcome(seed: int) -> Outcome:
        episode = Episode(draw(family, seed), seed, wrong)
        return episode.run()

    assert any(says in problem for seed in range(8) for problem in outcome(seed).problems)


# The judge ---------------------------------------------------------------------------------------

BOUNDS = Bounds(np.array([-1.0]), np.array([1.0]), np.array([1.0]), np.array([5.0]))
PERIOD = 2_000_000
TIMES = 10**18 + np.arange(1500) * PERIOD


def smooth(way: float = 0.5, seconds: float = 2.0) -> np.ndarray:
    """There and at rest; fastest 1.5 * way / seconds, at most 6 * way / seconds^2."""
    share = np.clip((TIMES - TIMES[0]) / 1e9 / seconds, 0, 1)[:, None]
    return way * (3 * share**2 - 2 * share**3)


def test_a_smooth_motion_has_no_problems() -> None:
    verdict = judge(TIMES, smooth(), BOUNDS)
    assert not verdict.problems
    assert verdict.step == 0 and verdict.moved == pytest.approx(0.5)
    assert verdict.acceleration == pytest.approx(6 * 0.5 / 4 / 5, rel=0.01)


@pytest.mark.parametrize(
    ("commands", "says"),
    [
        (smooth() + np.where(TIMES[500] < TIMES, 0.004, 0)[:, None], "steps by"),
        (smooth() + np.where(TIMES[500] < TIMES, 0.0005, 0)[:, None], "accelerates at"),
        (smooth(1.4), "beyond a position limit"),
        (smooth(0.9, 1.2), "faster than its limit"),
        (smooth(0.9, 4.0), "moves at the end"),
        (np.where(TIMES[7] == TIMES, np.nan, 0.0)[:, None], "not finite"),
    ],
)
def test_what_the_judge_sees(commands: np.ndarray, says: str) -> None:
    verdict = judge(TIMES, commands, BOUNDS)
    assert any(says in problem for problem in verdict.problems), verdict


def test_a_stop_that_brakes_too_softly_is_seen() -> None:
    begin, end = int(TIMES[0]), int(TIMES[-1])
    seconds = (TIMES - begin) / 1e9
    braking = np.minimum(seconds, 0.5)[:, None]
    commands = 2.0 * braking - 2.0 * braking**2  # 4 rad/s^2 from 2 rad/s

    def found(acceleration: float, reaction: float) -> str:
        return late_to_rest(TIMES, commands, np.array([acceleration]), begin, end, reaction)

    assert not found(4.0, 0.01)
    assert "still moves" in found(8.0, 0.01)
    assert not found(8.0, 0.26)


def test_a_way_back_within_the_limits_is_allowed() -> None:
    assert not judge(TIMES, 1.2 - smooth(0.5), BOUNDS).problems


def test_excuses_are_for_their_time_and_size() -> None:
    commands = smooth() + np.where(TIMES[500] < TIMES, 0.02, 0)[:, None]
    begin, end = int(TIMES[499]), int(TIMES[503])
    assert not judge(TIMES, commands, BOUNDS, [Excuse(begin, end, 0.02)]).problems
    assert judge(TIMES, commands, BOUNDS, [Excuse(begin, end, 0.01)]).problems
    assert judge(TIMES, commands, BOUNDS, [Excuse(end, end + 100, 0.02)]).problems
    turned = commands + np.where(TIMES[500] < TIMES, 2 * np.pi, 0)[:, None]
    turns = Bounds(np.array([-np.inf]), np.array([np.inf]), np.array([1.0]), np.array([5.0]))
    assert not judge(TIMES, turned, turns, [Excuse(begin, end, 0.02, turns=True)]).problems
    assert judge(TIMES, turned, turns, [Excuse(begin, end, 0.02)]).problems


def test_an_arm_that_lags_is_not_apart_and_one_that_stands_is() -> None:
    commands = smooth()[:, 0]
    late = np.concatenate([np.zeros(100), commands[:-100]])  # 200 ms
    assert apart_since(TIMES, commands, late, 0.02, 0.25) is None
    since = apart_since(TIMES, commands, np.zeros_like(commands), 0.1, 0.25)
    assert since is not None
    # 0.1 rad are passed after 0.575 s.
    assert (since - TIMES[0]) / 1e9 - 0.25 == pytest.approx(0.575, abs=0.01)
