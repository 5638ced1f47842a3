"""An episode made of messages, without ROS."""

import numpy as np
import pytest

from benchmarks.simulated.shadow import Shadow, Tally
from pi0_ros.sim.points import Points
from pi0_ros.sim.stage import JOINTS

START = 5_000_000_000
STEP = 10_000_000
REST = np.zeros(6)


def states(shadow: Shadow, first: int, last: int) -> None:
    for step in range(first, last):
        shadow.state(START + step * STEP, REST, REST)


def to(position: float, stamp: int, seconds: float, names: tuple[str, ...] = JOINTS) -> Points:
    times = np.array([round(seconds * 1e9)])
    return Points(names, stamp, times, np.full((1, 6), position), np.zeros((1, 6)))


def test_commands_and_takeovers_are_those_of_the_controller() -> None:
    shadow = Shadow("from-desired", STEP)
    states(shadow, 0, 10)
    shadow.trajectory(to(0.5, START + 9 * STEP, 0.2))
    states(shadow, 10, 50)
    shadow.trajectory(to(0.7, 0, 0.1))
    states(shadow, 50, 70)
    shadow.touched = "red cube"
    shadow.inference.append(0.02)
    episode = shadow.episode(3, "touch the red cube", ("red cube",), Tally(), Tally())
    assert episode.success and episode.seed == 3
    assert episode.seconds == pytest.approx(0.69)
    assert episode.commands.shape == (70, 6)
    assert (episode.commands[:10] == 0).all()
    assert 0 < episode.commands[20, 0] < 0.5
    assert episode.commands[40, 0] == pytest.approx(0.5)
    assert episode.commands[-1, 5] == pytest.approx(0.7)
    np.testing.assert_allclose(episode.boundaries, [0.09, 0.29, 0.49, 0.59])
    assert episode.inference == (0.02,)
    assert (episode.published, episode.rejected) == (2, 0)


def test_what_the_controller_rejects_is_counted() -> None:
    shadow = Shadow("jazzy", STEP)
    shadow.trajectory(to(0.5, 0, 0.2))  # of before
    states(shadow, 0, 5)
    shadow.trajectory(to(0.5, 0, 0.2, ("elbow", *JOINTS[1:])))
    states(shadow, 5, 30)
    episode = shadow.episode(0, "touch the red cube", ("red cube",), Tally(), Tally())
    assert (episode.published, episode.rejected) == (0, 1)
    assert (episode.commands == 0).all() and not len(episode.boundaries)
    assert not episode.success and episode.touched is None


def test_counts_are_those_of_the_episode() -> None:
    before = Tally(10, 2, 1, {"stale": 3, "limits": 1}, {"velocity": 2})
    after = Tally(30, 4, 1, {"stale": 3, "limits": 2, "frozen": 1}, {"velocity": 2}, True)
    shadow = Shadow("jazzy", STEP)
    states(shadow, 0, 2)
    episode = shadow.episode(0, "touch the red cube", ("red cube",), before, after)
    assert (episode.ticks, episode.busy, episode.stops) == (20, 2, 0)
    assert episode.refused == {"limits": 1, "frozen": 1}
    assert episode.clamped == {}
    assert episode.latched


def test_counters_are_read_from_diagnostics() -> None:
    statuses = {
        "observations": {"ticks": "9", "busy": "1", "refused.stale": "2"},
        "limits": {"stops": "1", "latched": "", "clamped": "3", "clamped.velocity": "3"},
        "memory": {},
    }
    assert Tally.read(statuses) == Tally(9, 1, 1, {"stale": 2}, {"velocity": 3}, False)
    del statuses["observations"]["busy"]
    with pytest.raises(KeyError, match="busy"):
        Tally.read(statuses)
