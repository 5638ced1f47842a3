"""Runs the rows of a check within a budget of time; each is printed and kept at once."""

from __future__ import annotations

import tarfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pi0_ros import console

OK, FAILED, MEASURED, LEFT_OUT = "ok", "FAILED", "measured", "left out"
JSON, ARCHIVE, RAW = "check.json", "check.tar.gz", "raw"
"""In the folder of the results: all figures, everything in one file, and logs and profiles."""


@dataclass(frozen=True)
class Result:
    """What a row found.

    Attributes:
        text: for the table, in a few words.
        figures: for the JSON; times in seconds, memory in bytes.
        passed: whether the device does what it should; None for a figure that nothing is asked of.
    """

    text: str
    figures: Mapping[str, Any] = field(default_factory=dict)
    passed: bool | None = None


@dataclass(frozen=True)
class Row:
    """One thing to find out.

    Attributes:
        group: rows of one kind, such as `kernel`.
        name: unique within its group.
        measure: finds out; called with the seconds that are left. What it raises is a failure.
        seconds: it is not begun with less time than this.
    """

    group: str
    name: str
    measure: Callable[[float], Result]
    seconds: float = 1.0


class Runner:
    """Runs rows and keeps `check.json` up to date, so that a process that ends early loses one."""

    def __init__(
        self, folder: Path, facts: Mapping[str, Any], budget: float, clock: Callable[[], float]
    ) -> None:
        """
        Args:
            folder: of the results, which exists.
            facts: what the JSON says besides the rows.
            budget: seconds for all rows.
            clock: seconds, such as `time.monotonic`.
        """
        self.document: dict[str, Any] = {**facts, "budget_s": budget, "rows": []}
        self.failed: list[str] = []
        self.left_out: list[str] = []
        self._folder = folder
        self._clock = clock
        self._end = clock() + budget

    def run(self, rows: Iterable[Row]) -> None:
        """Run rows in their order; a generator's next row is asked for when the last is done."""
        group = ""
        for row in rows:
            if row.group != group:
                group = row.group
                print(f"\n{group}", flush=True)
            self._run(row)

    def _run(self, row: Row) -> None:
        start = self._clock()
        if (left := self._end - start) < row.seconds:
            status = LEFT_OUT
            result = Result(f"needs {row.seconds:.0f} s, {max(left, 0):.0f} s of the budget left")
            self.left_out.append(row.name)
        else:
            try:
                result = row.measure(left)
            # Whatever a device or its library raises is what this row found out.
            except Exception as error:
                first = str(error).strip().partition("\n")[0]
                result = Result(f"{type(error).__name__}: {first}", {"error": str(error)}, False)
            status = {None: MEASURED, True: OK, False: FAILED}[result.passed]
        if status == FAILED:
            self.failed.append(row.name)
        mark = "" if status == MEASURED else status
        print(f"  {mark:8}  {row.name:34}  {result.text}".rstrip(), flush=True)
        entry = {"group": row.group, "name": row.name, "status": status}
        entry |= {"seconds": self._clock() - start, **asdict(result)}
        del entry["passed"]
        self.document["rows"].append(entry)
        self.write()

    def write(self) -> None:
        """Write `check.json`, whole or not at all."""
        new = self._folder / f"{JSON}.new"
        console.write_json(new, self.document)
        new.replace(self._folder / JSON)

    def pack(self) -> Path:
        """The one file to send back: `check.json`, logs and profiles."""
        archive = self._folder / ARCHIVE
        with tarfile.open(archive, "w:gz") as tar:
            for name in (JSON, RAW):
                if (self._folder / name).exists():
                    tar.add(self._folder / name, arcname=f"check/{name}")
        return archive


def now() -> str:
    """The time of day, for the JSON."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
