"""How a report goes out over ROS: with diagnostic_updater and without."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from support.diagnostics_cases import report, stream
from support.domains import free_domain
from support.spinning import spin
from support.waiting import PATIENCE, wait_until

from pi0_ros.node.diagnostics import Report, diagnostics_message, statuses


class Heard:
    """A node, and a participant that hears /diagnostics."""

    def __init__(self, domain: int, **node_options: Any) -> None:
        rclpy = pytest.importorskip("rclpy")
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.lifecycle import LifecycleNode

        self.contexts = [rclpy.Context(), rclpy.Context()]
        for context in self.contexts:
            rclpy.init(context=context, domain_id=domain)
        options = {"context": self.contexts[0], **node_options}
        self.node = LifecycleNode("pi0", namespace="left", **options)
        self.ears = rclpy.create_node("ears", context=self.contexts[1])
        self.messages: list[DiagnosticArray] = []
        self.ears.create_subscription(DiagnosticArray, "/diagnostics", self.messages.append, 100)
        self.executors = [SingleThreadedExecutor(context=context) for context in self.contexts]
        for executor, node in zip(self.executors, (self.node, self.ears), strict=True):
            executor.add_node(node)
        self.threads: list[threading.Thread] = []

    def spin(self) -> None:
        self.threads = [spin(e) for e in self.executors]

    def wait_for(self, count: int) -> list:
        before = len(self.messages)
        wait_until(lambda: len(self.messages) >= before + count, f"{count} more messages")
        return self.messages[before:]

    def close(self) -> None:
        for executor in self.executors:
            executor.shutdown()
        for thread in self.threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        self.node.destroy_node()
        self.ears.destroy_node()
        for context in self.contexts:
            context.try_shutdown()


@pytest.fixture(params=["own", "diagnostic_updater"])
def begin(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Heard]]:
    """begin(**options of the node) -> Heard, for each of the two ways to publish."""
    pytest.importorskip("rclpy")
    from pi0_ros.node import diagnostics_publisher

    if request.param == "own":
        monkeypatch.setattr(diagnostics_publisher, "diagnostic_updater", None)
    else:
        pytest.importorskip("diagnostic_updater")
    running = []

    def start(**options: Any) -> Heard:
        running.append(Heard(free_domain(), **options))
        return running[-1]

    yield start
    for heard in running:
        heard.close()


def publisher_of(heard: Heard, make: Callable[[], Report] = report) -> Any:
    from pi0_ros.node.diagnostics_publisher import DiagnosticsPublisher

    return DiagnosticsPublisher(heard.node, make)


def test_once_a_second_of_wall_time_though_the_clock_stands_still(begin: Callable) -> None:
    from rclpy.parameter import Parameter

    heard = begin(parameter_overrides=[Parameter("use_sim_time", value=True)])
    publisher_of(heard)
    heard.spin()
    assert [timer.timer_period_ns for timer in heard.node.timers] == [10**9]
    for message in heard.wait_for(4):
        assert (message.header.stamp.sec, message.header.stamp.nanosec) == (0, 0), "of /clock"
        assert [s.name for s in message.status] == [s.name for s in statuses(report())]


def test_what_goes_out_is_the_report(begin: Callable) -> None:
    from rclpy.time import Time

    heard = begin()
    now = [report(streams=[stream("camera front", level="stale", detail="none\ncame")])]
    publisher_of(heard, lambda: now[0])
    heard.spin()

    def expect() -> None:
        clock = heard.node.get_clock()
        begun = clock.now()
        last = heard.wait_for(2)[-1]
        assert begun <= Time.from_msg(last.header.stamp, clock.clock_type) <= clock.now()
        expected = diagnostics_message(now[0], last.header.stamp)
        by_name = {s.name: s for s in last.status}
        assert len(by_name) == len(last.status)
        assert by_name == {s.name: s for s in expected.status}
        assert last.status[0].name == "pi0: observations"

    expect()
    now[0] = report(state="inactive", streams=[], ok=False, summary="not active")
    expect()
    now[0] = report(streams=[stream("camera wrist"), stream("joint states")])
    expect()


def test_at_once_when_asked_to(begin: Callable) -> None:
    heard = begin()
    publisher = publisher_of(heard)
    asked = [0]

    def ask() -> None:
        asked[0] += 1
        publisher.publish()

    heard.spin()
    heard.wait_for(1)
    for timer in heard.node.timers:
        timer.cancel()  # from here on there is no report but those asked for
    before = len(heard.messages)
    heard.node.create_timer(0.1, ask)
    wait_until(lambda: asked[0] >= 12, "12 requests")
    wait_until(lambda: len(heard.messages) - before >= 12, "12 reports")


def test_in_every_state_of_the_life_cycle(begin: Callable) -> None:
    heard = begin()
    node = heard.node

    def current() -> Report:
        return report(state=node._state_machine.current_state[1])

    publisher = publisher_of(heard, current)
    heard.spin()
    seen = []
    for step in (
        lambda: None,
        node.trigger_configure,
        node.trigger_activate,
        node.trigger_deactivate,
        node.trigger_cleanup,
        node.trigger_shutdown,
    ):
        step()
        publisher.publish()
        last = heard.wait_for(1)[-1].status[0]
        seen.append({pair.key: pair.value for pair in last.values}["state"])
    assert seen == [
        "unconfigured",
        "inactive",
        "active",
        "inactive",
        "unconfigured",
        "finalized",
    ]


def test_destroyed_it_leaves_nothing(begin: Callable) -> None:
    heard = begin()
    node = heard.node
    before = [set(node.timers), {p.topic_name for p in node.publishers}, set(node._parameters)]
    for _ in range(2):  # the second finds the place free
        publisher = publisher_of(heard)
        assert len(list(node.timers)) == len(before[0]) + 1
        publisher.publish()
        publisher.destroy()
        publisher.destroy()
        publisher.publish()
        after = [set(node.timers), {p.topic_name for p in node.publishers}, set(node._parameters)]
        assert after == before


def test_publishing_after_the_end_of_ros_is_no_error(begin: Callable) -> None:
    heard = begin()
    publisher = publisher_of(heard)
    heard.contexts[0].shutdown()
    publisher.publish()


def test_the_end_of_ros_while_a_report_is_made_is_no_error(begin: Callable) -> None:
    heard = begin()

    def make() -> Report:
        heard.contexts[0].try_shutdown()
        return report()

    publisher_of(heard, make).publish()


def test_a_report_that_cannot_be_made_is_an_error(begin: Callable) -> None:
    heard = begin()

    def make() -> Report:
        raise RuntimeError("no report")

    with pytest.raises(RuntimeError, match="no report"):
        publisher_of(heard, make).publish()


def test_diagnostic_updaters_period_and_full_name_are_obeyed() -> None:
    pytest.importorskip("diagnostic_updater")
    from rclpy.parameter import Parameter

    given = {"diagnostic_updater.period": 0.2, "diagnostic_updater.use_fqn": True}
    overrides = [Parameter(name, value=value) for name, value in given.items()]
    with closing(Heard(free_domain(), parameter_overrides=overrides)) as heard:
        publisher_of(heard)
        heard.spin()
        assert [timer.timer_period_ns for timer in heard.node.timers] == [200_000_000]
        came = heard.wait_for(6)
        if heard.node.has_parameter("diagnostic_updater.use_fqn"):  # Humble's has no such thing
            assert came[-1].status[0].name == "/left/pi0: observations"
