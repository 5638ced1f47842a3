"""~/preview/joint_states: the ghost that plays the newest chunk, or stands at one step of it."""

import numpy as np
import pytest
from support.arm_urdf import arm_urdf
from support.harness import DT, HORIZON
from support.looker import Looker
from support.waiting import wait_until

pytest.importorskip("rclpy")
pytest.importorskip("pinocchio")

CHUNK = np.array([0.1, 0.2, 0.3]) + 0.01 * np.outer(np.arange(1, HORIZON + 1), [1, 2, 3])


@pytest.fixture
def looker(start, tmp_path) -> Looker:
    path = tmp_path / "arm.urdf"
    path.write_text(arm_urdf())
    looker = Looker(start(robot_description_file=str(path)), "preview/joint_states")
    looker.robot.chunk()
    wait_until(lambda: looker.ghosts, "the ghost")
    return looker


def set_step(looker: Looker, step: int):
    from rclpy.parameter import Parameter

    (result,) = looker.robot.node.set_parameters([Parameter("preview_step", value=step)])
    return result


def steps_of(looker: Looker) -> np.ndarray:
    """Rows of the chunk at which the ghosts stood."""
    rows = np.array([ghost.position[:3] for ghost in looker.ghosts])
    distances = np.abs(rows[:, None] - CHUNK[None]).max(axis=2)
    assert distances.min(axis=1).max() < 1e-6, "every pose is a step of the chunk"
    return distances.argmin(axis=1)


def test_it_plays_the_chunk_in_a_loop(looker):
    ghost = looker.ghosts[0]
    assert ghost.name == ["pan", "lift", "gripper", "wheel"], "every joint that moves"
    assert ghost.position[3] == 0.0
    assert ghost.header.stamp.sec * 10**9 + ghost.header.stamp.nanosec == looker.robot.now

    def round_and_round():
        steps = steps_of(looker)
        return (np.diff(steps) < 0).sum() >= 2

    wait_until(round_and_round, "two rounds")
    steps = steps_of(looker)
    assert steps.max() == HORIZON - 1, "to the end"
    forward = np.diff(steps)[np.diff(steps) > 0]
    assert np.median(forward) <= 5, f"in the chunk's own time, {DT} s a step"


def test_it_stands_at_a_step(looker):
    assert set_step(looker, 30).successful
    for step, row in ((30, 30), (0, 0), (1000, HORIZON - 1)):
        assert set_step(looker, step).successful
        looker.ghosts.clear()
        wait_until(lambda: len(looker.ghosts) > 5, "ghosts")
        assert set(steps_of(looker)[2:]) == {row}
    assert not set_step(looker, -2).successful
    assert set_step(looker, -1).successful
    looker.ghosts.clear()
    wait_until(lambda: len(set(steps_of(looker))) > 5 if looker.ghosts else False, "playing again")
