from __future__ import annotations

import pytest

from pi0_ros.node.progress import WINDOW, Timings


def test_percentiles_of_each_stage() -> None:
    timings = Timings()
    for number in range(101):
        timings.record("model", number / 1000)
    timings.record("overhead", 0.002)
    result = timings.percentiles()
    assert list(result) == ["model", "overhead"]
    assert result["model"] == pytest.approx({"p50": 0.050, "p95": 0.095, "p99": 0.099})
    assert result["overhead"] == {"p50": 0.002, "p95": 0.002, "p99": 0.002}


def test_nothing_recorded() -> None:
    assert Timings().percentiles() == {}


def test_only_the_newest_count() -> None:
    timings = Timings()
    for _ in range(WINDOW):
        timings.record("model", 9.0)
    for _ in range(WINDOW // 2):
        timings.record("model", 0.1)
    half = {"p50": pytest.approx(4.55), "p95": 9.0, "p99": 9.0}
    assert timings.percentiles()["model"] == half, "half of each"
    for _ in range(WINDOW - WINDOW // 2):
        timings.record("model", 0.1)
    assert set(timings.percentiles()["model"].values()) == {0.1}, "the slow ones are forgotten"
