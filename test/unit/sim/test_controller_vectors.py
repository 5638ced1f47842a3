"""The emulated controller against commands of the real one; jtc_humble.json tells of which."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pi0_ros.sim.controller import Controller, Points, Rejected

VECTORS = json.loads(Path(__file__).with_name("jtc_humble.json").read_text())
EPOCH = VECTORS["epoch"]


def points_of(event: dict[str, Any]) -> Points:
    velocities = event["velocities"]
    return Points(
        names=tuple(event["names"]),
        stamp=0 if event["stamp"] is None else EPOCH + event["stamp"],
        times=np.array(event["times"], dtype=np.int64),
        positions=np.array(event["positions"]),
        velocities=None if velocities is None else np.array(velocities),
    )


@pytest.mark.parametrize("scenario", VECTORS["scenarios"], ids=lambda scenario: scenario["name"])
def test_commands_are_those_of_the_real_controller(scenario: dict[str, Any]) -> None:
    """The measured states follow from the real commands: one deviation stays one."""
    expected = np.array(scenario["command"])
    measured = scenario["measured"]
    period = 1_000_000_000 // scenario["rate"]
    follows = 1.0
    if measured["model"] == "lag":
        follows = 1 - np.exp(-period / 1e9 / measured["tau"])
    position = np.array(measured["initial"])
    velocity = np.zeros_like(position)
    controller = Controller(scenario["joints"], allow_nonzero_end=True)
    controller.command(EPOCH - period, position)
    events = sorted(enumerate(scenario["events"]), key=lambda pair: pair[1]["at"])
    accepted = [False] * len(events)
    for cycle, real in enumerate(expected):
        now = cycle * period
        while events and events[0][1]["at"] <= now:
            index, event = events.pop(0)
            try:
                controller.accept(points_of(event), EPOCH + event["at"])
                accepted[index] = True
            except Rejected:
                pass
        command = controller.command(EPOCH + now, position, velocity)
        np.testing.assert_allclose(command, real, atol=1e-6, err_msg=f"cycle {cycle}")
        step = follows * (real - position)
        position, velocity = position + step, step / (period / 1e9)
    assert accepted == scenario["accepted"]
