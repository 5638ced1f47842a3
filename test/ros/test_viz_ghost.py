"""~/preview/joint_states: the ghost plays the newest chunk, or stands at one of its steps."""

from collections.abc import Iterator

import numpy as np
import pytest
from support.domains import free_domain
from support.harness import DT, HORIZON
from support.viewer import CHUNK, Viewer
from support.waiting import wait_until

pytest.importorskip("rclpy")
pytest.importorskip("pinocchio")


@pytest.fixture
def viewer() -> Iterator[Viewer]:
    viewer = Viewer(free_domain(), "preview/joint_states")
    viewer.chunk()
    wait_until(lambda: viewer.ghosts, "the ghost")
    yield viewer
    viewer.close()


def set_step(viewer: Viewer, step: int):
    from rclpy.parameter import Parameter

    (result,) = viewer.node.set_parameters([Parameter("preview_step", value=step)])
    return result


def steps_of(viewer: Viewer) -> np.ndarray:
    """Rows of the chunk at which the ghosts stood."""
    rows = np.array([ghost.position[:3] for ghost in viewer.ghosts])
    distances = np.abs(rows[:, None] - CHUNK[None]).max(axis=2)
    assert distances.min(axis=1).max() < 1e-6, "every pose is a step of the chunk"
    return distances.argmin(axis=1)


def test_it_plays_the_chunk_in_a_loop(viewer):
    ghost = viewer.ghosts[0]
    assert ghost.name == ["pan", "lift", "gripper", "wheel"], "every joint that moves"
    assert ghost.position[3] == 0.0
    assert ghost.header.stamp.sec * 10**9 + ghost.header.stamp.nanosec == viewer.now

    def played_twice():
        """A late timer leaves steps out, on a busy machine; one on time shows the pace."""
        steps = steps_of(viewer)
        passed = np.diff(steps)
        on_time = ((passed > 0) & (passed <= 5)).any()
        return (passed < 0).sum() >= 2 and steps.max() == HORIZON - 1 and on_time

    wait_until(played_twice, f"two rounds to the end, in the chunk's own time, {DT} s a step")


def test_it_stands_at_a_step(viewer):
    for step, row in ((30, 30), (0, 0), (1000, HORIZON - 1)):
        assert set_step(viewer, step).successful
        viewer.ghosts.clear()

        def stands(row: int = row) -> bool:
            """Ghosts of before may still come."""
            return len(viewer.ghosts) > 5 and set(steps_of(viewer)[-5:]) == {row}

        wait_until(stands, f"ghosts at {row}")
    assert not set_step(viewer, -2).successful
    assert set_step(viewer, -1).successful
    viewer.ghosts.clear()
    wait_until(lambda: len(set(steps_of(viewer))) > 5 if viewer.ghosts else False, "playing again")
