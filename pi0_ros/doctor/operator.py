"""Judging the operator's side: instruction, emergency stop and deadman."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pi0_ros.doctor.findings import FAIL, WARN, Finding, fail, ok, warn
from pi0_ros.doctor.samples import Collected
from pi0_ros.node.interface import Interface

LONG_INSTRUCTION = 200
"""Characters; pi0 reads 48 tokens, which are fewer, and cuts the rest."""


def judge_operator(interface: Interface, collected: Collected) -> list[Finding]:
    return [
        *_instruction(interface, collected),
        *_stop(interface, collected),
        *_deadman(interface, collected),
    ]


def _instruction(interface: Interface, collected: Collected) -> Iterator[Finding]:
    topic = interface.absolute("instruction")
    received = [text for _, text in collected.instructions]
    text = received[-1] if received else interface.parameters.instruction
    source = f"on {topic}" if received else "by parameter"
    if not text.strip():
        state = "empty" if received else "neither given by parameter nor received"
        if not received and collected.publishers.get(topic):
            state = f"not received, though {collected.publishers[topic][0].node} publishes {topic}"
        advice = f"-p instruction:='pick up the cube', or publish {topic}"
        yield fail("instruction", state, advice)
    elif len(text) > LONG_INSTRUCTION:
        shown = f"{len(text)} characters {source}: {text[:40]!r} ..."
        yield warn("instruction", shown, "pi0 reads 48 tokens and cuts the rest")
    else:
        several = f", {len(set(received))} different ones" if len(set(received)) > 1 else ""
        yield ok("instruction", f"{text!r} {source}{several}")


def _stop(interface: Interface, collected: Collected) -> Iterator[Finding]:
    topic = interface.absolute(interface.parameters.emergency_stop_topic)
    sources = [endpoint.node for endpoint in collected.publishers.get(topic, ())]
    several = len(sources) > 1 and any(on for _, on in collected.stops)
    if several or (collected.stops and collected.stops[-1][1]):
        text = f"{topic} is true: motion cannot be enabled"
        if several:
            text = f"one of {', '.join(sorted(sources))} says true on {topic}: a false of another"
            text += " releases nothing"
        advice = "release it, publish false, then call ~/reset"
        yield Finding(FAIL if collected.live else WARN, "stop", text, advice)
    elif collected.live and not collected.publishers.get(topic):
        text = f"nobody publishes the emergency stop {topic}"
        yield warn("stop", text, "publish it, or be sure to have another way to stop")
    elif collected.live or collected.stops:
        yield ok("stop", f"{topic} is published")


def _deadman(interface: Interface, collected: Collected) -> Iterator[Finding]:
    timeout = interface.parameters.deadman_timeout
    if not timeout:
        return
    topic = interface.absolute(interface.parameters.deadman_topic)
    gaps = np.diff([*collected.beats, collected.end]) / 1e9
    level = FAIL if collected.live else WARN
    if not collected.beats:
        text = f"{topic}: no heartbeat; one is needed every {timeout:g} s"
        yield Finding(level, "deadman", text, "hold the deadman, or set deadman_timeout to 0")
    elif gaps.max() > timeout:
        text = f"{topic}: {gaps.max():.2f} s without a heartbeat; {timeout:g} s are allowed"
        yield Finding(level, "deadman", text, "send it more often; each gap is a latched fault")
    else:
        text = f"{topic}: {len(collected.beats)} heartbeats, at most {gaps.max():.2f} s apart"
        yield ok("deadman", text)
