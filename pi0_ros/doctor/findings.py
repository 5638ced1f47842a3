"""What the doctor found out: one line per check, as a table or as JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

PASS, WARN, FAIL = "PASS", "WARN", "FAIL"


@dataclass(frozen=True)
class Finding:
    """One check's outcome.

    Attributes:
        level: PASS; WARN, works but look at it; FAIL, the node would refuse it or move wrongly.
        check: what was looked at, in one or two words.
        text: what was found, with numbers.
        advice: what to do; "" where nothing is to be done.
    """

    level: str
    check: str
    text: str
    advice: str = ""


def passed(findings: Iterable[Finding]) -> bool:
    """Whether nothing failed."""
    return all(finding.level != FAIL for finding in findings)


def count(findings: Iterable[Finding], level: str) -> int:
    """How many findings are of a level."""
    return sum(finding.level == level for finding in findings)


def format_table(findings: Sequence[Finding], width: int = 100) -> str:
    """The findings as a table: level, check, sentence; advice below its sentence."""
    column = max((len(finding.check) for finding in findings), default=0)
    indent = " " * (6 + column + 2)
    lines = []
    for finding in findings:
        text = " ".join(finding.text.split())
        first = f"{finding.level}  {finding.check:<{column}}  "
        lines += textwrap.wrap(
            text, width, initial_indent=first, subsequent_indent=indent, break_on_hyphens=False
        )
        if finding.advice:
            lines += textwrap.wrap(
                " ".join(finding.advice.split()),
                width,
                initial_indent=indent + "-> ",
                subsequent_indent=indent + "   ",
                break_on_hyphens=False,
            )
    verdict = FAIL if not passed(findings) else PASS
    counts = ", ".join(f"{count(findings, level)} {level}" for level in (PASS, WARN, FAIL))
    return "\n".join([*lines, f"{verdict}: {counts}"])


def findings_json(findings: Sequence[Finding], source: str) -> dict[str, Any]:
    """The same as JSON; docs/commands.md has the keys."""
    return {
        "source": source,
        "passed": passed(findings),
        "counts": {level: count(findings, level) for level in (PASS, WARN, FAIL)},
        "findings": [asdict(finding) for finding in findings],
    }
