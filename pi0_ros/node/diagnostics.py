"""What /diagnostics tells: the node's figures as plain data, and the statuses made of them.

One status, named "<node>: <about>" as REP 107 wants it, for each of
observations: what became of the ticks, and what the node is doing;
camera <name>, joint states, instruction: one per input stream;
output <name>: one per controller ("all" where one has all joints);
inference: how long the stages take, and whether the policy works;
limits: what was clamped and rejected, and whether trajectories go out;
real-time chunking, unless it is off: delays, and why chunks were made without it;
memory: of the process and of the device.

Pure Python but for the messages that `fill` and `diagnostics_message` make.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pi0_ros.motion.refusal import REJECTIONS, Reason, Refusal
from pi0_ros.motion.rtc import RtcCounts
from pi0_ros.node.progress import Counts
from pi0_ros.node.stream_health import Level, StreamStatus
from pi0_ros.ros.throttle import printable

if TYPE_CHECKING:
    from builtin_interfaces.msg import Time
    from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus

    from pi0_ros.node.outputs import OutputStatus

LONGEST_MESSAGE = 4000
"""Characters of a status's message; a failed preflight may list much."""

_LEVELS: Mapping[Level, bytes] = {
    "ok": b"\x00",
    "warn": b"\x01",
    "error": b"\x02",
    "stale": b"\x03",
}
_OF_POLICY = (Reason.FAILED, Reason.TIMEOUT)


@dataclass(frozen=True)
class Report:
    """Everything that a message is made of.

    Attributes:
        node: its name.
        state: of the life cycle: active, inactive, ...
        ok, summary: whether chunks come as they should, and the state in a sentence.
        streams: every input; none unless the node is active.
        outputs: every output.
        timings: stage -> p50, p95, p99 in seconds; `inference` is decoding and all of the policy.
        period: seconds between two ticks.
        queue: jobs that wait for the worker or run in it.
        running_for: seconds of the job that runs; None while none runs.
        enabled: trajectories are published.
        latched: why they are not until ~/reset; "" if nothing is latched.
        limits_loaded: the joints' limits are known.
        tracking: seconds by which the arm lags behind its setpoint (NaN: not known), and unit ->
            largest tracking error of its joints; None unless the node is active.
        memory: bytes by name; see `pi0_ros.node.memory.memory`.
        refusal: what the last tick was refused for; None when a chunk came since.
        rtc: the parameter.
        rtc_delay: steps that real-time chunking reckons with; None: not known.
        rtc_counts: of real-time chunking.
    """

    node: str
    state: str
    counts: Counts
    ok: bool
    summary: str
    streams: Sequence[StreamStatus]
    outputs: Sequence[OutputStatus]
    timings: Mapping[str, Mapping[str, float]]
    period: float
    queue: int
    running_for: float | None
    enabled: bool
    latched: str
    limits_loaded: bool
    memory: Mapping[str, int]
    refusal: Refusal | None = None
    tracking: tuple[float, Mapping[str, float]] | None = None
    rtc: str = "off"
    rtc_delay: int | None = None
    rtc_counts: RtcCounts = field(default_factory=RtcCounts)


@dataclass(frozen=True)
class Status:
    """A diagnostic_msgs/DiagnosticStatus in plain data; `name` is "<node>: <about>"."""

    name: str
    level: Level
    message: str
    values: Mapping[str, str]


def statuses(report: Report) -> list[Status]:
    """All statuses, "observations" first."""
    entries = {
        "observations": _observations(report),
        **{stream.name: _stream(stream) for stream in report.streams},
        **{f"output {output.name}": _output(output, report) for output in report.outputs},
        "inference": _inference(report),
        "limits": _limits(report),
        **({"real-time chunking": _rtc(report)} if report.rtc != "off" else {}),
        "memory": _memory(report),
    }
    return [
        Status(f"{report.node}: {about}", level, message, _strings(values))
        for about, (level, message, values) in entries.items()
    ]


def diagnostics_message(report: Report, stamp: Time) -> DiagnosticArray:
    """diagnostic_msgs/DiagnosticArray of a report; `stamp` in the node's time."""
    from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus

    message = DiagnosticArray()
    message.header.stamp = stamp
    for status in statuses(report):
        message.status.append(fill(DiagnosticStatus(name=status.name), status))
    return message


def fill(message: DiagnosticStatus, status: Status) -> DiagnosticStatus:
    """Put a status into a message, all but its name, and return that; it is no hardware's."""
    from diagnostic_msgs.msg import KeyValue

    message.level = _LEVELS[status.level]
    message.message = _text(status.message)
    message.hardware_id = ""
    pairs = status.values.items()
    message.values = [KeyValue(key=_text(key), value=_text(value)) for key, value in pairs]
    return message


_Entry = tuple[Level, str, Mapping[str, object]]  # level, message, values


def _observations(report: Report) -> _Entry:
    counts = report.counts
    values = {
        "ticks": counts.ticks,
        "busy": counts.busy,
        "chunks": counts.chunks,
        "trajectories": counts.trajectories,
        **{f"refused.{reason}": count for reason, count in sorted(counts.refused.items())},
        "errors": counts.errors,
        "state": report.state,
    }
    return ("ok" if report.ok else "warn"), report.summary, values


