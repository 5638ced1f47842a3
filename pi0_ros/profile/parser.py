"""Reads what torch_npu.profiler leaves behind: the CSV files in ASCEND_PROFILER_OUTPUT.

Their layout moved over the years, and this reads all of them:

- 2023: `Start Time` without a unit, later `Start Time(us)`; no Device_id; shapes in three quotes;
  no OP State; communication is the core HCCL.
- 2024-2025: nanoseconds in `Start Time(us)`, as decimals and with a trailing tab: more digits than
  a float holds; OP State, Mix Block Dim.
- 2025-2026: Device_id in all files, `Block Num` for `Block Dim`, the core COMMUNICATION.

Columns are found by name, whatever their order; `Step Id`, `Step`, `Device_id` and `Preparing` may
be missing or empty, and so may each of the files. A profile can be read on a machine without torch.
"""

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import cache
from pathlib import Path
from sys import intern

from pi0_ros.console import progress
from pi0_ros.errors import UserError

OUTPUT = "ASCEND_PROFILER_OUTPUT"
KERNELS = "kernel_details.csv"
STEPS = "step_trace_time.csv"
OPERATORS = "op_statistic.csv"
FILES = (KERNELS, STEPS, OPERATORS)
_NOT_READ = {
    "*.db": "an export as a database, which is not read. Export as text: give torch_npu.profiler."
    "_ExperimentalConfig export_type=[torch_npu.profiler.ExportType.Text], as `pi0 profile run`"
    " does, or analyse the raw data anew with that",
    "*op_summary*.csv": "a summary of msprof, which is not read: it has no steps. Profile with `pi0"
    f" profile run`, whose torch_npu.profiler writes {', '.join(FILES)}; msprof's own tables and"
    " msprof-analyze show this one",
}
NO_CORE = "N/A"
_NOTHING = {"", "n/a", "na", "none", "null", "-"}
_NS = {"ns": Decimal(1), "us": Decimal(10**3), "ms": Decimal(10**6), "s": Decimal(10**9)}
# Shapes of a kernel over a list of a thousand tensors; csv stops at 131,072 characters by default.
_LONGEST_FIELD = 2**30


