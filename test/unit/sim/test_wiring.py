"""Several controllers as one, and the one that forwards positions."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from pi0_ros.sim.points import Rejected
from pi0_ros.sim.stage import JOINTS
from pi0_ros.sim.wiring import WIRINGS, Controllers, ForwardController, TrajectoryController

HOME = np.linspace(0.1, 0.6, len(JOINTS))
STILL = np.zeros(len(JOINTS))
STEP = 10_000_000


def array(*values: float) -> SimpleNamespace:
    return SimpleNamespace(data=values)


def trajectory(joints: tuple[str, ...], end: np.ndarray, seconds: int) -> SimpleNamespace:
    """From now to `end`, at rest there."""
    point = SimpleNamespace(
        positions=end,
        velocities=np.zeros(len(end)),
        accelerations=(),
        effort=(),
        time_from_start=SimpleNamespace(sec=seconds, nanosec=0),
    )
    stamp = SimpleNamespace(sec=0, nanosec=0)
    header = SimpleNamespace(stamp=stamp)
    return SimpleNamespace(header=header, joint_names=list(joints), points=[point])


@pytest.mark.parametrize("wiring", WIRINGS)
def test_each_joint_belongs_to_one_controller(wiring: str) -> None:
    named = [joint for entry in WIRINGS[wiring] for joint in entry.joints]
    assert sorted(named) == sorted(JOINTS)


def test_each_controller_moves_its_joints() -> None:
    robot = Controllers("forward-gripper", TrajectoryController)
    np.testing.assert_allclose(robot.command(0, HOME, STILL), HOME)
    end = HOME[:-1] + 0.1
    message = trajectory(JOINTS[:-1], end, 1)
    robot.accept("arm_controller/joint_trajectory", message, STEP // 2)
    robot.accept("gripper_controller/commands", array(0.9), STEP // 2)
    command = robot.command(STEP, HOME, STILL)
    assert command[-1] == 0.9
    np.testing.assert_allclose(command[:-1], HOME[:-1], atol=1e-3)
    for k in range(2, 120):
        command = robot.command(k * STEP, command, STILL)
    np.testing.assert_allclose(command, [*end, 0.9], atol=1e-9)


def test_a_controller_refuses_joints_of_another() -> None:
    robot = Controllers("two", TrajectoryController)
    robot.command(0, HOME, STILL)
    with pytest.raises(Rejected, match="gripper"):
        robot.accept("arm_controller/joint_trajectory", trajectory(JOINTS, HOME, 1), 1)


@pytest.mark.parametrize("values", [(), (0.1,), (0.1, float("nan")), (0.1, 0.2, 0.3)])
def test_positions_that_do_not_fit_are_rejected(values: tuple[float, ...]) -> None:
    controller = ForwardController(("a", "b"))
    controller.accept(array(0.5, 0.6), 0)
    with pytest.raises(Rejected, match="a finite position for each of a, b"):
        controller.accept(array(*values), 1)
    np.testing.assert_array_equal(controller.command(2, np.zeros(2), np.zeros(2)), [0.5, 0.6])
