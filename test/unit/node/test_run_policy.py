"""Goals of ~/run_policy against a node that is faked: how they begin, and how they always brake."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rclpy")

from pi0_ros.action import RunPolicy

from pi0_ros.motion.enable import MotionEnable
from pi0_ros.motion.refusal import Reason, Refusal
from pi0_ros.node import run_policy
from pi0_ros.node.run_policy import RunPolicyServer, Surroundings


class Subscription:
    """Stands in for AnyQosSubscription."""

    def __init__(self, node: Any, kind: Any, topic: str, *_: Any, **__: Any) -> None:
        if topic == "/refused":
            raise RuntimeError("the middleware does not take it")
        self.closed = False

    def close(self) -> None:
        self.closed = True


class Handle:
    """A goal's handle; `ended` is how."""

    is_cancel_requested = False

    def __init__(self, prompt: str = "go", topic: str = "", seconds: int = 0) -> None:
        self.request = RunPolicy.Goal(prompt=prompt, success_topic=topic)
        self.request.max_duration.sec = seconds
        self.ended = ""

    def execute(self) -> None:
        pass

    def publish_feedback(self, _: Any) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        assert name in ("succeed", "abort", "canceled")
        return lambda: setattr(self, "ended", name)


class Robot:
    """The server with what surrounds it; `stops` counts how often it was told to brake."""

    def __init__(self) -> None:
        self.now, self.stops, self.moves = 0, 0, False
        self.results: list[RunPolicy.Result] = []
        self.faults: list[BaseException] = []
        self.enable = MotionEnable()
        timer = SimpleNamespace(cancel=lambda: None, reset=lambda: None)
        self.log = log = SimpleNamespace(info=lambda _: None, warning=lambda *_: None)
        clock = SimpleNamespace(now=lambda: SimpleNamespace(nanoseconds=self.now))
        node = SimpleNamespace(
            create_service=lambda *_: None,
            create_timer=lambda *_, **__: timer,
            get_clock=lambda: clock,
            get_logger=lambda: log,
            resolve_topic_name=lambda name: name,
            get_topic_names_and_types=lambda: [],
        )
        self.loop = SimpleNamespace(
            buffer=SimpleNamespace(
                prompt_problem=lambda _: "", put_instruction=lambda _: "", instruction="go"
            ),
            executor=SimpleNamespace(rests=lambda _: not self.moves),
            reset=lambda: None,
            progress=SimpleNamespace(refusal=None),
            observed=None,
        )
        around = Surroundings(
            lambda: self.loop,
            lambda: "active",
            self._enable,
            lambda: self.stop(),
            lambda: self.executed(),
            self.faults.append,
        )
        self.task = RunPolicyServer(node, around, self.enable, log)

    def _enable(self) -> tuple[bool, str]:
        problem = self.task.enable_problem() or self.enable.enable(0.0)
        self.moves = not problem
        return not problem, problem

    def executed(self) -> int:
        return 0

    def stop(self) -> None:
        assert not self.enable.enabled
        self.stops += 1


@pytest.fixture
def robot(monkeypatch: pytest.MonkeyPatch) -> Robot:
    monkeypatch.setattr(run_policy, "AnyQosSubscription", Subscription)
    finish = lambda handle, result: made.results.append(result)  # noqa: E731
    stub = SimpleNamespace(finish=finish, destroy=lambda: None)
    monkeypatch.setattr(run_policy, "_Server", lambda *_, **__: stub)
    made = Robot()
    return made


@pytest.mark.parametrize("topic", ["/a__b", "/" + "a" * 300, "/refused", "/no topic"])
def test_a_success_topic_that_cannot_be_heard_enables_nothing(robot: Robot, topic: str) -> None:
    handle = Handle(topic=topic)
    robot.task._on_accepted(handle)
    assert handle.ended == "abort" and not robot.task.running and not robot.enable.enabled
    assert robot.results[0].error_code == RunPolicy.Result.INVALID_GOAL


def test_a_goal_that_fails_to_begin_disables_what_it_enabled(robot: Robot) -> None:
    def broken() -> None:
        raise KeyError("reset")

    robot.loop.reset = broken
    handle = Handle(topic="/done")
    robot.task._on_accepted(handle)
    assert not robot.enable.enabled and robot.stops == 1
    assert handle.ended == "abort" and not robot.task.running
    assert "could not begin: KeyError: 'reset'" in robot.results[0].error_msg
    answer = robot.task._on_start(None, SimpleNamespace())
    assert not answer.success and "could not begin" in answer.message
    assert [type(fault) for fault in robot.faults] == [KeyError, KeyError]
    robot.loop.reset = lambda: None
    robot.task._on_accepted(Handle())
    assert robot.task.running and robot.enable.enabled


def broken(*_: Any, **__: Any) -> None:
    raise RuntimeError("a test")


BREAKS = {
    "the subscription": lambda robot: (robot.task._goal.success, "close"),
    "the count": lambda robot: (robot, "executed"),
    "the log": lambda robot: (robot.log, "info"),
    "a field of the result": lambda _: (run_policy, "Duration"),
}
"""What may fail while a goal ends."""