class ProfileError(UserError, ValueError):
    """A profile that cannot be read; the message names the file and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """One execution of a kernel on a device, or of an operator on a CPU.

    Attributes:
        name: of this execution.
        type: of the operator, such as MatMulV2.
        core: what it ran on, such as AI_CORE or MIX_AIC; "N/A" where the profile does not say.
        start: ns of the profiler's clock.
        duration: ns.
        own: ns that it alone accounts for: `duration`, less that of operators it called.
        device: number of the device, or "".
        step: number of the step, or "" for none.
    """

    name: str
    type: str
    core: str
    start: int
    duration: int
    own: int
    device: str = ""
    step: str = ""

    @property
    def end(self) -> int:
        return self.start + self.duration

    @property
    def communicates(self) -> bool:
        """True for traffic between devices, which is not computing."""
        return is_communication(self.core, self.type, self.name)


@dataclass(frozen=True, slots=True)
class StepTimes:
    """Where the time of one step on one device went, ms; `communication` without the overlap."""

    device: str
    step: str
    computing: float
    communication: float
    free: float

    @property
    def span(self) -> float:
        return self.computing + self.communication + self.free

    @property
    def busy_share(self) -> float | None:
        """Computing / (Computing + Communication(Not Overlapped) + Free), 0 to 1; None if 0 / 0."""
        return self.computing / self.span if self.span > 0 else None


@dataclass(frozen=True, slots=True)
class OperatorTime:
    """All kernels of one type on one core: how often and how long, ms."""

    type: str
    core: str
    count: int
    time: float


@dataclass(frozen=True)
class Profile:
    """A profile as read: what its files hold, in their order; empty where they hold nothing."""

    source: str
    kernels: tuple[Kernel, ...] = ()
    steps: tuple[StepTimes, ...] = ()
    operators: tuple[OperatorTime, ...] = ()
    warnings: tuple[str, ...] = ()


def is_communication(core: str, *names: str) -> bool:
    """Whether a row of kernel_details.csv or op_statistic.csv is traffic between devices."""
    if core.upper().startswith(("HCCL", "COMMUNICATION")):
        return True
    # Level0 profiles say N/A for every core.
    return core == NO_CORE and any(n.lower().startswith(("hcom_", "hccl")) for n in names)


def find_output(path: str | Path) -> Path:
    """The folder of the CSV files for a folder given by hand.

    Args:
        path: that folder itself, one of its files, the `*_ascend_pt` folder, or any folder above
            that holds a single profile.

    Raises:
        ProfileError: there is no profile, or more than one; lists them.
    """
    path = Path(path)
    if path.is_file() and path.name in FILES:
        path = path.parent
    if not path.is_dir():
        raise ProfileError(
            f"{path}: expected a folder that torch_npu.profiler wrote (*_ascend_pt, or its "
            f"{OUTPUT}), found {'a file' if path.exists() else 'nothing of this name'}"
        )
    for folder in (path, path / OUTPUT):
        if any((folder / name).is_file() for name in FILES):
            return folder
    found = sorted({file.parent for name in FILES for file in path.rglob(name)})
    if len(found) == 1:
        return found[0]
    if found:
        listed = "\n  ".join(map(str, found[:20]))
        more = f"\n  and {len(found) - 20} more" if len(found) > 20 else ""
        raise ProfileError(f"{path}: holds {len(found)} profiles, give one:\n  {listed}{more}")
    for pattern, what in _NOT_READ.items():
        if other := sorted(path.rglob(pattern)):
            raise ProfileError(f"{path}: {other[0].name} is {what}")
    hint = ", here or below"
    if any((*path.glob("PROF_*"), *path.rglob("*_ascend_pt"), *path.rglob("*_ascend_ms"))):
        hint = (
            ". It holds raw data: where CANN is installed, turn it into these files with `python3"
            f' -c "from torch_npu.profiler.profiler import analyse; analyse({str(path)!r})"`'
        )
    raise ProfileError(f"{path}: expected {', '.join(FILES[:-1])} or {FILES[-1]}{hint}")


def read_profile(path: str | Path) -> Profile:
    """Read a profile of torch_npu; `find_output` says what `path` may be.

    Raises:
        ProfileError: there is not exactly one profile, a file lacks a column or holds something
            else than numbers in one, or all files are empty.
    """
    folder = find_output(path)
    warnings: list[str] = []
    kernels = tuple(_read_kernels(folder / KERNELS, warnings))
    steps = tuple(_read_steps(folder / STEPS))
    operators = tuple(_read_operators(folder / OPERATORS))
    if steps and not sum(step.span for step in steps) > 0:
        steps = ()
    if not (kernels or steps or operators):
        there = [name for name in FILES if (folder / name).is_file()]
        raise ProfileError(
            f"{folder}: {', '.join(there)} hold no rows: nothing ran on the device while it was "
            "profiled, or the analysis failed; its log lies beside them"
        )
    if not kernels:
        warnings.append(f"{KERNELS} is missing or empty: no timeline, no count of kernels")
    if not steps:
        warnings.append(
            f"{STEPS} is missing, empty or all zero: computing time is the union of the kernels' "
            "intervals, idle time the rest of the span from the first to the last"
        )
    return Profile(str(folder), kernels, steps, operators, tuple(warnings))


def _read_kernels(path: Path, warnings: list[str]) -> Iterator[Kernel]:
    start_at, lasts = "Start Time(us)", "Duration(us)"
    rows = left_out = 0
    table = _rows(path, "Name", "Accelerator Core", start_at, lasts)
    for row in progress(table, desc=KERNELS, unit="row", delay=2, leave=False):
        rows += 1
        start, duration = row.nanoseconds(start_at), row.nanoseconds(lasts)
        if start is None or duration is None:
            left_out += 1
            continue
        if duration < 0:
            raise row.error(lasts, "a positive duration")
        name = intern(row.text("Name"))
        yield Kernel(
            name=name,
            type=intern(row.text("Type") or name),
            core=intern(row.text("Accelerator Core") or NO_CORE),
            start=start,
            duration=duration,
            own=duration,
            device=intern(row.text("Device_id")),
            step=intern(row.text("Step Id")),
        )
    if left_out:
        warnings.append(
            f"{KERNELS}: {left_out} of {rows} rows have no start or no duration: left out"
        )


def _read_steps(path: Path) -> Iterator[StepTimes]:
    communication = "Communication(Not Overlapped)"
    for row in _rows(path, "Computing", communication, "Free"):
        yield StepTimes(
            device=row.text("Device_id"),
            step=row.text("Step"),
            computing=row.milliseconds("Computing"),
            communication=row.milliseconds(communication),
            free=row.milliseconds("Free"),
        )


def _read_operators(path: Path) -> Iterator[OperatorTime]:
    for row in _rows(path, "OP Type", "Core Type", "Count", "Total Time(us)"):
        yield OperatorTime(
            type=row.text("OP Type") or NO_CORE,
            core=row.text("Core Type") or NO_CORE,
            count=int(row.number("Count") or 0),
            time=row.milliseconds("Total Time(us)"),
        )


@cache
def _key(column: str) -> str:
    """A column's name without unit, case, blanks and underscores: they differ between versions."""
    return re.sub(r"[\s_\"]", "", re.sub(r"\((ns|us|ms|s)\)\s*$", "", column.strip())).lower()


