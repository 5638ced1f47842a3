"""Several controllers: one message per output with one stamp, all or none; sampled outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.harness import JOINTS, FakePolicy
from support.waiting import wait_until

from pi0_ros.sim.wiring import ForwardController, TrajectoryController

pytest.importorskip("rclpy")

TWO = {
    "outputs.arm.topic": "/arm_controller/joint_trajectory",
    "outputs.arm.joints": ["lift", "pan"],  # the controller's order is its own
    "outputs.gripper.topic": "/gripper_controller/joint_trajectory",
    "outputs.gripper.joints": ["gripper"],
}
STEP = 10_000_000
FORWARD = TWO | {
    "outputs.gripper.topic": "/gripper_controller/commands",
    "outputs.gripper.type": "std_msgs/Float64MultiArray",
}


def test_each_controller_gets_its_joints_with_one_stamp(start):
    robot = start(**TWO)
    robot.chunk()
    robot.wait(lambda: robot.commands["gripper"], "the gripper's trajectory")
    (arm,), (gripper,) = robot.commands["arm"], robot.commands["gripper"]
    assert list(arm.joint_names) == ["lift", "pan"]
    assert list(gripper.joint_names) == ["gripper"]
    assert arm.header.stamp == gripper.header.stamp
    times = [[p.time_from_start for p in m.points] for m in (arm, gripper)]
    assert times[0] == times[1]
    # The policy adds 0.01, 0.02 and 0.03 rad per step to 0.1, 0.2 and 0.3.
    ends = np.array([*arm.points[-1].positions, *gripper.points[-1].positions])
    way = ends - [0.2, 0.1, 0.3]
    np.testing.assert_allclose(way / way[1], [2.0, 1.0, 3.0], atol=0.05)
    shown = {pair.key: pair.value for pair in robot.status("output gripper").values}
    assert shown["topic"] == "/gripper_controller/joint_trajectory"
    assert shown["subscribers"] == "1"


def test_a_controller_of_another_type_is_told_at_configure(start):
    from rclpy.lifecycle import TransitionCallbackReturn
    from std_msgs.msg import Float64MultiArray

    topic = TWO["outputs.gripper.topic"]

    def controller(robot):
        robot.create_subscription(Float64MultiArray, topic, lambda message: None, 10)

    robot = start(before=controller, activate=False, deaf=["gripper"], **TWO)
    node = robot.node

    def subscribers():
        return [info.node_name for info in node.get_subscriptions_info_by_topic(topic)]

    robot.wait(lambda: subscribers() == ["robot"], "the controller, and its name")
    # On another thread than the executor's, which is idle: nothing is published here.
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    robot.wait(lambda: robot.diagnostics, "diagnostics")
    said = node._summary
    assert "(output gripper): the node sends trajectory_msgs/msg/JointTrajectory" in said
    assert "robot: std_msgs/msg/Float64MultiArray" in said


def test_a_stop_goes_to_all(start):
    robot = start(**TWO)
    robot.chunk()
    robot.node.motion_enable.disable("a test")
    robot.wait(lambda: robot.node.counts.stops == 1, "a stop")
    for name in ("arm", "gripper"):
        robot.wait(lambda name=name: len(robot.commands[name]) == 2, f"the stop of {name}")
    stamps = {(m[1].header.stamp.sec, m[1].header.stamp.nanosec) for m in robot.commands.values()}
    assert len(stamps) == 1


def test_one_output_without_a_subscriber_holds_all(start):
    robot = start(deaf=["gripper"], **TWO)
    robot.send_all()
    robot.tick()
    robot.wait(lambda: robot.refused() == {"unserved": 1}, "the refusal")
    robot.wait(lambda: robot.chunks, "the chunk")
    assert robot.chunks[0].verdict == robot.chunks[0].REJECTED
    assert "gripper (/gripper_controller/joint_trajectory)" in robot.chunks[0].rejected_reason
    robot.wait(lambda: "no controller subscribes" in robot.summary(), "the summary")
    assert robot.status("output gripper").level == b"\x02"
    robot.settle()
    assert not robot.commands["arm"] and robot.node.loop.executor.tick(None, robot.now) is None
    # It goes on by itself once the controller is there.
    from trajectory_msgs.msg import JointTrajectory

    heard: list[JointTrajectory] = []
    topic = TWO["outputs.gripper.topic"]
    robot.robot.create_subscription(JointTrajectory, topic, heard.append, 10)
    robot.wait(lambda: not robot.node._outputs.commands.unserved(), "the controller")
    robot.chunk()
    robot.wait(lambda: heard, "the gripper's trajectory")


def test_a_controller_that_goes_while_the_arm_moves_stops_and_latches(start):
    robot = start(**TWO)
    robot.chunk()
    (gripper,) = (
        s for s in robot.robot.subscriptions if s.topic_name == TWO["outputs.gripper.topic"]
    )
    robot.robot.destroy_subscription(gripper)
    robot.wait(lambda: robot.node.counts.stops == 1, "a stop")
    assert "output gripper" in robot.node.motion_enable.latched
    robot.wait(lambda: len(robot.commands["arm"]) == 2, "the arm's stop")


def broken(robot, output: int) -> Any:
    """The publisher of an output, whose middleware takes nothing until `del` of its `publish`."""
    publisher = robot.node._outputs.commands._outputs[output].publisher

    def publish(message):
        raise RuntimeError("Failed to publish: a test")

    publisher.publish = publish
    return publisher


def test_a_stop_that_could_not_be_sent_is_sent_again(start):
    robot = start(**TWO)
    robot.chunk()
    publisher, counts = broken(robot, 1), robot.node.counts
    robot.node.motion_enable.disable("a test")
    robot.wait(lambda: counts.errors > 1, "two attempts")
    assert "output gripper" in robot.node.motion_enable.latched and counts.stops == 0
    arm = robot.node.loop.executor.executing
    moving = np.abs(arm.velocities[-3:]).max(axis=0)  # pan, lift, gripper
    assert not moving[:2].any(), "the arm's stop arrived"
    del publisher.publish
    robot.wait(lambda: counts.stops == 1, "the stop")
    robot.wait(lambda: len(robot.commands["gripper"]) == 2, "the gripper's stop")
    assert not np.any(robot.commands["gripper"][-1].points[-1].velocities)
    assert robot.node.loop.executor.tick(None, robot.now) is None


def test_a_chunk_that_could_not_be_sent_is_rejected_and_what_was_sent_of_it_stops(start):
    robot = start(**TWO)
    broken(robot, 1)
    robot.send_all()
    robot.tick()
    robot.wait(lambda: robot.refused() == {"unserved": 1}, "the refusal")
    robot.wait(lambda: robot.chunks, "the chunk")
    assert robot.chunks[0].verdict == robot.chunks[0].REJECTED
    assert "Failed to publish: a test" in robot.chunks[0].rejected_reason
    assert "output gripper" in robot.node.motion_enable.latched
    assert robot.node.counts.trajectories == 0
    robot.wait(lambda: len(robot.commands["arm"]) >= 2, "the arm's stop")
    robot.settle()
    assert not robot.commands["gripper"] and robot.node.loop.executor.rests(robot.now)


def test_a_sample_that_could_not_be_sent_latches_and_is_late(start):
    robot = start(rate_hz=1.0, **FORWARD)
    robot.advance(0.9)
    robot.chunk()
    moving = sampled(robot, 0.1)
    output = robot.node._outputs.commands._outputs[1]
    publisher, before = broken(robot, 1), output._sampler._command
    robot.advance(0.01)
    robot.wait(lambda: robot.node.motion_enable.latched, "the latch")
    assert "a sample could not be sent to output gripper (/gripper_controller/commands)" in (
        robot.node.motion_enable.latched
    )
    robot.wait(lambda: len(robot.commands["arm"]) == 2, "the arm's stop")
    errors = robot.node.counts.errors
    robot.advance(0.01)
    robot.wait(lambda: robot.node.counts.errors > errors, "another attempt")
    np.testing.assert_array_equal(output._sampler._command, before)
    del publisher.publish
    steps = np.diff([before[0], *(position for _, position in sampled(robot, 0.3))])
    usual = moving[-1][1] - moving[-2][1]
    assert steps[0] > 0 and max(steps) < 3 * usual
    assert output._sampler.at_rest, "the stop was sampled to its end"
    assert robot.node.counts.stops == 1 and not robot.node.motion_enable.enabled


def test_outputs_that_nobody_needs_are_not_asked_for(start):
    """A dry run needs no controller."""
    robot = start(deaf=["arm", "gripper"], start_enabled=False, **TWO)
    robot.send_all()
    robot.tick()
    robot.wait(lambda: robot.chunks, "a chunk")
    assert robot.chunks[0].verdict == robot.chunks[0].DRY_RUN


def sampled(robot, seconds: float, step: float = 0.01) -> list[tuple[int, float]]:
    """Move /clock step by step; (nanoseconds, position) of the gripper's samples."""
    found = []
    for _ in range(round(seconds / step)):
        before = robot.node._outputs.commands.statuses()[1].sent
        robot.advance(step)
        robot.settle()
        sent = robot.node._outputs.commands.statuses()[1].sent
        if sent > before:
            heard = robot.commands["gripper"]
            wait_until(lambda heard=heard, sent=sent: len(heard) >= sent, "the sample")
            found.append((robot.now, float(heard[-1].data[0])))
    return found


