"""The action ~/run_policy and its services, over real DDS on loopback."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from support.harness import FakePolicy, Harness
from support.waiting import wait_until

pytest.importorskip("rclpy")

from action_msgs.msg import GoalStatus
from pi0_ros.action import RunPolicy
from rclpy.action import ActionClient
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import Bool, String
from std_srvs.srv import SetBool, Trigger

from pi0_ros.node import run_policy

PROMPT = "stack the plates"


class Client:
    """Sends goals to the node of a harness, and keeps what comes back."""

    def __init__(self, robot: Harness) -> None:
        self.robot = robot
        self.action = ActionClient(robot.robot, RunPolicy, "/pi0/run_policy")
        wait_until(self.action.server_is_ready, "the action server")
        self.feedback: list[Any] = []

    def ask(self, prompt: str = PROMPT, seconds: float = 0.0, success: str = "") -> Any:
        """A goal's handle."""
        goal = RunPolicy.Goal(prompt=prompt, success_topic=success)
        goal.max_duration.sec = math.floor(seconds)
        goal.max_duration.nanosec = round((seconds - math.floor(seconds)) * 1e9)
        return self._answer(
            lambda: self.action.send_goal_async(goal, lambda m: self.feedback.append(m.feedback))
        )

    def result(self, handle: Any) -> tuple[int, RunPolicy.Result]:
        """Status and result; the clock goes on until they come."""
        future = handle.get_result_async()

        def come() -> bool:
            self.robot.advance(0.02)
            return future.done()

        wait_until(come, "the result")
        return future.result().status, future.result().result

    def cancel(self, handle: Any) -> None:
        assert self._answer(handle.cancel_goal_async).goals_canceling

    def _answer(self, ask: Callable[[], Any]) -> Any:
        """Asks in the client's own executor: an answer that comes before rclpy knows what was asked
        is lost."""
        asked = self.robot._executors[1].create_task(ask)
        wait_until(lambda: asked.done() and asked.result().done(), "an answer of the server")
        return asked.result().result()


@pytest.fixture
def begin(start: Callable[..., Harness]) -> Callable[..., tuple[Harness, Client]]:
    """A robot that is not enabled, and a client."""

    def make(**options: Any) -> tuple[Harness, Client]:
        robot = start(**{"start_enabled": False, **options})
        return robot, Client(robot)

    return make


def call(robot: Harness, name: str, kind: type = Trigger, **fields: Any) -> Any:
    client = robot.robot.create_client(kind, f"/pi0/{name}")
    wait_until(client.service_is_ready, f"the service {name}")
    future = client.call_async(kind.Request(**fields))
    wait_until(future.done, f"an answer of {name}")
    return future.result()


def moves(robot: Harness) -> np.ndarray:
    """[points, joints] velocities of the newest trajectory."""
    return np.array([point.velocities for point in robot.trajectories[-1].points])


def rests_at_the_end(robot: Harness) -> bool:
    """The newest trajectory is a stop: it ends at rest."""
    return not moves(robot)[-1].any()


def test_a_goal_moves_the_arm_until_it_is_cancelled_and_braked(begin):
    robot, client = begin()
    handle = client.ask()
    assert handle.accepted and robot.node.motion_enable.enabled
    robot.wait(lambda: client.feedback, "feedback before the first chunk")
    robot.chunk()
    robot.chunk()
    assert robot.policy.seen[-1].instruction == PROMPT
    assert robot.policy.resets == 1, "a goal begins an episode"
    assert moves(robot).any()
    robot.wait(lambda: any(f.chunks >= 2 for f in client.feedback), "feedback")
    last = client.feedback[-1]
    assert last.state == "executing"
    assert 0.0 <= last.observation_age < 1.0
    assert math.isnan(client.feedback[0].observation_age)
    assert client.feedback[0].state == "waiting: first chunk"

    client.cancel(handle)
    status, result = client.result(handle)
    assert status == GoalStatus.STATUS_CANCELED
    assert (result.error_code, result.error_msg) == (RunPolicy.Result.NONE, "")
    assert result.termination == "canceled"
    assert result.chunks >= 2, "feedback comes by simulated time, in which a third may come"
    assert result.elapsed.sec + result.elapsed.nanosec / 1e9 > 0.1
    assert not robot.node.motion_enable.enabled
    robot.wait(lambda: robot.node.counts.stops == 1, "the stop")
    robot.wait(lambda: rests_at_the_end(robot), "a trajectory that ends at rest")
    assert robot.node.loop.executor.rests(robot.now)


