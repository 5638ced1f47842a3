"""Every parameter that may change while the node runs changes what it does."""

from __future__ import annotations

import numpy as np
import pytest
from support.harness import HORIZON, FakePolicy, Harness

pytest.importorskip("rclpy")

from rclpy.parameter import Parameter

from pi0_ros.node.parameter_table import CAMERA_SPECS, LIVE, SPECS


def set_parameter(robot: Harness, name: str, value) -> None:
    (result,) = robot.node.set_parameters([Parameter(name, value=value)])
    assert result.successful, result.reason


def refusal_after(robot: Harness, **ages: float) -> str:
    """The reason for which a tick with messages of these ages in seconds is refused; "" if not."""
    counts = robot.node.counts

    def idle() -> bool:
        return counts.ticks == counts.busy + counts.chunks + counts.refused.total()

    robot.wait(idle, "the end of the last tick")
    before = counts.refused.copy()
    for name, publisher in robot.cameras.items():
        image = robot.image(np.full((4, 6, 3), 100, np.uint8))
        robot.send(publisher, image, ages.get(name, 0.0))
    state = robot.state(pan=0.1, lift=0.2, gripper=0.3)
    robot.send(robot.joints, state, ages.get("joints", 0.0))
    robot.tick()
    robot.wait(idle, "a chunk or a refusal")
    return next(iter(counts.refused - before), "")


# name -> value, ages of messages that are fine before the change, and the refusal after it.
OBSERVATION = {
    "max_skew": (0.01, {"wrist": 0.05}, "skewed"),
    "camera.wrist.max_age": (0.11, {"wrist": 0.05}, "stale"),
    "camera.wrist.latency": (0.15, {}, "stale"),  # beside 0.1 s from the message to the tick
    "joint_states_max_age": (0.11, {"joints": 0.05}, "stale"),
}


@pytest.mark.parametrize("name", OBSERVATION)
def test_observations(start, name):
    robot = start(max_skew=0.3)
    value, ages, reason = OBSERVATION[name]
    assert refusal_after(robot, **ages) == ""
    set_parameter(robot, name, value)
    assert refusal_after(robot, **ages) == reason


def test_frozen_frames(start):
    robot = start()
    assert refusal_after(robot) == refusal_after(robot) == ""
    set_parameter(robot, "frozen_frames", 1)
    refusal_after(robot)
    assert refusal_after(robot) == "frozen"


def test_inference_timeout(start):
    robot = start(inference_timeout=600.0)
    robot.policy.go_on.clear()
    robot.send_all()
    robot.tick()
    set_parameter(robot, "inference_timeout", 0.05)
    robot.wait(lambda: robot.refused() == {"timeout": 1}, "the timeout")


def test_rate_hz(start):
    robot = start()
    set_parameter(robot, "rate_hz", 100.0)
    ticks = robot.node.counts.ticks
    robot.advance(0.011)
    robot.wait(lambda: robot.node.counts.ticks > ticks, "a tick at 100 Hz")


def test_instruction(start):
    robot = start()
    set_parameter(robot, "instruction", "touch the blue cube")
    robot.chunk()
    assert robot.chunks[-1].instruction == "touch the blue cube"


# name -> value, settings of the start, and what happens to a chunk of 200 rad/s^2, and of 1.5 rad/s
# and more.
CHUNKS = {
    "velocity_scale": (0.01, {}, "clamped"),  # of 100 rad/s
    "acceleration_scale": (0.01, {"clamp_acceleration": 1.0}, "rejected"),  # of 10,000 rad/s^2
    "max_jump": (0.001, {}, "rejected"),
    "clamp_velocity": (1.0, {"velocity_scale": 0.01}, "rejected"),
    "clamp_acceleration": (1.0, {"acceleration_scale": 0.01}, "rejected"),
}


@pytest.mark.parametrize("name", CHUNKS)
def test_chunks(start, name):
    value, settings, outcome = CHUNKS[name]
    zigzag = 0.02 * (-1.0) ** np.arange(HORIZON)[:, None]
    policy = FakePolicy(corrupt=lambda p: p + zigzag if "acceleration" in name else p)
    robot = start(policy, **settings)
    robot.chunk()
    clamped = robot.node.counts.clamped.total()
    set_parameter(robot, name, value)
    refused = refusal_after(robot)
    if outcome == "rejected":
        assert refused == "limits"
    else:
        assert refused == "" and robot.node.counts.clamped.total() > clamped


def test_clamp_position(start, tmp_path):
    limits = tmp_path / "limits.yaml"
    lines = [
        f"  {joint}: {{has_position_limits: true, min_position: -9.0, max_position: {highest},"
        " has_velocity_limits: true, max_velocity: 100.0,"
        " has_acceleration_limits: true, max_acceleration: 10000.0}"
        for joint, highest in (("pan", 9.0), ("lift", 9.0), ("gripper", 1.5))
    ]
    limits.write_text("\n".join(["joint_limits:", *lines, ""]))
    robot = start(joint_limits=str(limits), clamp_position=0.5)  # the gripper goes to 1.8 rad
    robot.chunk()
    assert robot.node.counts.clamped["position"] == 1
    set_parameter(robot, "clamp_position", 0.1)
    assert refusal_after(robot) == "limits"


def test_reject_latch(start):
    robot = start(max_jump=0.001, reject_latch=100)
    refusal_after(robot)
    assert robot.node.motion_enable.enabled
    set_parameter(robot, "reject_latch", 1)
    refusal_after(robot)
    robot.wait(lambda: not robot.node.motion_enable.enabled, "the latched fault")


def test_blend(start):
    """A new chunk departs at once from the executing trajectory, or in two seconds."""
    robot = start(blend=0.0)
    robot.policy.corrupt = lambda positions: positions + 0.1 * (len(robot.policy.seen) % 2)

    def offset() -> float:
        """Radians of the newest trajectory from its own chunk after half a second."""
        robot.chunk()
        planned = robot.trajectories[-1].points[24].positions
        wanted = np.reshape(robot.chunks[-1].positions, (-1, 3))[24]
        return float(np.abs(np.subtract(planned, wanted)).max())

    robot.chunk()
    assert offset() < 0.01
    set_parameter(robot, "blend", 2.0)
    assert offset() > 0.03


def test_starve_timeout(start):
    robot = start(starve_timeout=60.0)
    robot.chunk()
    robot.advance(0.03)
    assert robot.node.counts.stops == 0
    set_parameter(robot, "starve_timeout", 0.01)
    robot.wait(lambda: robot.node.counts.stops == 1, "the stop")


def test_changes_are_logged(start, capfd):
    robot = start()
    set_parameter(robot, "blend", 0.25)
    assert "parameter blend: 0.25 from now on" in capfd.readouterr().err


def test_every_live_parameter_is_tested():
    rows = [*SPECS, *(row.of("<camera>", "wrist") for row in CAMERA_SPECS)]
    live = {row.name for row in rows if row.changes == LIVE}
    here = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert live <= here | set(OBSERVATION) | set(CHUNKS)
