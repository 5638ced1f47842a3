"""Rows within a budget, and what is left of them when the process ends."""

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pi0_ros.check.runner import ARCHIVE, RAW, Result, Row, Runner


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def rows_of(folder: Path) -> list[dict]:
    return json.loads((folder / "check.json").read_text())["rows"]


def test_each_row_is_in_the_file_before_the_next_begins(tmp_path: Path, capsys) -> None:
    seen = []

    def second(left: float) -> Result:
        seen.extend(rows_of(tmp_path))
        return Result("fine", {"cosine": 1.0}, True)

    def listed() -> Iterator[Row]:
        yield Row("kernels", "first", lambda left: Result("12 ms", {"p50": 0.012}))
        yield Row("kernels", "second", second)

    Runner(tmp_path, {"device": "cpu"}, 10, Clock()).run(listed())
    assert [row["name"] for row in seen] == ["first"]
    document = json.loads((tmp_path / "check.json").read_text())
    assert document["device"] == "cpu" and document["budget_s"] == 10
    assert [row["status"] for row in document["rows"]] == ["measured", "ok"]
    assert document["rows"][1]["figures"] == {"cosine": 1.0}
    printed = capsys.readouterr().out
    assert printed.index("kernels") < printed.index("first") < printed.index("second")


def test_a_row_that_raises_or_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    def broken(left: float) -> Result:
        raise RuntimeError("the device is gone\nand more")

    runner = Runner(tmp_path, {}, 10, Clock())
    runner.run(
        [
            Row("a", "broken", broken),
            Row("a", "wrong", lambda left: Result("", passed=False)),
            Row("a", "right", lambda left: Result("", passed=True)),
        ]
    )
    assert runner.failed == ["broken", "wrong"]
    broken_row, _, right = rows_of(tmp_path)
    assert broken_row["text"] == "RuntimeError: the device is gone"
    assert "and more" in broken_row["figures"]["error"]
    assert right["status"] == "ok"


def test_a_row_that_would_not_end_in_time_is_left_out(tmp_path: Path) -> None:
    clock, given = Clock(), []

    def slow(left: float) -> Result:
        given.append(left)
        clock.now += 7
        return Result("")

    runner = Runner(tmp_path, {}, 10, clock)
    runner.run([Row("a", "one", slow, 5), Row("a", "two", slow, 5), Row("a", "three", slow, 2)])
    assert given == [10, 3]
    assert runner.left_out == ["two"] and not runner.failed
    assert [row["status"] for row in rows_of(tmp_path)] == ["measured", "left out", "measured"]


def test_an_interrupt_goes_through_and_keeps_what_is_there(tmp_path: Path) -> None:
    def interrupted(left: float) -> Result:
        raise KeyboardInterrupt

    runner = Runner(tmp_path, {}, 10, Clock())
    with pytest.raises(KeyboardInterrupt):
        runner.run([Row("a", "done", lambda left: Result("")), Row("a", "cut", interrupted)])
    assert [row["name"] for row in rows_of(tmp_path)] == ["done"]


def test_the_archive_has_figures_and_logs_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / RAW).mkdir()
    (tmp_path / RAW / "eager.log").write_text("words")
    (tmp_path / "private.txt").write_text("not to be sent")
    runner = Runner(tmp_path, {}, 10, Clock())
    runner.run([Row("a", "one", lambda left: Result(""))])
    assert runner.pack() == tmp_path / ARCHIVE
    with tarfile.open(tmp_path / ARCHIVE) as tar:
        names = {name for name in tar.getnames() if "." in name}
    assert names == {"check/check.json", "check/raw/eager.log"}
