"""Figures on commands made by hand."""

import re
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.simulated.rollout import PERIOD, Episode
from benchmarks.simulated.score import boundary_steps, jerk, score, table

EPISODE = Episode(
    seed=7,
    instruction="touch the red cube",
    targets=("red cube",),
    touched="red cube",
    seconds=2.0,
    start=np.zeros(2),
    commands=np.zeros((20, 2)),
    boundaries=np.array([0.05]),
    ticks=4,
    busy=1,
    published=2,
    stops=0,
    refused={"limits": 1},
    rejected=0,
    clamped={"velocity": 1},
    latched=False,
    inference=(0.01, 0.02, 0.03),
)


def along(positions: np.ndarray) -> np.ndarray:
    """[n, 2] commands: one joint moves, the other rests."""
    return np.stack([positions, np.zeros_like(positions)], axis=1)


def steps(commands: np.ndarray, *boundaries: float) -> tuple[list[float], list[float]]:
    position, velocity = boundary_steps(np.zeros(2), commands, np.array(boundaries))
    return position.tolist(), velocity.tolist()


def test_a_jump_is_a_step_in_position_alone() -> None:
    t = np.arange(20) * PERIOD
    position, velocity = steps(along(0.5 * t + 0.1 * (t >= 0.1 - 1e-9)), 0.1)
    assert position == pytest.approx([0.1])
    assert velocity == pytest.approx([0.0], abs=1e-9)


def test_a_kink_is_a_step_in_velocity() -> None:
    t = np.arange(20) * PERIOD
    corner = 0.095  # between two commands
    position, velocity = steps(along(np.where(t < corner, 1.0 * t, corner - 2 * (t - corner))), 0.1)
    assert velocity == pytest.approx([3.0])
    assert position == pytest.approx([0.0], abs=1e-9)


def test_steady_motion_has_no_step_and_acceleration_none_in_position() -> None:
    t = np.arange(20) * PERIOD
    assert steps(along(0.7 * t), 0.1)[0] == pytest.approx([0.0], abs=1e-12)
    assert steps(along(0.7 * t), 0.1)[1] == pytest.approx([0.0], abs=1e-9)
    position, velocity = steps(along(5 * t**2), 0.1)
    assert position == pytest.approx([0.0], abs=1e-12)
    assert velocity == pytest.approx([10.0 * 2 * PERIOD])


def test_a_jump_elsewhere_is_none_of_the_boundary() -> None:
    t = np.arange(20) * PERIOD
    commands = along(0.1 * (t >= 0.1 - 1e-9))
    assert steps(commands, 0.05) == ([0.0], [0.0])
    assert steps(commands, 0.05, 0.1)[0] == pytest.approx([0.0, 0.1])


def test_the_joint_that_steps_most_counts() -> None:
    commands = np.zeros((20, 2))
    commands[10:] = 0.1, -0.3
    assert steps(commands, 0.1)[0] == pytest.approx([0.3])


def test_a_first_command_elsewhere_than_the_arm_is_a_step() -> None:
    assert steps(along(np.full(20, 0.2)), 0.0)[0] == pytest.approx([0.2])


def test_a_boundary_with_nothing_after_it_is_left_out() -> None:
    assert steps(np.zeros((20, 2)), 0.19, 0.5) == ([], [])
    assert steps(np.zeros((20, 2)), 0.18) == ([0.0], [0.0])


def test_jerk_of_known_paths() -> None:
    t = np.arange(50) * PERIOD
    assert jerk([along(t**2)]) == pytest.approx(0.0, abs=1e-6)
    assert jerk([along(t**3)]) == pytest.approx(6 / np.sqrt(2))  # one of two joints
    assert jerk([along(t**3), along(0 * t)]) == pytest.approx(3.0)
    assert jerk([along(t[:3])]) is None


def test_successes_and_failures_are_told_apart() -> None:
    other = replace(EPISODE, seed=8, touched="red plate", seconds=1.0)
    none = replace(EPISODE, seed=9, touched=None, seconds=8.0, latched=True, stops=1)
    figures = score([EPISODE, other, none, replace(EPISODE, seconds=3.0)])
    assert figures.scenes == 4
    assert figures.success_rate == 0.5
    assert (figures.wrong_first, figures.untouched) == (1, 1)
    assert figures.failed_seeds == (8, 9)
    assert (figures.touch_s["p50"], figures.touch_s["max"]) == (2.5, 3.0)
    assert (figures.latched, figures.stops) == (1, 1)
    assert (figures.ticks, figures.busy_ticks) == (16, 4)
    assert (figures.chunks, figures.trajectories) == (12, 8)
    assert figures.refused == {"limits": 4}
    assert figures.clamped == {"velocity": 4}
    assert figures.latency_ms["p50"] == pytest.approx(20.0)
    assert figures.latency_ms["max"] == pytest.approx(30.0)


def test_the_largest_step_of_all_scenes_is_shown() -> None:
    commands = np.zeros((20, 2))
    commands[5:, 1] = 0.25
    figures = score([EPISODE, replace(EPISODE, commands=commands)])
    assert figures.boundary_step_rad["max"] == pytest.approx(0.25)
    assert figures.boundary_step_rad["p50"] == pytest.approx(0.125)
    assert "0.2500 rad" in table(figures)


def test_the_table_says_what_happened() -> None:
    text = table(score([EPISODE]))
    assert "100.0% of 1 scenes" in text
    assert "1 (limits 1)" in text
    assert "20.0 / 29.0 / 30.0 ms" in text
    nothing = replace(EPISODE, touched=None, refused={}, inference=(), boundaries=np.array([]))
    text = table(score([nothing]))
    assert "0.0% of 1 scenes" in text
    assert re.search(r"^inference, wall time, p50 / p95 / max +none", text, re.MULTILINE)


def test_nothing_to_judge_is_an_error() -> None:
    with pytest.raises(ValueError, match="no episodes"):
        score([])