def pan_at(trajectory, times: list[int]) -> np.ndarray:
    """Positions of `pan` at times in nanoseconds, between the points by lines."""
    begin = trajectory.header.stamp.sec * 10**9 + trajectory.header.stamp.nanosec
    due = [p.time_from_start.sec + p.time_from_start.nanosec / 1e9 for p in trajectory.points]
    pan = [point.positions[1] for point in trajectory.points]
    return np.interp([(at - begin) / 1e9 for at in times], due, pan)


def test_a_forward_controller_gets_samples_of_the_executing_motion(start):
    robot = start(FakePolicy(), starve_timeout=0.3, rate_hz=1.0, **FORWARD)
    robot.advance(0.9)
    robot.send_all()
    robot.tick()
    robot.wait(lambda: len(robot.commands["arm"]) == 1, "the arm's trajectory")
    assert not robot.commands["gripper"], "nothing before it begins"
    found = sampled(robot, 0.28)
    assert len(found) >= 25
    # The gripper moves three times as far as `pan`.
    expected = 0.3 + 3 * (pan_at(robot.commands["arm"][0], [at for at, _ in found]) - 0.1)
    np.testing.assert_allclose([position for _, position in found], expected, atol=0.02)
    # No chunk follows: it brakes, comes to rest, and then nothing is published.
    rest = sampled(robot, 0.7)
    assert robot.node.counts.stops == 1 and len(robot.commands["arm"]) == 2
    stop = robot.commands["arm"][1]
    end = 0.3 + 3 * (stop.points[-1].positions[1] - 0.1)
    assert rest[-1][1] == pytest.approx(end, abs=1e-3)
    assert rest[-1][0] < robot.now - 100_000_000, "it goes on after the motion"
    shown = {pair.key: pair.value for pair in robot.status("output gripper").values}
    assert shown["late"] == "0"


