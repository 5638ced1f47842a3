"""Enabling motion, dry runs, emergency stops and the deadman; over real DDS on loopback."""

from __future__ import annotations

import numpy as np
import pytest
from support.waiting import wait_until

pytest.importorskip("rclpy")

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import Bool, Header, String
from std_srvs.srv import Trigger
from support.operator import call, dry_chunk, enable

# Enabling ---------------------------------------------------------------------------------------


def test_a_dry_run_publishes_chunks_only(start):
    robot = start(start_enabled=False)
    dry_chunk(robot)
    assert not robot.trajectories
    robot.wait(lambda: "dry run" in robot.summary() or not robot.tick(), "the report")
    answer = enable(robot)
    assert (answer.success, answer.message) == (True, "enabled")
    robot.chunk()
    assert enable(robot, False).success
    published = robot.node.counts.trajectories
    dry_chunk(robot)
    assert robot.node.counts.trajectories == published


def test_without_limits_there_are_only_dry_runs(start):
    robot = start(joint_limits="", start_enabled=True)
    dry_chunk(robot)
    answer = enable(robot)
    assert not answer.success and "joint_limits" in answer.message
    dry_chunk(robot)
    assert not robot.trajectories


def test_disabling_stops_what_moves(start):
    robot = start()
    robot.chunk()
    robot.send_all()
    assert enable(robot, False).success
    robot.wait(lambda: len(robot.trajectories) == 2, "the stop")
    stop = robot.trajectories[-1].points[-1]
    assert not np.any(stop.velocities) and np.all(np.isfinite(stop.positions))
    assert np.abs(np.subtract(stop.positions, [0.1, 0.2, 0.3])).max() < 0.3
    assert robot.node.counts.stops == 1


# Stops ------------------------------------------------------------------------------------------


def test_emergency_stop_disables_and_latches(start):
    robot = start()
    button = robot.robot.create_publisher(Bool, "/emergency_stop", 10)
    wait_until(lambda: button.get_subscription_count(), "discovery")
    robot.chunk()
    robot.send_all()
    button.publish(Bool(data=True))
    robot.wait(lambda: not robot.node.motion_enable.enabled, "the stop")
    robot.wait(lambda: robot.node.counts.stops == 1, "the stopping trajectory")
    published = len(robot.trajectories)
    dry_chunk(robot)
    assert len(robot.trajectories) <= published + 1, "the stop itself at most"
    answer = enable(robot)
    assert not answer.success and "emergency stop" in answer.message
    answer = call(robot, Trigger, "reset")
    assert not answer.success and "still on" in answer.message
    button.publish(Bool(data=False))
    wait_until(lambda: call(robot, Trigger, "reset").success, "the release")
    assert not robot.node.motion_enable.enabled
    assert enable(robot).success
    robot.chunk()


def test_an_emergency_stop_that_was_pressed_before_is_heard(start):
    def press(node):
        kept = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        node.create_publisher(Bool, "emergency_stop", kept).publish(Bool(data=True))

    robot = start(before=press)
    robot.wait(lambda: robot.node.motion_enable.latched, "the kept message")
    assert not robot.node.motion_enable.enabled


@pytest.mark.parametrize("kept", [False, True])
def test_a_best_effort_stop_is_heard(start, kept):
    durability = DurabilityPolicy.TRANSIENT_LOCAL if kept else DurabilityPolicy.VOLATILE
    robot = start()
    qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT, durability=durability)
    button = robot.robot.create_publisher(Bool, "/emergency_stop", qos)
    stops = robot.node._operator._stop_subscription
    wait_until(lambda: stops._base.get_publisher_count() == 1, "discovery")
    wait_until(button.get_subscription_count, "discovery")
    button.publish(Bool(data=True))
    robot.wait(lambda: robot.node.motion_enable.latched, "the stop")


def test_each_of_two_sources_holds_its_own_stop(start):
    robot = start()
    sources = [robot.robot.create_publisher(Bool, "/emergency_stop", 10) for _ in range(2)]
    for source in sources:
        wait_until(source.get_subscription_count, "discovery")
    wait_until(lambda: robot.node.count_publishers("/emergency_stop") == 2, "the graph")
    sources[0].publish(Bool(data=True))
    robot.wait(lambda: robot.node.motion_enable.latched, "the stop")
    stops = robot.node._operator._stops
    for _ in range(3):
        sources[1].publish(Bool(data=False))
        answer = call(robot, Trigger, "reset")
        assert not answer.success and "emergency stop is still on" in answer.message
    assert stops.held and not enable(robot).success
    sources[0].publish(Bool(data=False))
    wait_until(lambda: call(robot, Trigger, "reset").success, "the source to be silent or false")
    assert enable(robot).success


def test_enable_is_refused_while_a_stop_could_not_be_heard(start):
    robot = start(start_enabled=False)
    strange = robot.robot.create_publisher(String, "/emergency_stop", 10)
    wait_until(lambda: robot.node.count_publishers("/emergency_stop") == 1, "the graph")
    answer = enable(robot)
    assert not answer.success
    assert "an emergency stop on emergency_stop could not be heard: /robot publishes" in (
        answer.message
    )
    robot.robot.destroy_publisher(strange)
    wait_until(lambda: enable(robot).success, "the other publisher to be gone")


def test_enable_says_that_nothing_would_move(start):
    robot = start(start_enabled=False)
    robot.tick()
    robot.wait(lambda: robot.refused() == {"missing": 1}, "a refused tick")
    answer = enable(robot)
    assert answer.success and answer.message.startswith("enabled; but ")
    assert "the last tick was refused (missing): no image on camera front" in answer.message
    robot.chunk()
    assert enable(robot).message == "enabled"


def test_heartbeats_of_another_clock_are_refused_and_told(start):
    robot = start(deadman_timeout=3.0, start_enabled=False)
    assert "nobody publishes the heartbeat on deadman" in enable(robot).message
    beat = robot.robot.create_publisher(Header, "/deadman", 10)
    wait_until(lambda: beat.get_subscription_count(), "discovery")
    for seconds, says in ((30, "30.000 s in the future"), (-30, "30.000 s ago")):
        message = Header()
        message.stamp.sec, message.stamp.nanosec = divmod(robot.now + seconds * 10**9, 10**9)

        def told(message=message, says=says):
            beat.publish(message)
            return says in enable(robot).message

        wait_until(told, f"a heartbeat stamped {says} to be refused")


def test_deadman(start):
    robot = start(deadman_timeout=8.0, start_enabled=False)  # a busy machine holds up heartbeats
    assert "heartbeat" in enable(robot).message
    beat = robot.robot.create_publisher(Header, "/deadman", 10)
    wait_until(lambda: beat.get_subscription_count(), "discovery")
    wait_until(lambda: beat.publish(Header()) or enable(robot).success, "a beat and enabling")
    timer = robot.robot.create_timer(0.1, lambda: beat.publish(Header()))
    robot.chunk()
    timer.cancel()
    robot.wait(lambda: not robot.node.motion_enable.enabled, "the latch")
    assert "deadman" in robot.node.motion_enable.latched
