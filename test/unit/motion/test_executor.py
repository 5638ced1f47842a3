"""Whether the arm follows what was published, as far as joint states tell."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy")

from support.jtc import BANDS, MS, NOW, SECOND, limits_of

from pi0_ros.motion.executor import ACQUAINTANCE, LAG, NEAR, Mover
from pi0_ros.node.joint_states import JointHistory, Sample
from pi0_ros.policy.types import ActionChunk

START, SPEED, DT = 0.1, 0.8, 0.02
PERIOD = 40 * MS


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
        node = SimpleNamespace(
            now=lambda: self.now,
            limits=limits_of(1, velocity=2.0, acceleration=20.0),
            gate=SimpleNamespace(enabled=True, passed=lambda: None),
            counts=SimpleNamespace(clamped=Counter(), trajectories=0),
            trajectories=SimpleNamespace(publish=self._hear),
            parameters=SimpleNamespace(
                joint_names=["joint"],
                joint_states_max_age=0.2,
                velocity_scale=1.0,
                acceleration_scale=1.0,
                **vars(BANDS),
                trajectory_start="observation",
                blend=0.1,
            ),
        )
        self._mover = Mover(node, SimpleNamespace(measured=lambda now: self._history.newest()))

    def _hear(self, message) -> None:
        begin = message.header.stamp.sec * SECOND + message.header.stamp.nanosec
        times = np.array(
            [p.time_from_start.sec * SECOND + p.time_from_start.nanosec for p in message.points]
        )
        positions = np.array([p.positions[0] for p in message.points])
        self.begins.append(abs(positions[0] - self._history.at(begin + int(times[0]))[0][0]))
        if self._lag is not None:
            self._paths.append((self.now, begin + times, positions))

    def _at(self, time: int) -> float:
        heard = [path for path in self._paths if path[0] <= time - self._lag] if self._lag else []
        return np.interp(time - self._lag, *heard[-1][1:]) if heard else START

    def run(self, seconds: float) -> Arm:
        """A policy that wants to move steadily from where it sees the joint."""
        for _ in range(round(seconds * SECOND / PERIOD)):
            seen = self._history.newest()
            way = SPEED * DT * np.arange(1, 51, dtype=np.float32)[:, None]
            self._mover.move(
                ActionChunk(
                    positions=seen.positions.astype(np.float32) + way,
                    dt=DT,
                    stamp=seen.stamp,
                    sequence=0,
                    seed=0,
                    stage_times={},
                )
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
