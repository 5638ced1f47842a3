"""The executor with an arm that lags, is stuck or is moved by others; wrong joint states."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.executor_loop import LIMITS, PERIOD, Loop, swing
from support.jtc import SECOND

from pi0_ros.motion.refusal import Measured

# A lagging arm ----------------------------------------------------------------------------------


@pytest.mark.parametrize("lag", [0.0, 0.02, 0.08, 0.12])
def test_an_arm_that_lags_changes_nothing(lag: float) -> None:
    loop = Loop(LIMITS, swing, lag=lag).run(5.0)
    loop.judge()
    assert not loop.stops and not loop.executor.enable.latched
    assert np.ptp(np.array(loop.commands)[:, 0]) > 1.5
    assert abs(loop.executor.following.lag - lag) <= 0.02
    ideal = Loop(LIMITS, swing).run(5.0)
    np.testing.assert_allclose(loop.commands, ideal.commands, atol=1e-9)


def test_a_stop_of_a_lagging_arm_begins_at_the_setpoint() -> None:
    loop = Loop(LIMITS, swing, lag=0.08).run(1.6)
    assert np.abs(np.diff(loop.commands[-2:], axis=0)).max() / (PERIOD / SECOND) > 0.8, "it moves"
    loop.executor.enable.emergency_stop(True)
    loop.run(1.0, chunks=False)
    loop.judge()
    assert loop.stops == ["the emergency stop"]


def test_old_joint_states_move_no_setpoint() -> None:
    """A joint at full speed that follows perfectly was measured elsewhere 0.19 s ago."""
    loop = Loop(LIMITS, swing)
    history: list[np.ndarray] = []

    def late(positions: np.ndarray, k: int) -> np.ndarray:
        history.append(positions)
        return history[max(0, k - 38)]

    loop._seen = late
    loop.run(5.0).judge()
    assert not loop.executor.enable.latched


def test_joint_states_that_just_began_count_as_any() -> None:
    loop = Loop(LIMITS, swing, lag=0.05).run(1.2)
    loop.measured = replace(loop.measured, since=loop.now)
    loop.run(1.0).judge()


# Wrong joint states -----------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [[0.0, 0.0], [-2.5, 0.3], [1.0 - 2 * np.pi, 0.2], [1.2, 9.0]])
@pytest.mark.parametrize("stop", [True, False])
def test_one_wrong_joint_state(wrong: list[float], stop: bool) -> None:
    """A failed bus read, an encoder that wraps: at that very moment a stop, or a chunk."""
    loop = Loop(LIMITS, swing, lag=0.03).run(1.5)
    glitch = loop._k

    loop._seen = lambda positions, k: np.array(wrong) if k == glitch else positions
    loop.run(PERIOD / SECOND)
    if stop:
        loop.executor.enable.emergency_stop(True)
        loop._publish(loop.executor.tick(loop.measured, loop.now))
        assert loop.stops
    loop.run(1.5)
    loop.judge()
    assert loop.executor.enable.latched == ("the emergency stop" if stop else "")
    assert loop.evidence.dropped == 1


def test_a_wrong_joint_state_that_passes_the_filter_moves_nothing() -> None:
    """Every source of joint states may be wrong; the executor alone keeps the command smooth."""
    loop = Loop(LIMITS, swing).run(1.5)
    wrong = Measured(np.array([-2.0, 1.0]), np.array([-300.0, 0.0]), loop.now)
    loop._publish(loop.executor.tick(wrong, loop.now))
    loop.executor.enable.disable("asked for")
    loop._publish(loop.executor.tick(wrong, loop.now))
    loop.run(1.0)
    loop.judge()
    assert loop.stops == ["asked for"]


def test_a_joint_state_that_jumps_and_stays_latches() -> None:
    loop = Loop(LIMITS, swing).run(1.5)
    loop._seen = lambda positions, k: positions + np.array([0.0, 1.0])
    loop.run(1.0)
    loop.judge()
    assert "the joint state jumped" in loop.executor.enable.latched
    assert len(loop.stops) == 1


def test_a_continuous_joint_that_wraps() -> None:
    limits = replace(LIMITS, lower=np.full(2, -np.inf), upper=np.full(2, np.inf))

    def turn(t: float) -> np.ndarray:
        angle = 1.2 * max(t - 0.5, 0.0) ** 2 / (1 + max(t - 0.5, 0.0)) + 2.5
        return np.array([(angle + np.pi) % (2 * np.pi) - np.pi, 0.0])

    loop = Loop(limits, turn, seen=lambda p, k: (p + np.pi) % (2 * np.pi) - np.pi, max_jump=1.0)
    loop.run(8.0).judge()
    assert np.ptp(np.array(loop.commands)[:, 0]) > 6, "more than a turn"
    assert not loop.executor.enable.latched and loop.evidence.dropped == 0


@pytest.mark.parametrize("seed", range(3))
def test_noise_makes_no_step(seed: int) -> None:
    rng = np.random.default_rng(seed)
    late = lambda t: swing(t - 1.5)  # noqa: E731
    loop = Loop(LIMITS, late, seen=lambda p, k: p + rng.normal(0, 0.01, 2)).run(6.0)
    loop.judge(noise=0.006)
    assert not loop.executor.enable.latched and np.ptp(np.array(loop.commands)[:, 0]) > 1.5


# An arm that does not follow --------------------------------------------------------------------


def test_an_arm_that_does_not_move_is_told_within_a_second() -> None:
    loop = Loop(LIMITS, lambda t: np.array([0.8, 0.2]) * t, deaf=True)
    began = None
    while not loop.executor.enable.latched and loop._k < 1000:
        loop.run(PERIOD / SECOND)
        if began is None and loop.executor.executing is not None:
            began = loop.now
    assert (loop.now - began) / SECOND < 1.0
    assert "joint joint_0 does not follow" in loop.executor.enable.latched
    loop.run(0.1)
    assert len(loop.stops) == 1


def test_a_stuck_joint_brakes_all_from_the_setpoint() -> None:
    loop = Loop(LIMITS, swing, lag=0.03).run(1.2)
    stuck = loop.arm[0]
    loop._seen = lambda positions, k: np.array([stuck, positions[1]])
    loop.run(2.0)
    loop.judge()
    latched = loop.executor.enable.latched
    assert "joint joint_0 does not follow" in latched and "it lagged by 0." in latched


def test_a_joint_that_is_stuck_where_its_setpoint_swings_by() -> None:
    loop = Loop(LIMITS, lambda t: np.array([0.33 * np.sin(5 * t) * min(t, 1), 0.0]), max_jump=3.0)
    loop.run(2.0)
    assert not loop.executor.enable.latched
    loop._seen = lambda positions, k: np.array([0.05, positions[1]])
    loop.evidence.clear()
    loop.run(4.0)
    loop.judge()
    assert "does not follow" in loop.executor.enable.latched


def test_an_untracked_joint_may_be_anywhere() -> None:
    loop = Loop(LIMITS, swing, untracked_joints=("joint_0",), max_jump=3.0).run(1.2)
    held = loop.arm[0]
    loop._seen = lambda positions, k: np.array([held, positions[1]])
    loop.run(2.0).judge()
    assert not loop.executor.enable.latched


def test_after_such_a_fault_it_begins_where_the_arm_rests() -> None:
    loop = Loop(LIMITS, lambda t: np.array([0.8, 0.2]) * t, deaf=True).run(3.0)
    assert loop.executor.enable.latched
    loop._policy = lambda t: np.zeros(2)
    loop._deaf = False
    loop.executor.enable.reset()
    loop.executor.enable.enable(0.0)
    loop.run(2.0).judge()
    assert not loop.executor.enable.latched
    np.testing.assert_allclose(loop.command, 0.0, atol=1e-6)


def test_a_disabled_arm_may_be_moved_by_others() -> None:
    loop = Loop(LIMITS, swing).run(1.5)
    loop.executor.enable.disable("asked for")
    loop.run(1.0)
    loop._heard = None
    loop.arm = loop.command = np.array([-1.0, 1.0])
    loop.evidence.clear()
    loop._policy = lambda t: np.array([-1.0, 1.0])
    del loop.commands[:]
    loop.run(1.0)
    assert not loop.executor.enable.latched
    loop.executor.enable.enable(0.0)
    loop.run(1.0).judge()
    np.testing.assert_allclose(loop.command, [-1.0, 1.0], atol=1e-6)
