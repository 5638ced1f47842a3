"""The emulated controller against commands of the real one, in five versions.

jtc_vectors.json.gz has scenarios that joint_trajectory_controller's own C++ code, compiled at the
commits named under `sources`, was driven through without hardware. Times are integer nanoseconds
from `epoch`. `runs` has each distinct outcome: the versions and parameters that gave it, which
messages were accepted, and the position commanded in every cycle.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pi0_ros.sim.controller import Controller
from pi0_ros.sim.points import Points, Rejected
from pi0_ros.sim.versions import VERSIONS, Parameters

VECTORS = json.loads(gzip.decompress(Path(__file__).with_name("jtc_vectors.json.gz").read_bytes()))
EPOCH = VECTORS["epoch"]
INTERFACES = {"velocity_state", "velocity_command"}
"""Which interfaces there are: not parameters of the controller here."""

Scenario = dict[str, Any]


def runs() -> Iterator[Any]:
    for scenario in VECTORS["scenarios"]:
        for run in scenario["runs"]:
            for version, parameters in run["of"]:
                words = [version, *(f"{name}={value}" for name, value in parameters.items())]
                name = f"{scenario['name']}, {' '.join(words)}"
                yield pytest.param(scenario, run, version, parameters, id=name)


def points_of(event: dict[str, Any]) -> Points:
    velocities = event["velocities"]
    return Points(
        names=tuple(event["names"]),
        stamp=0 if event["stamp"] is None else EPOCH + event["stamp"],
        times=np.array(event["times"], dtype=np.int64),
        positions=np.array(event["positions"]).reshape(len(event["times"]), len(event["names"])),
        velocities=None if velocities is None else np.array(velocities),
    )


def measured(scenario: Scenario, times: np.ndarray, real: np.ndarray) -> tuple[np.ndarray, ...]:
    """[cycles, joints] positions and velocities that follow from the real commands.

    So one deviation of the emulation stays one.
    """
    given = scenario["measured"]
    if given["model"] == "series":
        return np.array(given["series"]["positions"]), np.array(given["series"]["velocities"])
    seconds = np.diff(times) / 1e9
    positions = [np.array(given["initial"])]
    for command, step in zip(real, seconds, strict=False):
        share = 1.0 if given["model"] == "perfect" else 1 - np.exp(-step / given["tau"])
        positions.append(positions[-1] + share * (command - positions[-1]))
    velocities = np.diff(positions, axis=0) / seconds[:, None]
    return np.array(positions), np.concatenate([np.zeros((1, velocities.shape[1])), velocities])


@pytest.mark.parametrize(("scenario", "run", "version", "parameters"), list(runs()))
def test_commands_are_those_of_the_real_controller(
    scenario: Scenario, run: dict[str, Any], version: str, parameters: dict[str, Any]
) -> None:
    period = 1_000_000_000 // scenario["rate"]
    times = scenario["cycles"]["times"] or [k * period for k in range(scenario["cycles"]["count"])]
    real = np.array(run["command"])
    positions, velocities = measured(scenario, np.array(times), real)
    known = {name: value for name, value in parameters.items() if name not in INTERFACES}
    controller = Controller(scenario["joints"], version, period, Parameters(**known))
    controller.command(EPOCH - period, positions[0], np.zeros(len(real[0])))
    queue = sorted((e["at"], i) for i, e in enumerate(scenario["events"]) if e["at"] is not None)
    accepted: list[bool | None] = [None] * len(scenario["events"])
    reasons: list[str | None] = [None] * len(scenario["events"])
    commands, commanded = [], []
    for cycle, now in enumerate(times):
        while queue and queue[0][0] <= now:
            at, i = queue.pop(0)
            try:
                controller.accept(points_of(scenario["events"][i]), EPOCH + at)
            except Rejected as rejected:
                reasons[i] = rejected.reason.value
            accepted[i] = reasons[i] is None
        state = velocities[cycle] if parameters.get("velocity_state", True) else None
        commands.append(controller.command(EPOCH + now, positions[cycle], state))
        commanded.append(controller.commanded[1])
    assert (accepted, reasons, queue) == (run["accepted"], run["reasons"], [])
    np.testing.assert_allclose(commands, real, rtol=0, atol=1e-6)
    if parameters.get("velocity_command"):
        np.testing.assert_allclose(commanded, run["velocity_command"], rtol=0, atol=2e-6)


def test_the_vectors_are_of_every_version() -> None:
    versions = {v for s in VECTORS["scenarios"] for run in s["runs"] for v, _ in run["of"]}
    assert versions == set(VERSIONS) and len(VECTORS["scenarios"]) == 52
