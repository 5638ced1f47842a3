"""Judging what commands the node and what it commands: instruction, stops, controller."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pi0_ros.doctor.findings import FAIL, PASS, WARN, Finding
from pi0_ros.doctor.samples import Collected, Settings

LONG_INSTRUCTION = 200
"""Characters; pi0 reads 48 tokens, which are fewer, and cuts the rest."""


def judge_commands(settings: Settings, collected: Collected) -> list[Finding]:
    """All findings about the instruction, the emergency stop, the deadman and the controller."""
    return [
        *_instruction(settings, collected),
        *_stop(settings, collected),
        *_deadman(settings, collected),
        *_controller(settings, collected),
    ]


def _instruction(settings: Settings, collected: Collected) -> Iterator[Finding]:
    topic = settings.names["instruction"]
    given = settings.parameters.instruction
    heard = [text for _, text in collected.instructions]
    text = heard[-1] if heard else given
    source = f"on {topic}" if heard else "by parameter"
    if not text.strip():
        state = "empty" if heard else "neither given by parameter nor heard"
        if not heard and collected.publishers.get(topic):
            state = f"not heard, though {collected.publishers[topic][0].node} publishes {topic}"
        advice = f"-p instruction:='pick up the cube', or publish {topic}"
        yield Finding(FAIL, "instruction", f"{state}", advice)
    elif len(text) > LONG_INSTRUCTION:
        shown = f"{len(text)} characters {source}: {text[:40]!r} ..."
        yield Finding(WARN, "instruction", shown, "pi0 reads 48 tokens and cuts the rest")
    else:
        several = f", {len(set(heard))} different ones" if len(set(heard)) > 1 else ""
        yield Finding(PASS, "instruction", f"{text!r} {source}{several}")


def _stop(settings: Settings, collected: Collected) -> Iterator[Finding]:
    topic = settings.names[settings.parameters.emergency_stop_topic]
    if collected.stops and collected.stops[-1][1]:
        level = FAIL if collected.live else WARN
        text = f"{topic} says stop: trajectories cannot be enabled"
        yield Finding(level, "stop", text, "release it, publish false, then call ~/reset")
    elif collected.live and not collected.publishers.get(topic):
        text = f"nobody publishes the emergency stop {topic}"
        yield Finding(WARN, "stop", text, "publish it, or be sure to have another way to stop")
    elif collected.live or collected.stops:
        yield Finding(PASS, "stop", f"{topic} is there")


def _deadman(settings: Settings, collected: Collected) -> Iterator[Finding]:
    timeout = settings.parameters.deadman_timeout
    if not timeout:
        return
    topic = settings.names[settings.parameters.deadman_topic]
    gaps = np.diff([*collected.beats, collected.end]) / 1e9
    level = FAIL if collected.live else WARN
    if not collected.beats:
        text = f"{topic}: no heartbeat, and one is needed every {timeout:g} s"
        yield Finding(level, "deadman", text, "hold the deadman, or set deadman_timeout to 0")
    elif gaps.max() > timeout:
        text = f"{topic}: {gaps.max():.2f} s without a heartbeat, allowed are {timeout:g} s"
        yield Finding(level, "deadman", text, "send it more often; each gap latches the node")
    else:
        text = f"{topic}: {len(collected.beats)} heartbeats, at most {gaps.max():.2f} s apart"
        yield Finding(PASS, "deadman", text)


def _controller(settings: Settings, collected: Collected) -> Iterator[Finding]:
    """Who listens to the trajectories, and who else sends some."""
    if not collected.live:
        return
    topic = settings.names["~/joint_trajectory"]
    listeners = sorted(e.node for e in collected.subscribers.get(topic, ()))
    rivals = sorted(e.node for e in collected.publishers.get(topic, ()) if e.node != settings.node)
    if rivals:
        text = f"{topic}: {', '.join(rivals)} publishes trajectories too"
        yield Finding(FAIL, "controller", text, "two senders fight over the arm: stop one")
    if listeners:
        yield Finding(PASS, "controller", f"{topic}: {', '.join(listeners)} listens")
    else:
        text = f"{topic}: no controller listens"
        advice = f"-r ~/joint_trajectory:=/<controller>/joint_trajectory, as {settings.node} gets"
        yield Finding(WARN, "controller", text, advice)