def test_a_deactivated_node_lets_the_motion_come_to_rest(start):
    robot = start(rate_hz=1.0, **FORWARD)
    robot.advance(0.9)
    robot.send_all()
    robot.tick()
    robot.wait(lambda: len(robot.commands["arm"]) == 1, "the arm's trajectory")
    sampled(robot, 0.1)
    robot.node.trigger_deactivate()
    found = sampled(robot, 1.5)
    positions = np.array([position for _, position in found])
    end = robot.commands["arm"][0].points[-1].positions[1]
    assert positions[-1] == pytest.approx(0.3 + 3 * (end - 0.1), abs=0.02)
    assert abs(positions[-1] - positions[-2]) < 0.005, "it ends at rest"
    assert len(robot.commands["arm"]) == 1


def test_limits_hold_in_closed_loop_with_a_forward_controller(start, tmp_path):
    """Every sample is judged by its own time; a stop is among them, and ticks that are lost."""
    velocity, acceleration = 1.0, 5.0
    limits = tmp_path / "limits.yaml"
    entry = (
        f"{{min_position: -3.0, max_position: 3.0, max_velocity: {velocity},"
        f" max_acceleration: {acceleration}}}"
    )
    limits.write_text("joint_limits:\n" + "".join(f"  {name}: {entry}\n" for name in JOINTS))
    robot = start(joint_limits=str(limits), max_jump=2.0, clamp_velocity=100.0, **FORWARD)
    arm = TrajectoryController(("lift", "pan"), "jazzy", STEP)
    gripper = ForwardController(("gripper",))
    state = {"lift": 0.2, "pan": 0.1, "gripper": 0.3}
    heard = {"arm": 0, "gripper": 0}
    commands: list[tuple[int, float]] = []

    def cycle(seconds: float = 0.01) -> None:
        outputs = robot.node._outputs.commands
        robot.advance(seconds)
        robot.settle()
        for status, controller in zip(outputs.statuses(), (arm, gripper), strict=True):
            messages = robot.commands[status.name]
            wait_until(lambda m=messages, s=status: len(m) >= s.sent, "what was sent")
            for message in messages[heard[status.name] :]:
                controller.accept(message, robot.now)
            if len(messages) > heard[status.name] and status.name == "gripper":
                commands.append((robot.now, float(messages[-1].data[0])))
            heard[status.name] = len(messages)
        measured = np.array([state["lift"], state["pan"]])
        state["lift"], state["pan"] = arm.command(robot.now, measured, np.zeros(2)).tolist()
        (state["gripper"],) = gripper.command(robot.now, np.array([state["gripper"]]), 0).tolist()
        robot.send(robot.joints, robot.state(**state))

    for step in range(180):
        if step % 10 == 9:
            for publisher in robot.cameras.values():
                robot.send(publisher, robot.image(np.full((4, 6, 3), 100, np.uint8)))
        if step == 100:
            cycle(0.08)  # the timer was late
        if step == 140:
            robot.node.motion_enable.disable("a test")
        cycle()
    assert robot.node.counts.trajectories >= 8 and robot.node.counts.stops == 1
    times = np.array([at for at, _ in commands]) / 1e9
    positions = np.array([position for _, position in commands])
    passed = np.diff(times)
    speeds = np.diff(positions) / passed
    assert len(commands) > 100 and np.abs(speeds).max() > 0.4
    assert np.abs(speeds).max() <= velocity * 1.05
    regular = (passed[1:] < 0.0101) & (passed[:-1] < 0.0101)
    hardest = np.abs(np.diff(speeds) / 0.01)[regular]
    assert hardest.max() <= acceleration * 1.05
    assert positions[-1] == positions[-2] or abs(speeds[-1]) < acceleration * 0.01
    late = {pair.key: pair.value for pair in robot.status("output gripper").values}["late"]
    assert late == "1"