def test_one_goal_at_a_time(begin):
    robot, client = begin()
    first = client.ask()
    assert not client.ask("another").accepted
    assert "is being obeyed; cancel it first" in call(robot, "run_policy/start").message
    client.cancel(first)
    assert client.result(first)[0] == GoalStatus.STATUS_CANCELED
    again = client.ask("another")
    assert again.accepted
    robot.chunk()
    assert robot.policy.seen[-1].instruction == "another"


def test_time_is_up(begin):
    robot, client = begin()
    handle = client.ask(seconds=0.5)
    robot.chunk()
    status, result = client.result(handle)
    assert status == GoalStatus.STATUS_ABORTED
    assert result.error_code == RunPolicy.Result.TIMED_OUT
    assert result.termination == "timed out"
    assert "max_duration of 0.5 s passed" in result.error_msg
    assert robot.node.counts.stops == 1 and not robot.node.motion_enable.enabled


@pytest.mark.parametrize("reliability", list(ReliabilityPolicy)[1:3], ids=lambda r: r.name)
def test_success_is_told_by_a_topic_of_any_quality_of_service(begin, reliability):
    robot, client = begin()
    qos = QoSProfile(depth=1, reliability=reliability)
    publisher = robot.robot.create_publisher(Bool, "/done", qos)
    handle = client.ask(success="/done")
    wait_until(publisher.get_subscription_count, "the node to listen")
    robot.chunk()
    publisher.publish(Bool(data=False))
    robot.chunk()
    assert robot.node._task.running
    future = handle.get_result_async()

    def come() -> bool:
        publisher.publish(Bool(data=True))
        robot.advance(0.02)
        return future.done()

    wait_until(come, "the result")
    assert future.result().status == GoalStatus.STATUS_SUCCEEDED
    result = future.result().result
    assert (result.error_code, result.error_msg) == (RunPolicy.Result.NONE, "")
    assert result.termination == "succeeded"
    assert not robot.node.motion_enable.enabled
    wait_until(lambda: not publisher.get_subscription_count(), "the node to listen no more")


def test_a_success_that_was_latched_before_the_goal_does_not_end_it(begin):
    robot, client = begin()
    qos = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    publisher = robot.robot.create_publisher(Bool, "/done", qos)
    publisher.publish(Bool(data=True))
    handle = client.ask(success="/done")
    wait_until(publisher.get_subscription_count, "the node to listen")
    robot.chunk()
    robot.chunk()
    robot.wait(lambda: any(f.chunks >= 2 for f in client.feedback), "feedback")
    assert robot.node._task.running
    client.cancel(handle)
    assert client.result(handle)[1].termination == "canceled"


def test_deactivating_aborts(begin):
    robot, client = begin()
    handle = client.ask()
    robot.chunk()
    robot._executors[0].create_task(robot.node.trigger_deactivate)
    status, result = client.result(handle)
    assert status == GoalStatus.STATUS_ABORTED
    assert result.error_code == RunPolicy.Result.DEACTIVATED
    assert result.termination == "deactivated" and "was deactivated" in result.error_msg
    handle = client.ask()
    status, result = client.result(handle)
    assert result.error_code == RunPolicy.Result.DEACTIVATED
    assert "the node is inactive, not active" in result.error_msg


def test_a_fault_while_a_goal_ends_is_counted_and_the_client_has_a_result(begin):
    robot, client = begin()
    handle = client.ask(success="/done")
    robot.chunk()
    success = robot.node._task._goal.success
    close, success.close = success.close, lambda: [close(), 1 / 0]
    client.cancel(handle)
    status, result = client.result(handle)
    assert status == GoalStatus.STATUS_ABORTED
    assert (result.error_code, result.termination) == (RunPolicy.Result.POLICY_FAILED, "failed")
    assert "has ended (canceled), with: ZeroDivisionError" in result.error_msg
    assert robot.node.counts.errors == 1 and not robot.node.motion_enable.enabled
    assert client.ask("another").accepted


def test_an_emergency_stop_ends_the_goal_and_keeps_the_next_from_moving(begin):
    robot, client = begin()
    publisher = robot.robot.create_publisher(Bool, "/emergency_stop", 10)
    wait_until(publisher.get_subscription_count, "discovery")
    handle = client.ask()
    robot.chunk()
    publisher.publish(Bool(data=True))
    status, result = client.result(handle)
    assert (status, result.error_code) == (GoalStatus.STATUS_ABORTED, RunPolicy.Result.STOPPED)
    assert result.termination == "stopped" and "the emergency stop" in result.error_msg
    status, result = client.result(client.ask())
    assert result.error_code == RunPolicy.Result.NOT_ENABLED
    assert "latched by the emergency stop; call ~/reset first" in result.error_msg


