"""The closed loop of a controller that forwards positions, judged by every sample's own time."""

from __future__ import annotations

import numpy as np
import pytest
from support.harness import configure

from pi0_ros.motion.enable import MotionEnable
from pi0_ros.motion.executor import Executor, MotionSettings
from pi0_ros.motion.limits import JointLimits
from pi0_ros.motion.refusal import Measured, Refusal
from pi0_ros.motion.sampling import Sampler
from pi0_ros.policy.types import ActionChunk

MS = 1_000_000
PERIOD = 10 * MS
START = 1_800_000_000_000_000_000
JOINTS = ("pan", "lift", "gripper")
VELOCITY, ACCELERATION = np.array([1.0, 1.5, 2.0]), np.array([5.0, 8.0, 20.0])
LIMITS = JointLimits(JOINTS, np.full(3, -2.5), np.full(3, 2.5), VELOCITY, ACCELERATION)
DT = 0.02


class Loop:
    """Executor, sampler and an ideal arm; the sampler's timer is as good as `ticks` say."""

    def __init__(self, rng: np.random.Generator, **changes: object) -> None:
        self.rng = rng
        self.enable = MotionEnable()
        self.enable.enable(0.0)
        parameters = configure(max_jump=2.0, clamp_velocity=100.0, **changes)
        self.executor = Executor(JOINTS, LIMITS, MotionSettings.of(parameters), self.enable)
        self.sampler = Sampler(PERIOD, VELOCITY)
        self.position = rng.uniform(-1.0, 1.0, 3)
        self.goal = self.position.copy()
        self.sequence = self.stops = 0
        self.samples: list[tuple[int, np.ndarray]] = []

    def run(self, seconds: float, ticks: np.ndarray) -> None:
        """Joint states and looks every 10 ms, chunks every 100 ms, samples at `ticks` (ns)."""
        end = START + round(seconds * 1e9)
        events = [(time, 2) for time in range(START, end, PERIOD)]
        events += [(time + 3 * MS, 1) for time in range(START + 500 * MS, end, 100 * MS)]
        events += [(int(time), 0) for time in ticks]
        for now, what in sorted(events):
            if what == 0:
                self._sample(now)
            elif what == 1:
                self._chunk(now)
            else:
                self._follow(self.executor.tick(self._measured(now), now), now)

    def _measured(self, now: int) -> Measured:
        return Measured(self.position.copy(), np.zeros(3), now)

    def _sample(self, now: int) -> None:
        command = self.sampler.sample(now)
        if command is not None:
            self.position = command
            self.samples.append((now, command))

    def _chunk(self, now: int) -> None:
        """A policy that wanders off from what it sees."""
        self.goal = np.clip(self.position + self.rng.normal(0.0, 0.4, 3), -2.4, 2.4)
        way = np.linspace(0.0, 1.0, 51)[1:, None] * (self.goal - self.position)
        chunk = ActionChunk(
            (self.position + way).astype(np.float32), DT, now - 40 * MS, self.sequence, 0, {}
        )
        self.sequence += 1
        result = self.executor.update(chunk, self._measured(now), now)
        if not isinstance(result, Refusal):
            self._follow(result, now)

    def _follow(self, planned: object, now: int) -> None:
        if planned is not None and planned.trajectory is not None:
            self.stops += bool(planned.stop_cause)
            self.sampler.follow(planned.motion, now)

    def judge(self) -> tuple[float, float]:
        """Largest share of the velocity limit, and of the acceleration limit between two steps."""
        times = np.array([time for time, _ in self.samples]) / 1e9
        positions = np.array([position for _, position in self.samples])
        assert (np.abs(positions) <= 2.5 + 1e-6).all()
        passed = np.diff(times - times[0])[:, None]
        speeds = np.diff(positions, axis=0) / passed
        middles = (passed[1:] + passed[:-1]) / 2
        hardest = np.abs(np.diff(speeds, axis=0)) / middles / ACCELERATION
        return float((np.abs(speeds) / VELOCITY).max()), float(hardest.max())


def ticks(seconds: float, jitter: int, rng: np.random.Generator) -> np.ndarray:
    regular = np.arange(START + 5 * MS, START + round(seconds * 1e9), PERIOD)
    return np.unique(regular + rng.integers(-jitter, jitter + 1, len(regular)))


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("jitter", [0, 3 * MS])
def test_limits_hold(seed: int, jitter: int) -> None:
    rng = np.random.default_rng(seed)
    loop = Loop(rng)
    loop.run(4.0, ticks(4.0, jitter, rng))
    assert loop.executor.enable.latched == "" and len(loop.samples) > 300
    fastest, hardest = loop.judge()
    assert fastest <= 1.05 and hardest <= 1.05


@pytest.mark.parametrize("seed", range(10))
def test_a_stop_is_within_the_limits_too(seed: int) -> None:
    rng = np.random.default_rng(seed)
    loop = Loop(rng)
    times = ticks(4.0, 3 * MS, rng)
    before, after = times[times < START + 2000 * MS], times[times >= START + 2000 * MS]
    loop.run(2.0, before)
    loop.enable.latch("the emergency stop")
    for now in sorted([*after, *range(START + 2000 * MS, START + 4000 * MS, PERIOD)]):
        if now in after:
            loop._sample(int(now))
        else:
            loop._follow(loop.executor.tick(loop._measured(int(now)), int(now)), int(now))
    assert loop.stops == 1 and loop.sampler.at_rest
    fastest, hardest = loop.judge()
    assert fastest <= 1.05 and hardest <= 1.05


@pytest.mark.parametrize("gap", [60 * MS, 120 * MS, 200 * MS])
@pytest.mark.parametrize("seed", range(5))
def test_lost_ticks_are_no_fault_of_the_arm(seed: int, gap: int) -> None:
    """The command stands still meanwhile, goes on without a step, and the arm still follows."""
    rng = np.random.default_rng(seed)
    loop = Loop(rng)
    times = ticks(4.0, 3 * MS, rng)
    lost = START + 2000 * MS
    loop.run(4.0, times[(times < lost) | (times > lost + gap)])
    assert loop.executor.enable.latched == ""
    assert loop.sampler.late == (gap > 5 * PERIOD)
    fastest, _ = loop.judge()
    assert fastest <= 1.05
    steps = np.abs(np.diff([position for _, position in loop.samples], axis=0))
    assert (steps <= VELOCITY * 0.05 * 1.05).all()
