"""Statuses of a report, and how they go out: with diagnostic_updater and without."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from node_harness import wait_until

from pi0_ros.node.diagnostics import Counts, Report, Status, diagnostics_message, statuses
from pi0_ros.node.refusal import Refusal

OK, WARN, ERROR, STALE = b"\x00", b"\x01", b"\x02", b"\x03"


def stream(name: str, **changes: Any) -> SimpleNamespace:
    fine = {
        "name": name,
        "topic": f"/{name}",
        "received": 30,
        "rate": 29.97,
        "age": 0.0123,
        "dropped": {},
        "detail": "",
        "level": "ok",
    }
    return SimpleNamespace(**(fine | changes))


def report(**changes: Any) -> Report:
    """Of an active and enabled node that is well."""
    fine = Report(
        node="pi0",
        state="active",
        counts=Counts(ticks=7, busy=1, chunks=4, trajectories=3, refused=Counter(stale=2)),
        ok=True,
        summary="publishing",
        streams=[stream("camera front"), stream("joint states"), stream("instruction")],
        timings={"model": (0.04, 0.05, 0.06), "inference": (0.0412, 0.05, 0.0634)},
        period=0.1,
        queue=0,
        running_for=None,
        enabled=True,
        latched="",
        limits_loaded=True,
        memory={"process_rss": 312_400_000},
    )
    return replace(fine, **changes)


def status(about: str, **changes: Any) -> Status:
    (found,) = (s for s in statuses(report(**changes)) if s.name == f"pi0: {about}")
    return found


def test_all_is_well() -> None:
    told = statuses(report())
    assert [s.name for s in told] == [
        "pi0: observations",
        "pi0: camera front",
        "pi0: joint states",
        "pi0: instruction",
        "pi0: inference",
        "pi0: limits",
        "pi0: memory",
    ]
    assert {s.level for s in told} == {"ok"}


def test_observations_hold_the_counters() -> None:
    told = status("observations")
    assert told.message == "publishing"
    assert (
        told.values.items()
        >= {
            "ticks": "7",
            "busy": "1",
            "chunks": "4",
            "trajectories": "3",
            "refused.stale": "2",
            "state": "active",
        }.items()
    )
    bad = status("observations", ok=False, summary="refused (stale): camera front", state="x")
    assert (bad.level, bad.message, bad.values["state"]) == (
        "warn",
        "refused (stale): camera front",
        "x",
    )


@pytest.mark.parametrize("level", ["ok", "warn", "error", "stale"])
def test_a_stream_keeps_its_level_and_reasons(level: str) -> None:
    wrong = stream("camera front", level=level, detail="0.4 s old", dropped={"malformed": 3})
    told = status("camera front", streams=[wrong])
    assert (told.level, told.message) == (level, "0.4 s old")
    assert told.values == {
        "topic": "/camera front",
        "received": "30",
        "rate_hz": "30.0",
        "age_s": "0.012",
        "dropped.malformed": "3",
    }


def test_a_stream_that_never_came_has_no_figures() -> None:
    silent = stream("camera front", received=0, rate=None, age=None, level="stale")
    values = status("camera front", streams=[silent]).values
    assert (values["received"], values["rate_hz"], values["age_s"]) == ("0", "", "")


def test_inference_tells_percentiles_in_milliseconds() -> None:
    counts = Counts(deadline_misses=5)
    told = status("inference", counts=counts, queue=1, running_for=0.05)
    assert told.message == "it takes 41.2 ms (median), 63.4 ms (p99)"
    assert told.values == {
        "deadline_misses": "5",
        "period_ms": "100.0",
        "queue": "1",
        "running_for_s": "0.1",
        "model.p50_ms": "40.00",
        "model.p95_ms": "50.00",
        "model.p99_ms": "60.00",
        "inference.p50_ms": "41.20",
        "inference.p95_ms": "50.00",
        "inference.p99_ms": "63.40",
    }


SLOW = {"inference": (0.3, 0.3, 0.3)}


@pytest.mark.parametrize(
    ("changes", "level", "words"),
    [
        ({"refusal": Refusal("failed", "ValueError: no")}, "error", "ValueError: no"),
        ({"refusal": Refusal("timeout", "it runs for 9 s; given up")}, "error", "given up"),
        ({"refusal": Refusal("expired", "all 50 steps are past")}, "warn", "50 steps"),
        ({"refusal": Refusal("stale", "camera front")}, "ok", "41.2 ms"),
        ({"running_for": 2.5}, "warn", "2.5 s"),
        ({"running_for": 0.09}, "ok", "41.2 ms"),
        ({"timings": SLOW}, "warn", "rate_hz"),
        ({"timings": {}}, "ok", "none yet"),
        ({"running_for": 60.0, "state": "configuring", "timings": SLOW}, "ok", "configuring"),
    ],
)
def test_level_of_inference(changes: dict, level: str, words: str) -> None:
    told = status("inference", **changes)
    assert told.level == level and words in told.message


@pytest.mark.parametrize(
    ("changes", "level", "words"),
    [
        ({}, "ok", "enabled"),
        ({"enabled": False}, "ok", "dry run"),
        ({"latched": "the emergency stop"}, "error", "the emergency stop"),
        ({"latched": "the emergency stop", "state": "unconfigured"}, "error", "~/reset"),
        ({"refusal": Refusal("nonfinite", "pan: NaN")}, "warn", "pan: NaN"),
        ({"refusal": Refusal("limits", "pan: 9 rad, max_jump 0.2")}, "warn", "max_jump 0.2"),
        ({"refusal": Refusal("failed", "ValueError: no")}, "ok", "enabled"),
        ({"refusal": Refusal("limits", "pan"), "latched": "5 rejected"}, "error", "5 rejected"),
        ({"limits_loaded": False}, "warn", "dry runs only"),
        ({"limits_loaded": False, "state": "inactive"}, "warn", "dry runs only"),
        ({"limits_loaded": False, "state": "unconfigured"}, "ok", "unconfigured"),
    ],
)
def test_level_of_limits(changes: dict, level: str, words: str) -> None:
    told = status("limits", **changes)
    assert told.level == level and words in told.message


def test_values_of_limits() -> None:
    counts = Counts(clamped=Counter(velocity=4, position=1), rejected=2, stops=3)
    assert status("limits", counts=counts, latched="the deadman").values == {
        "enabled": "True",
        "latched": "the deadman",
        "loaded": "True",
        "rejected": "2",
        "clamped": "5",
        "clamped.position": "1",
        "clamped.velocity": "4",
        "stops": "3",
    }


def test_memory() -> None:
    told = status("memory", memory={"process_rss": 312_400_000, "device_allocated": 7_000_000_000})
    assert told.message == "312 MB this process, 7000 MB on the device"
    assert told.values == {"process_rss_mb": "312.4", "device_allocated_mb": "7000.0"}
    assert status("memory", memory={}).message == "not known"


# As messages ------------------------------------------------------------------------------------


def test_message() -> None:
    pytest.importorskip("diagnostic_msgs")
    from builtin_interfaces.msg import Time

    streams = [stream("camera front", level="stale", detail="no image yet")]
    stamp = Time(sec=3, nanosec=4)
    message = diagnostics_message(report(streams=streams, latched="the deadman", ok=False), stamp)
    assert message.header.stamp == stamp
    assert [(s.name, s.level) for s in message.status] == [
        ("pi0: observations", WARN),
        ("pi0: camera front", STALE),
        ("pi0: inference", OK),
        ("pi0: limits", ERROR),
        ("pi0: memory", OK),
    ]
    assert {s.hardware_id for s in message.status} == {""}
    assert ("ticks", "7") in [(pair.key, pair.value) for pair in message.status[0].values]


def test_bytes_that_are_no_text_do_not_end_the_publisher() -> None:
    pytest.importorskip("diagnostic_msgs")
    from builtin_interfaces.msg import Time
    from rclpy.serialization import serialize_message

    odd = b"2 problems:\n- \xff\0".decode(errors="surrogateescape")
    streams = [stream("camera front", detail=odd, topic=odd, dropped={odd: 1})]
    message = diagnostics_message(report(summary=odd + "x" * 100_000, streams=streams), Time())
    assert len(serialize_message(message)) < 20_000
    assert message.status[0].message.startswith("2 problems:\n- \\udcff\\x00xxx")


# Over ROS ---------------------------------------------------------------------------------------


class Heard:
    """A participant that hears /diagnostics, with the wall times at which they came."""

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
        self.messages: list[tuple[float, DiagnosticArray]] = []
        self.ears.create_subscription(
            DiagnosticArray,
            "/diagnostics",
            lambda message: self.messages.append((time.monotonic(), message)),
            100,
        )
        self.executors = [SingleThreadedExecutor(context=context) for context in self.contexts]
        for executor, node in zip(self.executors, (self.node, self.ears), strict=True):
            executor.add_node(node)
        self.threads: list[threading.Thread] = []

    def spin(self) -> None:
        self.threads = [threading.Thread(target=e.spin, daemon=True) for e in self.executors]
        for thread in self.threads:
            thread.start()

    def wait_for(self, count: int) -> list:
        before = len(self.messages)
        wait_until(lambda: len(self.messages) >= before + count, f"{count} more messages")
        return self.messages[before:]

    def close(self) -> None:
        for executor in self.executors:
            executor.shutdown()
        for thread in self.threads:
            thread.join(10)
            assert not thread.is_alive()
        self.node.destroy_node()
        self.ears.destroy_node()
        for context in self.contexts:
            context.try_shutdown()


@pytest.fixture(params=["own", "diagnostic_updater"])
def begin(
    request: pytest.FixtureRequest, domains: Iterator[int], monkeypatch: pytest.MonkeyPatch
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
        running.append(Heard(next(domains), **options))
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
    came = heard.wait_for(4)
    gaps = [after - before for (before, _), (after, _) in itertools.pairwise(came)]
    assert 0.8 < sum(gaps) / 3 < 1.3, gaps
    for _, message in came:
        assert (message.header.stamp.sec, message.header.stamp.nanosec) == (0, 0), "of /clock"
        assert [s.name for s in message.status] == [s.name for s in statuses(report())]


def test_what_goes_out_is_the_report(begin: Callable) -> None:
    heard = begin()
    now = [report(streams=[stream("camera front", level="stale", detail="none\ncame")])]
    publisher_of(heard, lambda: now[0])
    heard.spin()

    def expect() -> None:
        expected = diagnostics_message(now[0], heard.node.get_clock().now().to_msg())
        last = heard.wait_for(2)[-1][1]
        by_name = {s.name: s for s in last.status}
        assert len(by_name) == len(last.status)
        assert by_name == {s.name: s for s in expected.status}
        assert last.status[0].name == "pi0: observations"
        assert abs(last.header.stamp.sec - expected.header.stamp.sec) <= 2

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
    heard.node.create_timer(0.1, ask)
    begun, before = time.monotonic(), len(heard.messages)
    wait_until(lambda: asked[0] >= 12, "12 requests")
    wait_until(lambda: len(heard.messages) - before >= 12, "12 reports")
    assert time.monotonic() - begun < 6.0
    assert len(heard.messages) - before <= asked[0], "none but those asked for"


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
        last = heard.wait_for(1)[-1][1].status[0]
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


def test_diagnostic_updaters_period_and_full_name_are_obeyed(domains: Iterator[int]) -> None:
    pytest.importorskip("diagnostic_updater")
    from rclpy.parameter import Parameter

    given = {"diagnostic_updater.period": 0.2, "diagnostic_updater.use_fqn": True}
    overrides = [Parameter(name, value=value) for name, value in given.items()]
    with closing(Heard(next(domains), parameter_overrides=overrides)) as heard:
        publisher_of(heard)
        heard.spin()
        begun = time.monotonic()
        came = heard.wait_for(6)
        assert time.monotonic() - begun < 5.0
        if heard.node.has_parameter("diagnostic_updater.use_fqn"):  # Humble's has no such thing
            assert came[-1][1].status[0].name == "/left/pi0: observations"
