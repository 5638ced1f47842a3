"""Sampling a motion for a controller that holds one position until the next one comes."""

from __future__ import annotations

import numpy as np
import pytest

from pi0_ros.motion.sampling import Sampler
from pi0_ros.motion.spline import Motion

MS = 1_000_000
PERIOD = 10 * MS
VELOCITY = np.array([1.0, 2.0])
START = 1_800_000_000_000_000_000


def ramp(begin: int, seconds: float, first: float = 0.0, velocity: float = 0.8) -> Motion:
    """From rest up to `velocity`, on, and back to rest: 0.2 s each way, two joints."""
    times = begin + np.round(np.array([0.0, 0.2, seconds - 0.2, seconds]) * 1e9).astype(np.int64)
    way = first + velocity * np.array([0.0, 0.1, seconds - 0.3, seconds - 0.2])
    rates = velocity * np.array([0.0, 1.0, 1.0, 0.0])
    both = np.array([1.0, 0.5])
    return Motion(times, way[:, None] * both, rates[:, None] * both)


def drive(sampler: Sampler, times: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """(nanoseconds [n], positions [n, joints]) of what was commanded at the times."""
    found = [(time, sampler.sample(time)) for time in times]
    found = [(time, positions) for time, positions in found if positions is not None]
    return np.array([time for time, _ in found]), np.array([positions for _, positions in found])


def test_samples_on_time_are_the_motion_and_end_at_rest() -> None:
    motion = ramp(START, 1.0)
    sampler = Sampler(PERIOD, VELOCITY)
    assert sampler.at_rest and sampler.sample(START) is None
    sampler.follow(motion, START)
    # A timer is never exact.
    jitter = np.random.default_rng(0).integers(-3 * MS, 3 * MS, 200)
    times, commands = drive(sampler, [START + k * PERIOD + int(jitter[k]) for k in range(1, 200)])
    np.testing.assert_allclose(commands, motion.sample_all(times)[0], atol=1e-9)
    assert times[-2] < motion.end <= times[-1], "nothing after the first sample at rest"
    np.testing.assert_array_equal(commands[-1], motion.positions[-1])
    assert sampler.at_rest and sampler.late == 0


def test_nothing_is_sampled_of_a_tail_that_holds_the_last_position() -> None:
    """Trajectories have as many points as chunks; a stop is at rest long before its last one."""
    motion = ramp(START, 1.0)
    tail = motion.end + np.arange(1, 50) * 20 * MS
    end = motion.positions[-1:].repeat(49, axis=0)
    longer = Motion(
        np.concatenate([motion.times, tail]),
        np.concatenate([motion.positions, end]),
        np.concatenate([motion.velocities, np.zeros_like(end)]),
    )
    sampler = Sampler(PERIOD, VELOCITY)
    sampler.follow(longer, START)
    times, commands = drive(sampler, list(range(START + PERIOD, START + 2000 * MS, PERIOD)))
    assert times[-1] == motion.end and sampler.at_rest
    np.testing.assert_array_equal(commands[-1], motion.positions[-1])


def test_making_up_at_the_velocity_limit_makes_no_jolt() -> None:
    motion = ramp(START, 3.0, velocity=1.0)
    sampler = Sampler(PERIOD, VELOCITY)
    sampler.follow(motion, START)
    times = [*range(START + PERIOD, START + 1000 * MS, PERIOD)]
    times += range(START + 1080 * MS, START + 3300 * MS, PERIOD)
    stamps, commands = drive(sampler, times)
    speeds = np.diff(commands[:, 0]) / (np.diff(stamps) / 1e9)
    after = speeds[stamps[1:] > START + 1100 * MS]
    assert after.max() <= 1.006
    assert np.abs(np.diff(after)).max() / 0.01 <= 5.0 * 1.05


def test_a_new_motion_is_followed_from_where_it_departs() -> None:
    old = ramp(START, 2.0)
    at = START + 1000 * MS
    position, velocity = old.sample(at)
    stop = Motion(
        np.array([at, at + 200 * MS]),
        np.array([position, position + velocity * 0.1]),
        np.array([velocity, [0.0, 0.0]]),
    )
    sampler = Sampler(PERIOD, VELOCITY)
    sampler.follow(old, START)
    times, commands = drive(sampler, list(range(START, at + 5 * MS, PERIOD)))
    sampler.follow(stop, at + 1 * MS)
    later, rest = drive(sampler, list(range(at + PERIOD, at + 400 * MS, PERIOD)))
    np.testing.assert_allclose(rest, stop.sample_all(later)[0], atol=1e-9)
    steps = np.abs(np.diff(np.concatenate([commands, rest]), axis=0))
    passed = np.diff(np.concatenate([times, later]))[:, None] / 1e9
    assert (steps <= VELOCITY * passed).all()
    assert sampler.at_rest


@pytest.mark.parametrize("gap", [80 * MS, 400 * MS, 5_000 * MS])
def test_lost_ticks_delay_the_motion_and_make_no_step(gap: int) -> None:
    """By as much as lies beyond five periods; the delay is made up for slowly."""
    motion = ramp(START, 3.0)
    sampler = Sampler(PERIOD, VELOCITY)
    sampler.follow(motion, START)
    lost = START + 1000 * MS
    times = [*range(START + PERIOD, lost + 1, PERIOD)]
    times += range(lost + gap, lost + gap + 4000 * MS, PERIOD)
    stamps, commands = drive(sampler, times)
    steps = np.abs(np.diff(commands, axis=0)).max(axis=0)
    assert (steps <= np.array([0.8, 0.4]) * 0.05 * 1.01).all(), steps
    assert sampler.late == 1 and sampler.at_rest
    np.testing.assert_array_equal(commands[-1], motion.positions[-1])
    # What it makes up for in the rest of the time is half a percent of it.
    behind = (gap - 50 * MS) / 1e9
    late = (stamps[-1] - motion.end) / 1e9
    assert behind - 0.03 < late <= behind + 0.01


def test_a_delay_is_made_up_for() -> None:
    motion = ramp(START, 30.0, velocity=0.1)
    sampler = Sampler(PERIOD, VELOCITY)
    sampler.follow(motion, START)
    drive(sampler, [START + 500 * MS, *range(START + 600 * MS, START + 1000 * MS, PERIOD)])
    assert 0.4 < sampler.delay < 0.5
    drive(sampler, list(range(START + 1000 * MS, START + 28_000 * MS, PERIOD)))
    assert sampler.late == 2 and 0.3 < sampler.delay < 0.4


def test_a_clock_that_goes_back_does_not_move_the_arm_back() -> None:
    motion = ramp(START, 1.0)
    sampler = Sampler(PERIOD, VELOCITY)
    sampler.follow(motion, START)
    back = 100_000 * MS
    times = [*range(START + PERIOD, START + 500 * MS, PERIOD)]
    times += range(START + 500 * MS - back, START + 1200 * MS - back, PERIOD)
    _, commands = drive(sampler, times)
    steps = np.diff(commands[:, 0])
    assert (steps >= 0).all() and steps.max() <= 0.8 * 0.01 + 1e-9
    np.testing.assert_array_equal(commands[-1], motion.positions[-1])


def test_a_clock_that_stands_still_gives_no_sample() -> None:
    sampler = Sampler(PERIOD, VELOCITY)
    sampler.follow(ramp(START, 1.0), START)
    assert sampler.sample(START + PERIOD) is not None
    assert sampler.sample(START + PERIOD) is None
    assert not sampler.at_rest


def test_the_velocity_limit_holds_where_the_motion_no_longer_remembers() -> None:
    """A node that was suspended for minutes goes on with a motion planned afterwards."""
    sampler = Sampler(PERIOD, VELOCITY)
    sampler.follow(ramp(START, 1.0), START)
    _, first = drive(sampler, list(range(START + PERIOD, START + 500 * MS, PERIOD)))
    later = START + 120_000 * MS
    end = ramp(START, 1.0).positions[-1]
    rest = Motion(np.array([later, later + 100 * MS]), np.array([end, end]), np.zeros((2, 2)))
    sampler.follow(rest, later)
    _, commands = drive(sampler, list(range(later, later + 3000 * MS, PERIOD)))
    steps = np.abs(np.diff(np.concatenate([first[-1:], commands]), axis=0))
    assert (steps <= VELOCITY * 0.0504).all()
    np.testing.assert_array_equal(commands[-1], end)
    assert sampler.at_rest
