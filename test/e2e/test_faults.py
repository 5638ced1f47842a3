"""Faults of a robot, tried on the node for real: separate processes, real DDS.

`soak.py` tries the same and more for as long as asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy")

from support.faults.acts import in_two_processes, on_sim_time, on_wall_time
from support.faults.checkpoints import (
    SMALLEST,
    can_make_a_disk,
    try_checkpoint,
    try_full_disk,
    write_checkpoint,
)
from support.faults.endings import try_endings
from support.faults.faults import CAMERAS, CLOCK, ON_WALL_TIME, POLICY, PROCESS, Fault
from support.faults.stage import Stage
from support.faults.trial import Result, try_fault
from support.waiting import wait_until

FAST = next(fault for fault in POLICY if fault.policy == "fast")

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage(tmp_path_factory.mktemp("faults"))
    yield stage
    stage.close()


@pytest.fixture(scope="module")
def act(stage: Stage, results: list[Result]) -> Iterator[Callable[[Any], None]]:
    """act(node): the node that runs is this one, or none; the one before has ended.

    A node that did not survive a fault is not used for the next.
    """
    running: list[Any] = []

    def begin(node: Any) -> None:
        if running and running[-1][0] is node and stage.node.lives() and results[-1].survived:
            return
        end()
        if node is None:
            return
        context = node(stage)
        context.__enter__()
        running.append((node, context))

    def end() -> None:
        while running:
            running.pop()[1].__exit__(None, None, None)

    yield begin
    end()


def survived(result: Result, results: list[Result]) -> None:
    results.append(result)
    assert result.survived, "\n".join([result.name, *result.problems])


@pytest.mark.parametrize("fault", ON_WALL_TIME, ids=lambda fault: fault.name)
def test_on_wall_time(stage: Stage, act: Any, results: list[Result], fault: Fault) -> None:
    act(on_wall_time)
    survived(try_fault(stage, fault), results)


@pytest.mark.parametrize("fault", PROCESS, ids=lambda fault: fault.name)
def test_in_two_processes(stage: Stage, act: Any, results: list[Result], fault: Fault) -> None:
    act(in_two_processes)
    survived(try_fault(stage, fault), results)


@pytest.mark.parametrize("fault", CLOCK, ids=lambda fault: fault.name)
def test_on_sim_time(stage: Stage, act: Any, results: list[Result], fault: Fault) -> None:
    act(on_sim_time)
    survived(try_fault(stage, fault), results)


@pytest.mark.parametrize(
    ("how", "fault", "seen"),
    [("zeros", CAMERAS[0], "zeros out of nowhere"), ("no limits", FAST, "too fast")],
)
def test_a_node_that_is_not_safe_is_seen(
    stage: Stage, act: Any, how: str, fault: Fault, seen: str
) -> None:
    """The suite can fail: the node of these trials is broken on purpose."""
    act(None)
    stage.start_node(environment={"FAULT_SABOTAGE": how})
    stage.begin_moving()
    blamed = len(stage.judge.violations)
    fault.begin_on(stage)
    try:
        wait_until(lambda: seen in " ".join(stage.judge.violations[blamed:]), seen)
    finally:
        fault.end_on(stage)
        stage.end_node()
        stage.kill_robot()
        stage.start_robot(at_home=True)


def test_a_signal_in_each_state(stage: Stage, act: Any, results: list[Result]) -> None:
    act(None)
    endings = try_endings(stage)
    results += endings
    assert all(result.survived for result in endings), endings


def test_the_checkpoint(
    stage: Stage, act: Any, results: list[Result], demo_checkpoint: Path
) -> None:
    act(None)
    trials = list(try_checkpoint(stage, demo_checkpoint, cycles=4))
    results += trials
    assert all(result.survived for result in trials), trials


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_full_disk(stage: Stage, act: Any, results: list[Result], tmp_path: Path) -> None:
    if not can_make_a_disk():
        pytest.skip("this user may not mount a file system in a namespace")
    act(None)
    write_checkpoint(tmp_path / "smallest", **SMALLEST)
    survived(try_full_disk(stage, tmp_path / "smallest"), results)
    stage.end_node()