@pytest.mark.parametrize("what", BREAKS)
@pytest.mark.parametrize("wanted", ["success", "cancel", "deactivate"])
def test_where_ending_a_goal_fails_the_client_gets_a_result(
    robot: Robot, monkeypatch: pytest.MonkeyPatch, what: str, wanted: str
) -> None:
    handle = Handle(topic="/done")
    robot.task._on_accepted(handle)
    monkeypatch.setattr(*BREAKS[what](robot), broken)
    robot.moves = False
    if wanted == "success":
        robot.task._on_success(robot.task._goal, True)
    handle.is_cancel_requested = wanted == "cancel"
    if wanted == "deactivate":
        robot.enable.disable("the node was deactivated")
        robot.task.deactivate()
    else:
        robot.task._look()
    (result,) = robot.results
    assert handle.ended == "abort" and not robot.task.running and not robot.enable.enabled
    assert (result.error_code, result.termination) == (RunPolicy.Result.POLICY_FAILED, "failed")
    assert "RuntimeError: a test" in result.error_msg
    status = robot.task._on_status(None, SimpleNamespace())
    assert not status.success and "a test" in status.message
    assert [str(fault) for fault in robot.faults] == ["a test"]


@pytest.mark.parametrize("name", ["abort", "canceled", "succeed"])
def test_a_goal_whose_state_cannot_be_set_has_a_result(robot: Robot, name: str) -> None:
    handle = Handle(topic="/done")
    robot.task._on_accepted(handle)
    setattr(handle, name, broken)
    robot.moves = False
    handle.is_cancel_requested = name == "canceled"
    if name == "succeed":
        robot.task._on_success(robot.task._goal, True)
    elif name == "abort":
        robot.enable.disable("a test")
    robot.task._look()
    assert len(robot.results) == 1 and not robot.task.running
    assert [str(fault) for fault in robot.faults] == ["a test"]


def test_where_braking_fails_the_goal_ends(robot: Robot) -> None:
    cancel = lambda: robot.task._on_cancel_service(None, SimpleNamespace())  # noqa: E731
    for end in (robot.task.deactivate, cancel):
        handle = Handle()
        robot.task._on_accepted(handle)
        robot.stop, robot.moves = broken, False
        robot.enable.disable("a test")
        end()
        robot.task._look()
        assert handle.ended == "abort" and not robot.task.running
    assert [str(fault) for fault in robot.faults] == ["a test"] * 2


def test_what_a_policy_raised_can_be_sent(robot: Robot, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file's name may hold bytes that are no UTF-8, and rclpy sends no such text."""
    monkeypatch.setattr(run_policy, "PATIENCE", 0.0)
    handle = Handle()
    robot.task._on_accepted(handle)
    robot.loop.progress.refusal = Refusal(Reason.FAILED, "no file \udcff")
    robot.moves = False
    robot.task._look()
    assert handle.ended == "abort" and "no file" in robot.results[0].error_msg
    robot.results[0].error_msg.encode()


def test_deactivating_brakes(robot: Robot) -> None:
    handle = Handle()
    robot.task._on_accepted(handle)
    robot.enable.disable("the node was deactivated")
    robot.task.deactivate()
    assert robot.stops == 1 and handle.ended == "abort"


def test_nothing_is_enabled_while_a_goal_stops(robot: Robot) -> None:
    robot.task._on_accepted(Handle())
    robot.task._on_cancel_service(None, SimpleNamespace())
    assert "is stopping" in robot._enable()[1] and not robot.enable.enabled
    robot.moves = False
    robot.task._look()
    assert not robot.task.running and robot._enable()[0]


def test_a_goal_that_stops_can_be_stopped_again(robot: Robot) -> None:
    handle = Handle()
    robot.task._on_accepted(handle)
    goal = robot.task._goal
    robot.task._on_success(goal, True)
    robot.enable.enabled = True  # by whatever means
    robot.task._on_cancel_service(None, SimpleNamespace())
    assert not robot.enable.enabled and robot.stops == 2
    robot.moves = False
    robot.task._look()
    assert handle.ended == "succeed"


def test_a_clock_that_jumps_back_does_not_prolong_a_goal(robot: Robot) -> None:
    """As /clock does when a recording that is shorter than max_duration loops."""
    robot.now = 100 * 10**9
    handle = Handle(seconds=25)
    robot.task._on_accepted(handle)
    for _ in range(3):  # 27 s in all
        robot.now += 9 * 10**9
        robot.task._look()
        robot.now -= 9 * 10**9
        robot.task._look()
    robot.moves = False
    robot.task._look()
    assert handle.ended == "abort" and robot.results[0].termination == "timed out"
    assert robot.results[0].elapsed.sec == 27


def test_a_negative_duration_is_refused(robot: Robot) -> None:
    robot.task._on_accepted(Handle(seconds=-1))
    assert robot.results[0].error_code == RunPolicy.Result.INVALID_GOAL
    assert not robot.enable.enabled
