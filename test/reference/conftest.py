"""Each version of LeRobot runs once, whoever asks: to import one takes longer than its cases."""

import fcntl
import os
from collections.abc import Callable
from functools import cache

import pytest
from reference.agreement import CASES
from reference.oracle_runner import OracleResult, run_oracles


@pytest.fixture(scope="session")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, OracleResult]]:
    """oracle(version) -> its result by case, the same for all workers of pytest-xdist."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent

    @cache
    def results(version: str) -> dict[str, OracleResult]:
        out, done = root / f"oracle-{version}", root / f"oracle-{version}.done"
        with open(f"{out}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # until the file is closed
            if not done.exists():
                run_oracles(version, CASES[version], out)
                done.touch()
        return {case["name"]: OracleResult(out / case["name"]) for case in CASES[version]}

    return results
