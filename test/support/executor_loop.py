"""The executor in a closed loop with a controller and an arm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from pi0_ros.motion.enable import MotionEnable
from pi0_ros.motion.executor import Executor, MotionSettings
from pi0_ros.motion.limits import JointLimits
from pi0_ros.motion.planner import Plan
from pi0_ros.motion.refusal import Measured, Refusal
from pi0_ros.node.joint_evidence import JointEvidence
from pi0_ros.policy.types import ActionChunk
from support.controller import execute
from support.jtc import LEAD, MS, NOW, SECOND, at_rest, limits_of

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
