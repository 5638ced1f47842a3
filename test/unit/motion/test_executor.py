"""The executor in a closed loop: its trajectories, a controller, an arm, and what goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from support.controller import execute
from support.jtc import LEAD, MS, NOW, SECOND, at_rest, chunk, limits_of, wave

from pi0_ros.motion.enable import MotionEnable
from pi0_ros.motion.evidence import JointEvidence
from pi0_ros.motion.executor import Executor, MotionSettings
from pi0_ros.motion.limits import JointLimits
from pi0_ros.motion.planner import Plan
from pi0_ros.motion.refusal import Measured, Reason, Refusal
from pi0_ros.policy.types import ActionChunk

PERIOD = 5 * MS
SETTINGS = MotionSettings(
    velocity_scale=1.0,
    acceleration_scale=1.0,
    max_jump=0.6,
    clamp_position=0.05,
    clamp_velocity=1.5,
    clamp_acceleration=20.0,
    reject_latch=3,
    blend=0.1,
    starve_timeout=0.35,
    controller="jtc",
    splice_lead=LEAD / SECOND,
    tracking_tolerance=0.1,
    tracking_lag=0.25,
    tracking_timeout=0.3,
    untracked_joints=(),
    emergency_acceleration_scale=1.0,
)


def executor(limits: JointLimits, enabled: bool = True, **changes: object) -> Executor:
    enable = MotionEnable()
    if enabled:
        enable.enable(0.0)
    return Executor(limits.names, limits, replace(SETTINGS, **changes), enable)


def rested(limits: JointLimits, here, **changes: object) -> Executor:
    """An enabled executor that has seen the arm at rest up to NOW."""
    moves = executor(limits, **changes)
    for stamp in range(NOW - 200 * MS, NOW + 1, 20 * MS):
        assert moves.tick(at_rest(here, stamp), stamp) is None
    return moves


class Loop:
    """An executor that is asked every 20 ms, a controller at 200 Hz, and an arm behind it.

    Attributes:
        commands: [cycles, joints] radians, one every PERIOD from the beginning.
        stops: causes of the stops.
        refusals: reasons of chunks that led to nothing.
    """

    def __init__(
        self,
        limits: JointLimits,
        policy: Callable[[float], np.ndarray],
        *,
        lag: float = 0.0,
        age: float = 0.06,
        seen: Callable[[np.ndarray, int], np.ndarray] | None = None,
        deaf: bool = False,
        **changes: object,
    ) -> None:
        """
        Args:
            policy: seconds -> [joints] radians; the chunk's steps at its times.
            lag: seconds of the arm behind the command, of first order.
            age: seconds from the observation to the chunk.
            seen: what is measured of the true positions, in a cycle.
            deaf: no trajectory arrives.
        """
        self.limits, self._policy, self._lag, self._age = limits, policy, lag, round(age * SECOND)
        self._seen, self._deaf = seen or (lambda positions, k: positions), deaf
        self.executor = executor(limits, **changes)
        self.evidence = JointEvidence(limits.names, limits)
        self.command = self.arm = np.asarray(policy(0.0), dtype=np.float64)
        self.commands: list[np.ndarray] = []
        self.stops: list[str] = []
        self.refusals: list[str] = []
        self._heard: tuple | None = None
        self.measured: Measured | None = None
        self._k = 0

    @property
    def now(self) -> int:
        return NOW + self._k * PERIOD

    def run(self, seconds: float, chunks: bool = True) -> Loop:
        """Chunks at 10 Hz, ticks and joint states at 50 and 200 Hz."""
        for _ in range(round(seconds * SECOND / PERIOD)):
            self._cycle(chunks)
        return self

    def _cycle(self, chunks: bool) -> None:
        now, k = self.now, self._k
        positions = self.evidence.put(self._seen(self.arm, k), now)
        if positions is not None:
            fault = self.evidence
            self.measured = Measured(
                positions, np.zeros_like(positions), now, 0, fault.jumps, fault.fault
            )
        if k % 4 == 0:
            self._publish(self.executor.tick(self.measured, now))
        if chunks and k % 20 == 10:
            observed = now - self._age
            steps = (observed - NOW) / 1e9 + 0.02 * np.arange(1, 51)
            wanted = np.array([self._policy(t) for t in steps], np.float32)
            self._publish(
                self.executor.update(ActionChunk(wanted, 0.02, observed, 0, 0), self.measured, now)
            )
            self._publish(self.executor.tick(self.measured, now))
        if self._heard is not None:
            times, positions, velocities = self._heard
            self.command = execute(times, positions, velocities, np.array([now]))[0][0]
        self.commands.append(self.command)
        share = 1 - np.exp(-PERIOD / SECOND / self._lag) if self._lag else 1.0
        self.arm = self.arm + share * (self.command - self.arm)
        self._k += 1

    def _publish(self, result: Plan | Refusal | None) -> None:
        if isinstance(result, Refusal):
            self.refusals.append(str(result.reason))
        elif result is not None and result.trajectory is not None:
            trajectory = result.trajectory
            if result.stop_cause:
                self.stops.append(result.stop_cause)
            if not self._deaf:
                times = trajectory.stamp + np.array(trajectory.times)
                assert times[0] <= self.now
                self._heard = times, trajectory.positions, trajectory.velocities

    def judge(self, noise: float = 0.0) -> None:
        """No step and no acceleration beyond the limits in any cycle; `noise` at the first one."""
        h = PERIOD / SECOND
        commands = np.array(self.commands)
        steps = np.diff(commands, axis=0)
        begun = np.flatnonzero((np.abs(steps).max(axis=1) == 0)[:-1] & steps[1:].any(axis=1)) + 1
        if noise and len(begun):
            assert np.abs(steps[begun[0]]).max() <= noise
            steps = steps[begun[0] + 1 :]
        assert (np.abs(steps) <= self.limits.velocity * h * 1.001 + 1e-9).all(), "a step"
        change = np.abs(np.diff(steps, axis=0)) / h**2
        assert (change <= self.limits.acceleration * 1.05 + 1e-6).all(), change.max(axis=0)


LIMITS = limits_of(2, velocity=2.0, acceleration=8.0, lower=-3, upper=3)


def swing(t: float) -> np.ndarray:
    """Up to 1.5 rad/s, from rest."""
    return np.array([1.0 - np.cos(1.5 * t), 0.5 * np.sin(0.8 * t) ** 2]) if t > 0 else np.zeros(2)


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
