"""Chunks in, trajectories out; and whether the arm follows them, as far as joint states tell."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import episode
from support.jtc import MS, NOW, SECOND, TIGHT, at_rest, chunk, limits_of, wave

from pi0_ros.motion.enable import MotionEnable
from pi0_ros.motion.executor import ACQUAINTANCE, LAG, NEAR, Executor, MotionSettings
from pi0_ros.motion.limits import JointLimits
from pi0_ros.motion.planner import Plan
from pi0_ros.motion.refusal import Measured, Refusal
from pi0_ros.node.joint_states import JointHistory, Sample
from pi0_ros.policy.types import ActionChunk

START, SPEED, DT = 0.1, 0.8, 0.02
PERIOD = 40 * MS


def executor(limits: JointLimits, enabled: bool = True, **changes: object) -> Executor:
    settings = {
        **vars(TIGHT),
        **episode.SETTINGS,
        "trajectory_start": "observation",
        **changes,
    }
    enable = MotionEnable()
    if enabled:
        enable.enable(0.0)
    return Executor(limits.names, limits, MotionSettings(**settings), enable)


class Arm:
    """One joint that lags behind the newest trajectory, or stands and hears nothing.

    Attributes:
        begins: [trajectories] radians between a trajectory's first point and where the joint was.
    """

    def __init__(self, since: int, lag: int | None) -> None:
        """lag: nanoseconds; None: it hears nothing."""
        self.now, self._lag = NOW, lag
        self._history = JointHistory(gap=200 * MS)
        self._paths: list[tuple[int, np.ndarray, np.ndarray]] = []
        self.begins: list[float] = []
        for stamp in range(since, NOW + 1, 10 * MS):
            self._history.put(Sample(stamp, np.array([START]), np.zeros(1)))
        self._executor = executor(limits_of(1, velocity=2.0, acceleration=20.0))

    def _hear(self, planned: Plan) -> None:
        trajectory = planned.trajectory
        times, positions = trajectory.stamp + np.array(trajectory.times), trajectory.positions[:, 0]
        self.begins.append(abs(positions[0] - self._history.at(int(times[0]))[0][0]))
        if self._lag is not None:
            self._paths.append((self.now, times, positions))

    def _at(self, time: int) -> float:
        heard = [path for path in self._paths if path[0] <= time - self._lag] if self._lag else []
        return np.interp(time - self._lag, *heard[-1][1:]) if heard else START

    def run(self, seconds: float) -> Arm:
        """A policy that wants to move steadily from where it sees the joint."""
        for _ in range(round(seconds * SECOND / PERIOD)):
            seen = self._history.newest()
            way = SPEED * DT * np.arange(1, 51, dtype=np.float32)[:, None]
            positions = seen.positions.astype(np.float32) + way
            self._hear(
                self._executor.update(ActionChunk(positions, DT, seen.stamp, 0, 0), seen, self.now)
            )
            for _ in range(PERIOD // (10 * MS)):
                self.now += 10 * MS
                self._history.put(Sample(self.now, np.array([self._at(self.now)]), np.zeros(1)))
        return self


def test_an_arm_that_lags_is_not_held_back() -> None:
    arm = Arm(NOW - ACQUAINTANCE, lag=150 * MS).run(1.0)
    assert max(arm.begins) > NEAR, "the lag is seen, and allowed"
    assert max(arm.begins) < NEAR + SPEED * LAG / SECOND
    assert arm._at(arm.now) > START + 0.2


@pytest.mark.parametrize("acquainted", [0.0, 0.5])
def test_an_arm_that_came_back_and_hears_nothing_is_waited_for(acquainted: float) -> None:
    """No trajectory may begin far from it: to start into the midst of one would be a jump."""
    arm = Arm(NOW - round(acquainted * SECOND), lag=None).run(0.4)
    assert max(arm.begins) <= NEAR
    well_known = Arm(NOW - 2 * ACQUAINTANCE, lag=None).run(0.4)
    assert max(well_known.begins) > NEAR, "it might only lag"


def test_an_arm_that_came_back_and_lags_gets_under_way() -> None:
    arm = Arm(NOW, lag=150 * MS).run(2.0)
    assert arm._at(arm.now) > START + 0.2


def test_a_gap_in_the_joint_states_begins_them_anew() -> None:
    history = JointHistory(gap=200 * MS)
    for stamp in (0, 100, 300, 400, 601, 700):
        history.put(Sample(NOW + stamp * MS, np.zeros(1), None))
        assert history.newest().since == NOW + (601 if stamp > 600 else 0) * MS
    history.clear()
    history.put(Sample(NOW + SECOND, np.zeros(1), None))
    assert history.newest().since == NOW + SECOND


# The whole of it -----------------------------------------------------------------------------


def test_trajectories_are_those_that_were_recorded():
    """A fixed episode gives the trajectories, stops and refusals that it gave before.

    The recording is of the executor as it was when it was part of the node.
    """
    recorded = json.loads(Path(__file__).with_name("recorded.json").read_text())
    for start, expected in recorded.items():
        got = list(play(start))
        assert [entry[:2] for entry in got] == [entry[:2] for entry in expected]
        for ours, theirs in zip(got, expected, strict=True):
            assert ours[2:5] == theirs[2:5], ours[:2]
            for values, recorded_values in zip(ours[5:], theirs[5:], strict=True):
                np.testing.assert_allclose(values, recorded_values, rtol=0, atol=1e-8)


def play(start: str) -> Iterator[list[Any]]:
    """What an executor returns to the episode's events, as `recorded.json` has it."""
    moves = executor(episode.limits(), enabled=False, trajectory_start=start)
    for number, event in enumerate(episode.events()):
        measured = None
        if event.positions is not None:
            since = episode.BEGIN
            if event.time >= episode.BEGIN + 6_700 * MS:
                since += 6_600 * MS
            measured = Measured(event.positions, event.velocities, event.stamp, since)
        result = None
        if event.kind == "enable":
            moves.enable.reset()
            moves.enable.enable(0.0)
        elif event.kind == "disable":
            moves.enable.disable("asked for")
            result = moves.tick(measured, event.time)
        elif event.kind == "jump":
            moves.reset()
        elif event.kind == "change":
            moves.settings = replace(moves.settings, **event.value)
        elif event.kind == "tick":
            result = moves.tick(measured, event.time)
        else:
            result = moves.update(event.value, measured, event.time)
            if isinstance(result, Refusal):
                yield [number, "refused", result.reason]
                result = moves.tick(measured, event.time)
        if result is not None and result.trajectory is not None:
            kind = "stop" if result.stop_cause else "published"
            yield [number, kind, *episode.digest(result.trajectory)]


