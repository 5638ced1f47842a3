"""Prints the table of faults at the end."""

from __future__ import annotations

from typing import Any

import pytest

RESULTS: list[Any] = []


@pytest.fixture(scope="session")
def results() -> list[Any]:
    """Of all trials of this run."""
    return RESULTS


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The faults tried and survived."""
    if RESULTS:
        from support.faults import table

        terminalreporter.section("faults tried")
        terminalreporter.write_line(table.text(RESULTS))