def _scale(column: str) -> Decimal:
    """ns per unit of a column; us where its name does not say."""
    unit = re.search(r"\((ns|us|ms|s)\)$", column)
    return _NS[unit[1] if unit else "us"]


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of a CSV file; `columns` is `_key` of a column -> its index and ns per unit."""

    path: Path
    line: int
    columns: Mapping[str, tuple[int, Decimal]]
    cells: list[str]

    def text(self, column: str) -> str:
        """The stripped cell; "" where the column is missing, cut off or says nothing."""
        index, _ = self.columns.get(_key(column), (len(self.cells), None))
        if index >= len(self.cells):
            return ""
        text = self.cells[index].strip().strip('"').strip()
        return "" if text.lower() in _NOTHING else text

    def number(self, column: str) -> Decimal | None:
        """The number in a cell, all its digits; None for no number."""
        text = self.text(column)
        if not text:
            return None
        try:
            value = Decimal(text)
        except InvalidOperation:
            value = Decimal("nan")
        if not value.is_finite():
            raise self.error(column, "a number")
        return value

    def nanoseconds(self, column: str) -> int | None:
        value = self.number(column)
        if value is None:
            return None
        return int((value * self.columns[_key(column)][1]).to_integral_value())

    def milliseconds(self, column: str) -> float:
        """The time in a cell; 0 for no number."""
        return float((self.number(column) or 0) * self.columns[_key(column)][1] / _NS["ms"])

    def error(self, column: str, expected: str) -> ProfileError:
        return ProfileError(
            f"{self.path}, line {self.line}: expected {expected} in the column {column!r}, "
            f"found {self.text(column)!r}"
        )


def _rows(path: Path, *required: str) -> Iterator[_Row]:
    """The rows of a CSV file that has the required columns; none where there is no file."""
    if not path.is_file():
        return
    limit = csv.field_size_limit(_LONGEST_FIELD)
    try:
        # Operators' names may be in any language; no column that is read depends on them.
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            reader = csv.reader(file, skipinitialspace=True)
            header = [name.strip() for name in next(reader, [])]
            if not any(header):
                return
            columns: dict[str, tuple[int, Decimal]] = {}
            for index, name in enumerate(header):
                columns.setdefault(_key(name), (index, _scale(name)))
            lacking = [name for name in required if _key(name) not in columns]
            if lacking:
                raise ProfileError(
                    f"{path}: expected the columns {', '.join(map(repr, lacking))}, found "
                    f"{', '.join(map(repr, header))}"
                )
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    yield _Row(path, reader.line_num, columns, cells)
    except csv.Error as error:
        raise ProfileError(f"{path}: expected a table of comma-separated values: {error}") from None
    finally:
        csv.field_size_limit(limit)