def test_a_dry_run_judges_and_publishes_nothing():
    here = at_rest(wave()[5])
    moves = executor(limits_of(2), enabled=False)
    planned = moves.update(chunk(wave() * 1.0), here, NOW)
    assert isinstance(planned, Plan) and planned.trajectory is None and planned.motion is not None
    refusal = moves.update(chunk(wave() + 1.0), here, NOW)
    assert isinstance(refusal, Refusal) and refusal.reason == "limits"
    assert moves.tick(here, NOW + SECOND) is None


def test_without_limits_nothing_is_planned():
    moves = executor(limits_of(2))
    blind = Executor(limits_of(2).names, None, moves.settings, moves.enable)
    assert blind.update(chunk(wave()), at_rest(wave()[5]), NOW) == Plan(None, None)
    assert blind.update(chunk(wave() * np.nan), None, NOW).reason == "nonfinite"
    assert blind.tick(None, NOW + SECOND) is None


def test_without_a_joint_state_nothing_starts():
    assert executor(limits_of(2)).update(chunk(wave()), None, NOW).reason == "stale"


def test_stops_once_when_motion_is_disabled():
    moves, here = executor(limits_of(2)), at_rest(wave()[5])
    assert moves.update(chunk(wave()), here, NOW).trajectory is not None
    assert moves.tick(here, NOW + 20 * MS) is None
    moves.enable.emergency_stop(True)
    stopped = moves.tick(here, NOW + 40 * MS)
    assert stopped.stop_cause == "the emergency stop"
    assert not stopped.trajectory.velocities[-1].any()
    assert moves.tick(here, NOW + 60 * MS) is None
    moves.enable.reset()


def test_stops_when_rejections_latch():
    moves, here = executor(limits_of(2), reject_latch=2), at_rest(wave()[5])
    moves.update(chunk(wave()), here, NOW)
    for k in range(2):
        assert moves.tick(here, NOW + k) is None
        assert moves.update(chunk(wave() + 1.0), here, NOW + k).reason == "limits"
    assert "2 rejected chunks in a row" in moves.tick(here, NOW + 2).stop_cause


def test_rejections_latch_only_in_a_row_of_one_episode():
    moves, here = executor(limits_of(2), reject_latch=3), at_rest(wave()[5])

    def reject(times):
        for _ in range(times):
            assert moves.update(chunk(wave() + 1.0), here, NOW).reason == "limits"
        return moves.enable.latched

    assert not reject(2)
    moves.update(chunk(wave()), here, NOW)
    assert not reject(2)
    moves.begin_episode()
    assert not reject(2)
    assert "3 rejected chunks in a row, the last: joint joint_" in reject(1)
    assert not moves.enable.enabled
    moves.enable.reset()
    moves.enable.enable(0.0)
    assert not reject(2), "the row begins anew"


def test_rejections_of_a_dry_run_do_not_latch():
    moves = executor(limits_of(2), enabled=False, reject_latch=1)
    assert moves.update(chunk(wave() + 1.0), at_rest(wave()[5]), NOW).reason == "limits"
    assert moves.enable.enable(0.0) == ""


def test_stops_when_chunks_cease():
    moves, here = executor(limits_of(2)), at_rest(wave()[5])
    moves.update(chunk(wave()), here, NOW)
    limit = round(moves.settings.starve_timeout * SECOND)
    assert moves.tick(here, NOW + limit) is None
    assert "no new trajectory" in moves.tick(None, NOW + limit + MS).stop_cause


def test_a_clock_that_jumped_leaves_nothing_to_stop():
    moves, here = executor(limits_of(2)), at_rest(wave()[5])
    moves.update(chunk(wave()), here, NOW)
    moves.reset()
    moves.enable.disable("asked for")
    assert moves.tick(here, NOW + 20 * MS) is None
