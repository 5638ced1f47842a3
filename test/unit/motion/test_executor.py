"""The executor: where a trajectory begins, stops, latches, dry runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.executor_loop import LIMITS, PERIOD, Loop, executor, rested, swing
from support.jtc import LEAD, MS, NOW, SECOND, at_rest, chunk, limits_of, wave

from pi0_ros.motion.executor import Executor
from pi0_ros.motion.planner import Plan
from pi0_ros.motion.refusal import Measured, Reason, Refusal
from pi0_ros.policy.types import ActionChunk

# Starting ---------------------------------------------------------------------------------------


def test_a_moving_arm_is_refused_until_it_rests() -> None:
    """The node was restarted while the controller executes what it had published before."""
    first = Loop(LIMITS, swing).run(1.5)
    again = Loop(LIMITS, swing)
    again._heard, again._k = first._heard, first._k
    again.arm, again.command = first.arm, first.command
    again.run(0.6)
    assert set(again.refusals) == {Reason.MOVING.value}
    goal = first._heard[1][-1] - 0.2
    again._policy = lambda t: goal
    again.run(2.5).judge(noise=2e-4)  # what it still moved by where it counted as resting
    assert not again.executor.enable.latched
    np.testing.assert_allclose(again.command, goal, atol=1e-3)


def test_a_clock_that_jumped_begins_at_rest() -> None:
    loop = Loop(LIMITS, swing).run(1.5)
    loop.executor.reset()
    loop.run(0.3)
    assert loop.refusals[-1] == Reason.MOVING.value


@pytest.mark.parametrize(("off", "begins"), [(0.02, 0.0), (0.06, 0.06)])
def test_after_joint_states_were_missing_the_arm_may_have_another_setpoint(
    off: float, begins: float
) -> None:
    """Its controller was restarted; or it only sags, and begins at the setpoint as ever."""
    limits = limits_of(2)
    moves = rested(limits, [0.0, 0.0])
    still = np.zeros((50, 2))
    assert moves.update(chunk(still), at_rest([0.0, 0.0]), NOW).trajectory is not None
    moving = NOW + 2 * SECOND
    moves.tick(at_rest([0.09, 0.0], moving), moving)
    later = moving + 950 * MS
    for stamp in range(later - 200 * MS, later + 1, 20 * MS):
        back = Measured(np.array([off, 0.0]), np.zeros(2), stamp, later - 200 * MS)
        moves.tick(back, stamp)
    planned = moves.update(replace(chunk(still), stamp=later - 50 * MS), back, later)
    np.testing.assert_allclose(planned.motion.sample(later)[0], [begins, 0.0], atol=1e-6)


def test_the_setpoint_holds_after_the_end_of_a_trajectory() -> None:
    """Gravity lets the arm sag; the next trajectory begins where the controller holds it."""
    loop = Loop(LIMITS, swing, starve_timeout=30.0).run(1.0)
    loop._seen = lambda positions, k: positions - np.array([0.06, 0.0])
    loop.run(2.0, chunks=False)
    loop._policy = lambda t: swing(1.9)
    loop.run(1.5).judge()


def test_a_first_chunk_that_is_rejected_leaves_the_arm_to_others() -> None:
    """Nothing was published, so there is no setpoint that the arm would have to follow."""
    moves = rested(LIMITS, wave()[5], reject_latch=100)
    assert moves.update(chunk(wave() + 1.0), at_rest(wave()[5]), NOW).reason == "limits"
    assert moves.executing is None
    for k in range(1, 100):
        moves.tick(at_rest(wave()[5] + 0.01 * k, NOW + k * 20 * MS), NOW + k * 20 * MS)
    assert not moves.enable.latched


def test_without_a_joint_state_nothing_starts() -> None:
    assert rested(LIMITS, [0, 0]).update(chunk(wave()), None, NOW).reason == "stale"
    refused = executor(LIMITS).update(chunk(wave()), at_rest(wave()[5]), NOW)
    assert refused.reason == "moving" and "1 joint states so far" in refused.detail


# Stopping ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("scales", [{"velocity_scale": 0.1}, {"acceleration_scale": 0.05}])
def test_live_scales_do_not_change_a_stop(scales: dict[str, float]) -> None:
    loop = Loop(LIMITS, swing).run(1.6)
    speed = np.abs(np.diff(loop.commands[-2:], axis=0)).max() / (PERIOD / SECOND)
    loop.executor.settings = replace(loop.executor.settings, **scales)
    loop.executor.enable.emergency_stop(True)
    loop.run(1.0)
    loop.judge()
    moving = np.abs(np.diff(np.array(loop.commands)[320:], axis=0)).max(axis=1) > 1e-9
    assert moving.sum() * PERIOD / SECOND < speed / 8.0 + LEAD / SECOND + 0.05


def test_live_scales_slow_the_arm_down_smoothly() -> None:
    loop = Loop(LIMITS, swing).run(1.6)
    loop.executor.settings = replace(
        loop.executor.settings, velocity_scale=0.2, acceleration_scale=0.3
    )
    loop.run(2.0).judge()


def test_an_emergency_stop_may_brake_harder() -> None:
    ends = []
    for scale in (1.0, 2.0):
        loop = Loop(LIMITS, swing, emergency_acceleration_scale=scale).run(1.6)
        loop.executor.enable.emergency_stop(True)
        ends.append(loop.executor.tick(loop.measured, loop.now).motion)
    speed = np.abs(ends[0].velocities).max()
    braking = [(np.abs(end.velocities).max(axis=1) > 0.01 * speed).sum() for end in ends]
    assert braking[1] < braking[0]


@pytest.mark.parametrize("soft", ["disabled", "starved"])
def test_an_emergency_stop_during_a_stop_brakes_harder(soft: str) -> None:
    """From the setpoint, without a step, and no stop after it is planned; a softer one never is."""

    def rests_after(scale: float) -> tuple[int, list[str]]:
        loop = Loop(LIMITS, swing, emergency_acceleration_scale=scale).run(0.9)
        if soft == "disabled":
            loop.executor.enable.disable("an operator")
        while not loop.stops:
            loop.run(0.02, chunks=False)
        begun = len(loop.commands)
        loop.run(0.06, chunks=False)
        assert len(loop.stops) == 1 and not loop.executor.rests(loop.now)
        loop.executor.enable.emergency_stop(True)
        loop.run(1.0, chunks=False)
        commands = np.array(loop.commands)
        accelerations = np.diff(commands, 2, axis=0) / (PERIOD / SECOND) ** 2
        assert (np.abs(accelerations) < 1.05 * max(scale, 1.0) * LIMITS.acceleration).all()
        moving = np.abs(np.diff(commands[begun:], axis=0)).max(axis=1) > 1e-9
        return int(np.flatnonzero(moving)[-1]), loop.stops

    (usual, one), (harder, two), (as_before, still_one) = map(rests_after, (1.0, 4.0, 0.5))
    assert harder < usual == as_before
    assert len(one) == len(still_one) == 1
    assert len(two) == 2 and two[1] == "the emergency stop"


def test_stops_once_when_motion_is_disabled() -> None:
    moves, here = rested(LIMITS, wave()[5]), at_rest(wave()[5])
    assert moves.update(chunk(wave()), here, NOW).trajectory is not None
    assert moves.tick(here, NOW + 20 * MS) is None
    moves.enable.emergency_stop(True)
    stopped = moves.tick(here, NOW + 40 * MS)
    assert stopped.stop_cause == "the emergency stop"
    assert len(stopped.trajectory.times) == 50 and not stopped.trajectory.velocities[-1].any()
    assert moves.tick(here, NOW + 60 * MS) is None


def test_stops_when_rejections_latch() -> None:
    moves, here = rested(LIMITS, wave()[5], reject_latch=2), at_rest(wave()[5])
    moves.update(chunk(wave()), here, NOW)
    for k in range(2):
        assert moves.tick(here, NOW + k) is None
        assert moves.update(chunk(wave() + 1.0), here, NOW + k).reason == "limits"
    assert "2 rejected chunks in a row" in moves.tick(here, NOW + 2).stop_cause


def test_rejections_latch_only_in_a_row_of_one_episode() -> None:
    moves, here = rested(LIMITS, wave()[5], reject_latch=3), at_rest(wave()[5])

    def reject(times: int) -> str:
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


def test_rejections_of_a_dry_run_do_not_latch() -> None:
    moves = executor(LIMITS, enabled=False, reject_latch=1)
    assert moves.update(chunk(wave() + 1.0), at_rest(wave()[5]), NOW).reason == "limits"
    assert moves.enable.enable(0.0) == ""


def test_stops_when_chunks_cease() -> None:
    moves, here = rested(LIMITS, wave()[5]), at_rest(wave()[5])
    moves.update(chunk(wave()), here, NOW)
    limit = round(moves.settings.starve_timeout * SECOND)
    assert moves.tick(here, NOW + limit) is None
    assert "no new trajectory" in moves.tick(None, NOW + limit + MS).stop_cause


def test_a_clock_that_jumped_leaves_nothing_to_stop() -> None:
    moves, here = rested(LIMITS, wave()[5]), at_rest(wave()[5])
    moves.update(chunk(wave()), here, NOW)
    moves.reset()
    moves.enable.disable("asked for")
    assert moves.tick(here, NOW + 20 * MS) is None


# Judging only -----------------------------------------------------------------------------------


def test_a_dry_run_judges_and_publishes_nothing() -> None:
    here = at_rest(wave()[5])
    moves = executor(LIMITS, enabled=False)
    planned = moves.update(chunk(wave() * 1.0), here, NOW)
    assert isinstance(planned, Plan) and planned.trajectory is None and planned.motion is not None
    refusal = moves.update(chunk(wave() + 1.0), here, NOW)
    assert isinstance(refusal, Refusal) and refusal.reason == "limits"
    assert moves.tick(here, NOW + SECOND) is None


def test_without_limits_nothing_is_planned() -> None:
    moves = executor(LIMITS)
    blind = Executor(LIMITS.names, None, moves.settings, moves.enable)
    assert blind.update(chunk(wave()), at_rest(wave()[5]), NOW) == Plan(None, None)
    assert blind.update(chunk(wave() * np.nan), None, NOW).reason == "nonfinite"
    assert blind.tick(None, NOW + SECOND) is None


def test_a_check_rejects_a_chunk_before_it_executes() -> None:
    moves = rested(LIMITS, wave()[5], reject_latch=1)
    moves._check = lambda motion: Refusal(Reason.LIMITS, f"{len(motion.times)} points collide")
    refused = moves.update(chunk(wave()), at_rest(wave()[5]), NOW)
    assert refused.detail == "50 points collide" and moves.enable.latched
    assert moves.executing is None or not moves.executing.velocities.any()


def test_a_recording_is_followed_from_its_midst() -> None:
    """The recorded arm hears nothing: it neither latches a fault nor must it rest."""
    moves = executor(LIMITS)
    moves = Executor(LIMITS.names, LIMITS, moves.settings, moves.enable, recorded=True)
    for k in range(30):
        now = NOW + k * 100 * MS
        recorded = Measured(np.array([0.5 * k * 0.1, 0.0]), np.array([0.5, 0.0]), now)
        away = recorded.positions + np.outer(0.02 * np.arange(1, 51), [-0.5, 0.3])
        wanted = ActionChunk(away.astype(np.float32), 0.02, now - 40 * MS, k, 0)
        planned = moves.update(wanted, recorded, now)
        assert isinstance(planned, Plan) and planned.trajectory is not None
        assert moves.tick(recorded, now + 20 * MS) is None
    assert not moves.enable.latched


# Sending ----------------------------------------------------------------------------------------


def moving(limits) -> Executor:
    moves = rested(limits, [0.0, 0.0])
    way = np.linspace(0.02, 0.8, 50)[:, None] * [1.0, 0.5]
    assert moves.update(chunk(way), at_rest([0.0, 0.0]), NOW).trajectory is not None
    return moves


def test_a_stop_that_was_not_sent_is_planned_again() -> None:
    moves = moving(limits_of(2))
    begun, later = moves.executing, NOW + 300 * MS
    moves.enable.disable("a test")
    assert moves.tick(None, later).stop_cause == "a test" and moves.tick(None, later) is None
    moves.unsent([0, 1])
    ahead = np.arange(later, later + SECOND, 10 * MS)
    as_begun = begun.sample_all(ahead)
    np.testing.assert_allclose(moves.executing.sample_all(ahead), as_begun, atol=1e-12)
    assert moves.tick(None, later + 20 * MS).stop_cause == "a test"


def test_a_stop_that_one_controller_did_not_get_is_planned_again_for_that_one() -> None:
    moves = moving(limits_of(2))
    begun, later = moves.executing, NOW + 300 * MS
    moves.enable.disable("a test")
    stop = moves.tick(None, later).motion
    moves.unsent([1])
    ahead = np.arange(later, later + SECOND, 10 * MS)
    (now, _), (as_begun, _), (as_stopped, _) = (
        motion.sample_all(ahead) for motion in (moves.executing, begun, stop)
    )
    np.testing.assert_allclose(now[:, 0], as_stopped[:, 0], atol=1e-12)
    np.testing.assert_allclose(now[:, 1], as_begun[:, 1], atol=1e-12)
    again = moves.tick(None, later + 20 * MS).motion.sample_all(ahead[10:])[0]
    np.testing.assert_allclose(again[:, 0], as_stopped[10:, 0], atol=1e-6)
    assert np.ptp(again[50:, 1]) == 0.0, "the other one stops, too"


def test_a_chunk_that_was_not_sent_leaves_what_executed() -> None:
    moves = moving(limits_of(2))
    begun, later = moves.executing, NOW + 100 * MS
    way = np.linspace(0.2, 0.1, 50)[:, None] * [1.0, 0.5]
    moves.update(replace(chunk(way), stamp=later - 50 * MS), at_rest([0.1, 0.05], later), later)
    moves.unsent([0, 1])
    ahead = np.arange(later, later + SECOND, 10 * MS)
    as_begun = begun.sample_all(ahead)
    np.testing.assert_allclose(moves.executing.sample_all(ahead), as_begun, atol=1e-12)