def test_disabling_motion_ends_the_goal(begin):
    robot, client = begin()
    handle = client.ask()
    robot.chunk()
    assert call(robot, "enable", SetBool, data=False).success
    _, result = client.result(handle)
    assert (result.error_code, result.termination) == (RunPolicy.Result.NOT_ENABLED, "disabled")
    assert "~/enable was called with false" in result.error_msg


SENSELESS = (
    ({"prompt": " "}, "the instruction is empty"),
    ({"prompt": "x" * 100_000}, "100000 characters"),
    ({"seconds": -1.0}, "max_duration is -1 s"),
    ({"success": "no topic!"}, "is not a ROS topic name"),
    ({"success": "/words"}, "/words has the type std_msgs/msg/String, expected std_msgs"),
)


def test_goals_that_make_no_sense_are_aborted_and_say_why(begin):
    robot, client = begin()
    robot.robot.create_publisher(String, "/words", 10)
    wait_until(lambda: robot.node.count_publishers("/words"), "the graph")
    for enabled in (False, True):  # by an operator, who wants it so
        if enabled:
            call(robot, "enable", SetBool, data=True)
        for fields, says in SENSELESS:
            status, result = client.result(client.ask(**fields))
            assert status == GoalStatus.STATUS_ABORTED
            assert result.error_code == RunPolicy.Result.INVALID_GOAL
            assert result.termination == "invalid" and says in result.error_msg
            assert robot.node.motion_enable.enabled == enabled
            assert robot.node.loop.buffer.instruction == "touch the red cube"


def test_a_policy_that_fails_ends_the_goal(begin, monkeypatch):
    monkeypatch.setattr(run_policy, "PATIENCE", 0.0)
    robot, client = begin(policy=FakePolicy(corrupt=lambda positions: positions[:, :1]))
    handle = client.ask()
    robot.send_all()
    robot.tick()
    robot.wait(lambda: robot.refused().get("failed"), "the failure")
    status, result = client.result(handle)
    assert (status, result.error_code) == (
        GoalStatus.STATUS_ABORTED,
        RunPolicy.Result.POLICY_FAILED,
    )
    assert result.termination == "failed" and "no chunk for 0 s: failed" in result.error_msg


def test_other_instructions_wait_until_the_goal_has_ended(begin):
    robot, client = begin()
    handle = client.ask()
    heard = robot.node.loop.buffer
    robot.instruction.publish(String(data="do something else"))
    (answer,) = robot.node.set_parameters(
        [robot.node.get_parameter("instruction").__class__("instruction", value="or this")]
    )
    assert not answer.successful and "a goal of ~/run_policy is being obeyed" in answer.reason
    robot.chunk()
    assert heard.instruction == PROMPT
    client.cancel(handle)
    client.result(handle)

    def taken() -> bool:
        robot.instruction.publish(String(data="do something else"))
        return heard.instruction == "do something else"

    wait_until(taken, "the instruction of the topic")


def test_services_for_tools_without_actions(begin):
    robot, _ = begin()
    assert not call(robot, "run_policy/cancel").success
    assert call(robot, "run_policy/status").message == "no goal yet"
    answer = call(robot, "run_policy/start")
    assert answer.success and answer.message == "obeying 'touch the red cube'"
    robot.chunk()
    answer = call(robot, "run_policy/status")
    assert answer.success and answer.message.startswith("executing; 0.")
    answer = call(robot, "run_policy/cancel")
    assert answer.success and answer.message == "stopping"

    def over() -> bool:
        robot.advance(0.02)
        return not call(robot, "run_policy/status").success

    wait_until(over, "the end of the goal")
    assert call(robot, "run_policy/status").message.startswith("canceled after ")
    assert not robot.node.motion_enable.enabled and robot.node.counts.stops == 1


def test_the_node_sleeps_while_a_goal_executes(begin):
    """A goal that waits in a coroutine would have the executor ask it without end."""
    robot, client = begin()
    client.ask()
    rounds = 0
    executor = robot._executors[0]
    spin = executor.spin_once

    def counted(*args: Any, **kwargs: Any) -> None:
        nonlocal rounds
        rounds += 1
        spin(*args, **kwargs)

    executor.spin_once = counted
    seen, begun = len(client.feedback), time.monotonic()
    robot.wait(lambda: len(client.feedback) >= seen + 5, "a second of feedback")
    # Timers wake it 70 times a second; one that does not sleep goes round thousands of times.
    assert rounds < 1000 * max(1.0, time.monotonic() - begun)
