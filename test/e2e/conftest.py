"""Prints the table of faults at the end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytest
from support import ROOT

from pi0_ros.ros.environment import environment

TRIALS = "fault trials"


@pytest.fixture(scope="session")
def results() -> list[Any]:
    """Of all trials of this process."""
    return []


@pytest.fixture(autouse=True)
def report_trials(request: pytest.FixtureRequest, results: list[Any]) -> Iterator[None]:
    """The test's report carries its trials, from a worker of pytest-xdist too."""
    before = len(results)
    yield
    if len(results) > before:
        trials = [asdict(result) for result in results[before:]]
        request.node.user_properties.append((TRIALS, trials))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The faults tried and survived."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    found = [
        trial
        for report in reports
        if getattr(report, "when", "") == "teardown"
        for name, trials in report.user_properties
        if name == TRIALS
        for trial in trials
    ]
    if found:
        from support.faults import table
        from support.faults.trial import Result

        terminalreporter.section("faults tried")
        terminalreporter.write_line(table.text([Result(**trial) for trial in found]))


@pytest.fixture(scope="module")
def surroundings() -> Iterator[None]:
    """Everything stays on the loopback, and raw images fit the shared memory."""
    variables = {
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "FASTRTPS_DEFAULT_PROFILES_FILE": str(ROOT / "config/fastdds.xml"),
        "FASTDDS_DEFAULT_PROFILES_FILE": str(ROOT / "config/fastdds.xml"),
    }
    with environment(variables):
        yield
