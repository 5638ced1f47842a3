"""Faults of a robot, tried on the node for real: separate processes, real DDS.

`soak.py` tries the same and more for as long as asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy")

from support.faults.checkpoints import (
    SMALLEST,
    can_make_a_disk,
    try_checkpoint,
    try_full_disk,
    write_checkpoint,
)
from support.faults.faults import CAMERAS, CLOCK, ON_WALL_TIME, POLICY, PROCESS, SERVER, Fault
from support.faults.scenarios import in_two_processes, on_a_server, on_sim_time, on_wall_time
from support.faults.shutdowns import try_shutdowns
from support.faults.testbed import Testbed
from support.faults.trial import Result, try_fault
from support.waiting import wait_until

FAST = next(fault for fault in POLICY if fault.policy == "fast")


@pytest.fixture(scope="module")
def testbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    testbed = Testbed(tmp_path_factory.mktemp("faults"))
    yield testbed
    testbed.close()


@pytest.fixture(scope="module")
def scenario(testbed: Testbed, results: list[Result]) -> Iterator[Callable[[Any], None]]:
    """scenario(node): the node that runs is this one, or none; the one before has ended.

    A node that did not survive a fault is not used for the next.
    """
    running: list[Any] = []

    def begin(node: Any) -> None:
        if running and running[-1][0] is node and testbed.node.lives() and results[-1].survived:
            return
        end()
        if node is None:
            return
        context = node(testbed)
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
def test_on_wall_time(testbed: Testbed, scenario: Any, results: list[Result], fault: Fault) -> None:
    scenario(on_wall_time)
    survived(try_fault(testbed, fault), results)


@pytest.mark.parametrize("fault", PROCESS, ids=lambda fault: fault.name)
def test_in_two_processes(
    testbed: Testbed, scenario: Any, results: list[Result], fault: Fault
) -> None:
    for module in ("msgpack", "prometheus_client"):
        pytest.importorskip(module, reason=f"policy_url needs {module}, which is not installed")
    scenario(in_two_processes)
    survived(try_fault(testbed, fault), results)


@pytest.mark.parametrize("fault", SERVER, ids=lambda fault: fault.name)
def test_on_a_server(testbed: Testbed, scenario: Any, results: list[Result], fault: Fault) -> None:
    for module in ("msgpack", "prometheus_client"):
        pytest.importorskip(module, reason=f"policy_url needs {module}, which is not installed")
    scenario(on_a_server)
    survived(try_fault(testbed, fault), results)


@pytest.mark.parametrize("fault", CLOCK, ids=lambda fault: fault.name)
def test_on_sim_time(testbed: Testbed, scenario: Any, results: list[Result], fault: Fault) -> None:
    scenario(on_sim_time)
    survived(try_fault(testbed, fault), results)


@pytest.mark.parametrize(
    ("how", "fault", "seen"),
    [("zeros", CAMERAS[0], "zeros out of nowhere"), ("no limits", FAST, "too fast")],
)
def test_a_node_that_is_not_safe_is_seen(
    testbed: Testbed, scenario: Any, how: str, fault: Fault, seen: str
) -> None:
    """The suite can fail: the node of these trials is broken on purpose."""
    scenario(None)
    testbed.start_node(environment={"FAULT_SABOTAGE": how})
    testbed.begin_moving()
    blamed = len(testbed.judge.violations)
    fault.begin_on(testbed)
    try:
        wait_until(lambda: seen in " ".join(testbed.judge.violations[blamed:]), seen)
    finally:
        fault.end_on(testbed)
        testbed.end_node()
        testbed.kill_robot()
        testbed.start_robot(at_home=True)


def test_a_signal_in_each_state(testbed: Testbed, scenario: Any, results: list[Result]) -> None:
    scenario(None)
    shutdowns = try_shutdowns(testbed)
    results += shutdowns
    assert all(result.survived for result in shutdowns), shutdowns


def test_the_checkpoint(
    testbed: Testbed, scenario: Any, results: list[Result], demo_checkpoint: Path
) -> None:
    scenario(None)
    trials = list(try_checkpoint(testbed, demo_checkpoint, cycles=4))
    results += trials
    assert all(result.survived for result in trials), trials


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_full_disk(
    testbed: Testbed, scenario: Any, results: list[Result], tmp_path: Path
) -> None:
    if not can_make_a_disk():
        pytest.skip("this user may not mount a file system in a namespace")
    scenario(None)
    write_checkpoint(tmp_path / "smallest", **SMALLEST)
    survived(try_full_disk(testbed, tmp_path / "smallest"), results)
    testbed.end_node()
