"""Every parameter that may change while the node runs changes what it does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.harness import DT, HORIZON, JOINTS, FakePolicy, GuidedPolicy, Harness

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


def limits_file(folder: Path, highest: float, velocity: float, acceleration: float) -> str:
    """joint_limits.yaml with the same limits for every joint."""
    lines = [
        f"  {joint}: {{has_position_limits: true, min_position: -9.0, max_position: {highest},"
        f" has_velocity_limits: true, max_velocity: {velocity},"
        f" has_acceleration_limits: true, max_acceleration: {acceleration}}}"
        for joint in JOINTS
    ]
    path = folder / "low_limits.yaml"
    path.write_text("\n".join(["joint_limits:", *lines, ""]))
    return str(path)


# name -> value, limits (position, velocity, acceleration), settings, and what becomes of a chunk
# that goes to 1.8 rad, at 5.5 rad/s and 200 rad/s^2, after the change.
CHUNKS = {
    "velocity_scale": (0.01, (9.0, 100.0, 10_000.0), {}, "clamped"),
    "acceleration_scale": (0.01, (9.0, 100.0, 10_000.0), {}, "clamped"),
    "max_jump": (0.001, (9.0, 100.0, 10_000.0), {}, "rejected"),
    "clamp_position": (0.1, (1.5, 100.0, 10_000.0), {"clamp_position": 0.5}, "rejected"),
    "clamp_velocity": (1.0, (9.0, 3.0, 10_000.0), {"clamp_velocity": 10.0}, "rejected"),
    "clamp_acceleration": (1.0, (9.0, 100.0, 100.0), {}, "rejected"),
}


@pytest.mark.parametrize("name", CHUNKS)
def test_chunks(start, tmp_path, name):
    value, limits, settings, outcome = CHUNKS[name]
    zigzag = 0.02 * (-1.0) ** np.arange(HORIZON)[:, None]
    policy = FakePolicy(corrupt=lambda positions: positions + zigzag)
    robot = start(policy, joint_limits=limits_file(tmp_path, *limits), **settings)
    robot.chunk()
    assert refusal_after(robot) == ""
    clamped = robot.node.counts.clamped.copy()
    set_parameter(robot, name, value)
    refused = refusal_after(robot)
    if outcome == "rejected":
        assert refused == "limits"
    else:
        assert refused == ""
        assert (robot.node.counts.clamped - clamped)[name.partition("_")[0]] == 1


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
    assert offset() < 0.02, "half a step at most, since the grid is another"
    set_parameter(robot, "blend", 2.0)
    assert offset() > 0.03


def test_starve_timeout(start):
    robot = start(starve_timeout=60.0)
    robot.chunk()
    robot.advance(0.03)
    assert robot.node.counts.stops == 0
    set_parameter(robot, "starve_timeout", 0.01)
    robot.wait(lambda: robot.node.counts.stops == 1, "the stop")


def test_splice_lead(start):
    robot = start()
    still = []
    for lead in (0.04, 0.3):
        set_parameter(robot, "splice_lead", lead)
        robot.node.loop.executor.reset()
        robot.rest()
        velocities = np.array([point.velocities for point in robot.chunk().points])
        still.append(int(velocities.any(axis=1).argmax()))
    assert still[1] - still[0] == round((0.3 - 0.04) / DT)


TRACKING = {
    "tracking_tolerance": (7.0, 0.005),
    "tracking_lag": (1.5, 0.0),
    "tracking_timeout": (60.0, 0.02),
    "untracked_joints": (list(JOINTS), ["pan"]),
}
"""Name -> a value with which an arm that stands is not noticed, and one with which it is."""


@pytest.mark.parametrize("name", TRACKING)
def test_tracking(start, name):
    values = {other: strict for other, (_, strict) in TRACKING.items()}
    robot = start(**values | {name: TRACKING[name][0]})
    for _ in range(5):
        robot.chunk()
    assert not robot.node.motion_enable.latched
    set_parameter(robot, name, TRACKING[name][1])
    for _ in range(2):
        robot.send_all()
        robot.tick()
    robot.wait(lambda: "does not follow" in robot.node.motion_enable.latched, "the latched fault")


def test_emergency_acceleration_scale(start):
    robot = start()
    set_parameter(robot, "emergency_acceleration_scale", 2.0)
    assert robot.node.loop.executor.settings.emergency_acceleration_scale == 2.0


def test_changes_are_logged(start, capfd):
    robot = start()
    set_parameter(robot, "blend", 0.25)
    assert "parameter blend: 0.25 from now on" in capfd.readouterr().err


# name -> value, and what it makes of the prefix of the next chunk.
RTC = {
    "rtc_execution_horizon": (20, lambda prefix: np.count_nonzero(prefix.weights) == 20),
    "rtc_max_guidance_weight": (3.0, lambda prefix: prefix.max_weight == 3.0),
    "rtc_schedule": ("zeros", lambda prefix: np.count_nonzero(prefix.weights) == prefix.delay),
}


@pytest.mark.parametrize("name", RTC)
def test_real_time_chunking(start, name):
    robot = start(GuidedPolicy(), rtc="guided")
    for _ in range(3):
        robot.chunk()
    value, changed = RTC[name]
    assert not changed(robot.policy.prefixes[-1])
    set_parameter(robot, name, value)
    robot.chunk()
    assert changed(robot.policy.prefixes[-1])


def test_every_live_parameter_is_tested():
    rows = [*SPECS, *(row.of("<camera>", "wrist") for row in CAMERA_SPECS)]
    live = {row.name for row in rows if row.changes == LIVE}
    here = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert live <= here | set(OBSERVATION) | set(CHUNKS) | set(TRACKING) | set(RTC)
