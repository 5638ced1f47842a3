"""Requests and answers that DDS loses."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rclpy")

from lifecycle_msgs.msg import Transition
from rclpy.task import Future

from pi0_ros.ros import services
from pi0_ros.ros.services import Refused, ServiceCall, StateChange

CONFIGURE = Transition.TRANSITION_CONFIGURE


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Steady time that stands still unless told."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(services.time, "monotonic", lambda: clock.now)
    return clock


class Service:
    """A client whose requests or answers are lost as told; `serve` gives the answer."""

    def __init__(self, serve: Any, requests_lost: int = 0, answers_lost: int = 0) -> None:
        self.serve, self.ready = serve, True
        self.requests_lost, self.answers_lost = requests_lost, answers_lost
        self.asked = self.served = 0

    def service_is_ready(self) -> bool:
        return self.ready

    def call_async(self, request: Any) -> Future:
        future = Future()
        self.asked += 1
        if self.asked > self.requests_lost:
            self.served += 1
            answer = self.serve(request)
            if self.served > self.answers_lost:
                future.set_result(answer)
        return future


def good(_: Any) -> Any:
    return SimpleNamespace(success=True, message="")


def polls(question: Any, clock: SimpleNamespace, seconds: float) -> Any:
    """Poll ten times a second until there is an answer or the time is over."""
    end = clock.now + seconds
    while clock.now < end:
        answer = question.poll()
        if answer:
            return answer
        clock.now += 0.1
    return None


@pytest.mark.parametrize("lost", [{}, {"requests_lost": 2}, {"answers_lost": 2}])
def test_it_is_asked_until_there_is_an_answer(clock, lost) -> None:
    service = Service(good, **lost)
    assert polls(ServiceCall(service, "request"), clock, 10.0).success
    assert service.asked == 1 + sum(lost.values())


def test_nothing_is_asked_before_the_service_is_there(clock) -> None:
    service = Service(good)
    service.ready = False
    question = ServiceCall(service, "request")
    assert polls(question, clock, 10.0) is None
    assert service.asked == 0
    service.ready = True
    assert polls(question, clock, 1.0).success


def test_what_must_not_be_repeated_is_not(clock) -> None:
    service = Service(good, answers_lost=1)
    assert polls(ServiceCall(service, "request", again=lambda: False), clock, 20.0) is None
    assert service.asked == 1


def test_a_no_is_an_error(clock) -> None:
    service = Service(lambda _: SimpleNamespace(success=False, message="latched"))
    with pytest.raises(Refused, match="latched"):
        polls(ServiceCall(service, "request"), clock, 1.0)


class Managed:
    """A managed node's two services."""

    def __init__(self, refuses: bool = False, **lost: int) -> None:
        self.state, self._refuses, self.destroyed = "unconfigured", refuses, 0
        self.change = Service(self._configure, **lost)
        self.get = Service(
            lambda _: SimpleNamespace(current_state=SimpleNamespace(label=self.state))
        )

    def _configure(self, request: Any) -> Any:
        assert request.transition.id == CONFIGURE
        if self._refuses or self.state != "unconfigured":
            return SimpleNamespace(success=False)
        self.state = "inactive"
        return SimpleNamespace(success=True)

    def create_client(self, kind: Any, name: str) -> Service:
        return self.get if name.endswith("get_state") else self.change

    def destroy_client(self, client: Service) -> None:
        self.destroyed += 1


@pytest.mark.parametrize("lost", [{}, {"requests_lost": 1}, {"requests_lost": 3}])
def test_a_transition_whose_request_was_lost_is_asked_again(clock, lost) -> None:
    node = Managed(**lost)
    changing = StateChange(node, "pi0", CONFIGURE)
    assert polls(changing, clock, 30.0) is True
    assert node.state == "inactive"
    assert node.change.served == 1
    changing.close()
    assert node.destroyed == (2 if lost else 1)


def test_a_transition_whose_answer_was_lost_is_not_asked_again(clock) -> None:
    node = Managed(answers_lost=1)
    assert polls(StateChange(node, "pi0", CONFIGURE), clock, 30.0) is True
    assert node.change.asked == 1


def test_a_transition_at_work_is_waited_for(clock) -> None:
    """A node that configures answers nothing meanwhile."""
    node = Managed(answers_lost=1)
    node.get.requests_lost = 10**6
    changing = StateChange(node, "pi0", CONFIGURE)
    assert polls(changing, clock, 60.0) is None
    node.get.requests_lost = 0
    assert polls(changing, clock, 10.0) is True
    assert node.change.asked == 1


@pytest.mark.parametrize("lost", [{}, {"answers_lost": 1}])
def test_a_transition_that_fails_is_an_error(clock, lost) -> None:
    with pytest.raises(Refused):
        polls(StateChange(Managed(refuses=True, **lost), "pi0", CONFIGURE), clock, 30.0)
