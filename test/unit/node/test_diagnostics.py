"""Statuses of a report, and the message that they make."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from support.diagnostics_cases import output, report, stream

from pi0_ros.motion.refusal import Refusal
from pi0_ros.node.diagnostics import Status, diagnostics_message, statuses
from pi0_ros.node.progress import Counts

OK, WARN, ERROR, STALE = b"\x00", b"\x01", b"\x02", b"\x03"


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
        "pi0: output arm",
        "pi0: inference",
        "pi0: limits",
        "pi0: memory",
    ]
    assert {s.level for s in told} == {"ok"}


def test_tracking_errors_have_their_unit() -> None:
    told = status("limits", tracking=(0.06, {"rad": 0.0123, "m": 0.004}))
    assert told.values["tracking_error_rad"] == "0.012"
    assert told.values["tracking_error_m"] == "0.004"
    assert told.values["tracking_lag_s"] == "0.06"


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


def test_an_output_shows_who_listens_and_how_late_its_samples_are() -> None:
    told = status("output arm")
    assert (told.level, told.message) == ("ok", "1 subscribe")
    assert told.values == {
        "topic": "/arm_controller/joint_trajectory",
        "type": "trajectory_msgs/JointTrajectory",
        "joints": "pan, lift",
        "subscribers": "1",
        "sent": "12",
    }
    alone = output("gripper", topic="/gripper/commands", subscribers=0, late=3, delay=0.0312)
    told = status("output gripper", outputs=[output("arm"), alone])
    assert (told.level, told.message) == ("error", "no controller subscribes to /gripper/commands")
    assert (told.values["late"], told.values["delay_s"]) == ("3", "0.031")
    assert status("output gripper", outputs=[alone], enabled=False).level == "warn"


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


SLOW = {"inference": {"p50": 0.3, "p95": 0.3, "p99": 0.3}}


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
        ("pi0: output arm", OK),
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
