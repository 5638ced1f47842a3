"""What came of the faults, as a table for people, for docs/reliability.md and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pi0_ros import console
from support.faults.trial import Result

BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
_WIDEST = 88


def rows(results: Sequence[Result]) -> list[dict[str, str]]:
    """One row per fault, in the order of their first trial."""
    by_name: dict[str, list[Result]] = {}
    for result in results:
        by_name.setdefault(result.name, []).append(result)
    table = []
    for name, trials in by_name.items():
        survived = sum(trial.survived for trial in trials)
        times = sorted(trial.recovery for trial in trials if trial.recovery is not None)
        recovery = "" if not times else f"{times[len(times) // 2]:.2f} s"
        if len(times) > 1:
            recovery += f", at most {times[-1]:.2f} s"
        last = trials[-1]
        table.append(
            {
                "fault": name,
                "meanwhile": last.meanwhile,
                "/diagnostics": _short(last.diagnosis),
                "recovery": recovery,
                "how": last.how,
                "survived": f"{survived} of {len(trials)}",
                "note": last.note,
            }
        )
    return table


def text(results: Sequence[Result]) -> str:
    """For a terminal."""
    table = rows(results)
    shown = ("survived", "fault", "recovery", "meanwhile", "note")
    lines = [console.table(([row[key] for key in shown] for row in table), shown)]
    survived = sum(result.survived for result in results)
    lines.append(f"{survived} of {len(results)} trials of {len(table)} faults survived")
    return "\n".join(lines)


def markdown(results: Sequence[Result]) -> str:
    """The table of docs/reliability.md."""
    lines = [
        "| fault | meanwhile | `/diagnostics` says | moves again after | survived |",
        "|---|---|---|---|---|",
    ]
    for row in rows(results):
        diagnosis = f"`{row['/diagnostics']}`" if row["/diagnostics"] else ""
        how = "" if row["how"] in ("", "by itself") else f" ({row['how']})"
        meanwhile = "; ".join(filter(None, (row["meanwhile"], row["note"])))
        cells = (row["fault"], meanwhile, diagnosis, f"{row['recovery']}{how}", row["survived"])
        lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    return "\n".join(lines)


def write_markdown(path: Path, block: str) -> None:
    """Put a block between the two marks of a file; text around it stays.

    Raises:
        ValueError: the file lacks the marks.
    """
    before, begin, rest = path.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path} lacks the lines {BEGIN} and {END}")
    path.write_text(f"{before}{BEGIN}\n{block}\n{END}{after}")


def _short(diagnosis: str) -> str:
    line = " ".join(diagnosis.split())
    return line if len(line) <= _WIDEST else line[: _WIDEST - 4].rsplit(" ", 1)[0] + " ..."