def _stream(stream: StreamStatus) -> _Entry:
    values = {
        "topic": stream.topic,
        "received": stream.received,
        "rate_hz": _number(stream.rate, 1),
        "age_s": _number(stream.age, 3),
        **{f"dropped.{reason}": count for reason, count in sorted(stream.dropped.items())},
    }
    return stream.level, stream.detail or "fresh", values


def _output(output: OutputStatus, report: Report) -> _Entry:
    values = {
        "topic": output.topic,
        "type": output.type,
        "joints": ", ".join(output.joints),
        "subscribers": output.subscribers,
        "sent": output.sent,
    }
    if output.late is not None:
        values |= {"late": output.late, "delay_s": _number(output.delay, 3)}
    if output.subscribers:
        return "ok", f"{output.subscribers} subscribe", values
    level: Level = "error" if report.enabled else "warn"
    return level, f"no controller subscribes to {output.topic}", values


def _inference(report: Report) -> _Entry:
    values = {
        "deadline_misses": report.counts.deadline_misses,
        "period_ms": _number(report.period * 1e3, 1),
        "queue": report.queue,
        "running_for_s": _number(report.running_for, 1),
    }
    for stage, seconds in report.timings.items():
        for name, value in seconds.items():
            values[f"{stage}.{name}_ms"] = _number(value * 1e3, 2)
    return (*_inference_level(report), values)


def _inference_level(report: Report) -> tuple[Level, str]:
    refusal, running_for, period = report.refusal, report.running_for, report.period
    if report.state != "active":
        return "ok", report.state
    if refusal and refusal.reason in _OF_POLICY:
        return "error", refusal.detail
    if refusal and refusal.reason == Reason.EXPIRED:
        return "warn", refusal.detail
    if running_for is not None and running_for > period:
        return "warn", f"a job has been running for {running_for:.1f} s, a period is {period:.3f} s"
    if "inference" not in report.timings:
        return "ok", "none yet"
    p50, p99 = report.timings["inference"]["p50"], report.timings["inference"]["p99"]
    took = f"it takes {p50 * 1e3:.1f} ms (median), {p99 * 1e3:.1f} ms (p99)"
    if p50 > period:
        return "warn", f"{took}, longer than a period of {period * 1e3:.1f} ms; lower rate_hz"
    return "ok", took


def _limits(report: Report) -> _Entry:
    counts = report.counts
    values = {
        "enabled": report.enabled,
        "latched": report.latched,
        "loaded": report.limits_loaded,
        "rejected": counts.rejected,
        "clamped": counts.clamped.total(),
        **{f"clamped.{what}": count for what, count in sorted(counts.clamped.items())},
        "stops": counts.stops,
    }
    if report.tracking is not None:
        lag, errors = report.tracking
        values["tracking_lag_s"] = "" if math.isnan(lag) else _number(lag, 2)
        values |= {f"tracking_error_{unit}": _number(e, 3) for unit, e in errors.items()}
    return (*_limits_level(report), values)


def _limits_level(report: Report) -> tuple[Level, str]:
    refusal = report.refusal
    if report.latched:
        return "error", f"latched by {report.latched}; call ~/reset"
    if refusal and refusal.reason in REJECTIONS:
        return "warn", f"rejected ({refusal.reason}): {refusal.detail}"
    if report.state not in ("active", "inactive"):
        return "ok", report.state
    if not report.limits_loaded:
        return "warn", "no joint limits are known, so nothing can be enabled: dry runs only"
    return "ok", "enabled" if report.enabled else "not enabled: a dry run"


def _rtc(report: Report) -> _Entry:
    counts, delay = report.rtc_counts, report.rtc_delay
    fallbacks = counts.fallbacks.total()
    values = {
        "mode": report.rtc,
        "delay_steps": "" if delay is None else delay,
        "used": counts.used,
        "fallbacks": fallbacks,
        **{f"fallback.{cause}": count for cause, count in sorted(counts.fallbacks.items())},
        **{f"delay.{steps}": count for steps, count in sorted(counts.delays.items())},
    }
    late = counts.fallbacks["late"]
    if late:
        return "warn", f"{late} chunks only blended: the delay is longer than allowed", values
    known = "no delay known yet" if delay is None else f"a delay of {delay} steps"
    return "ok", f"{report.rtc}, {known}", values


def _memory(report: Report) -> _Entry:
    values = {f"{name}_mb": _number(size / 1e6, 1) for name, size in report.memory.items()}
    named = {"process_rss": "this process", "device_allocated": "on the device"}
    parts = [
        f"{report.memory[name] / 1e6:.0f} MB {words}"
        for name, words in named.items()
        if name in report.memory
    ]
    return "ok", ", ".join(parts) or "not known", values


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _strings(values: Mapping[str, object]) -> dict[str, str]:
    return {key: str(value) for key, value in values.items()}


def _text(text: str) -> str:
    """Users' bytes may be in it: a lone surrogate would end the publisher, NUL the text."""
    return printable(text, "\n", LONGEST_MESSAGE)
