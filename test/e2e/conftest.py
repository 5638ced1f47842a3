"""Puts the suite's own modules on the path, and prints the table of faults at the end."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

# pytest's importlib mode puts no test directory on the path.
sys.path.insert(0, str(Path(__file__).parent))

RESULTS: list[Any] = []


@pytest.fixture(scope="session")
def results() -> list[Any]:
    """Of all trials of this run."""
    return RESULTS


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The faults tried and survived."""
    if RESULTS:
        import table

        terminalreporter.section("faults tried")
        terminalreporter.write_line(table.text(RESULTS))
