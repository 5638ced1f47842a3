"""What the doctor found: one line per check, as a table or as JSON."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

PASS, WARN, FAIL = "PASS", "WARN", "FAIL"


@dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Attributes:
        level: PASS; WARN: it works, but look at it. FAIL: the node would refuse it, or the
            arm would move wrongly.
        check: what was checked, in one or two words.
        text: what was found, with numbers.
        advice: what to do; "" where nothing is to be done.
    """

    level: str
    check: str
    text: str
    advice: str = ""


def ok(check: str, text: str) -> Finding:
    return Finding(PASS, check, text)


def warn(check: str, text: str, advice: str = "") -> Finding:
    return Finding(WARN, check, text, advice)


def fail(check: str, text: str, advice: str = "") -> Finding:
    return Finding(FAIL, check, text, advice)


def passed(findings: Iterable[Finding]) -> bool:
    return all(finding.level != FAIL for finding in findings)


def _counts(findings: Iterable[Finding]) -> dict[str, int]:
    found = Counter(finding.level for finding in findings)
    return {level: found[level] for level in (PASS, WARN, FAIL)}


_COLOURS = {PASS: "32", WARN: "33", FAIL: "31;1"}  # of ANSI terminals: green, yellow, red


def format_table(findings: Sequence[Finding], width: int = 100, colour: bool = False) -> str:
    """The findings as a table: level, check, sentence; advice below its sentence."""

    def painted(line: str, level: str) -> str:
        return line.replace(level, f"\033[{_COLOURS[level]}m{level}\033[0m", 1) if colour else line

    column = max((len(finding.check) for finding in findings), default=0)
    indent = " " * (6 + column + 2)
    lines = []
    for finding in findings:
        first = f"{finding.level}  {finding.check:<{column}}  "
        head, *rest = _wrap(finding.text, width, first, indent)
        lines += [painted(head, finding.level), *rest]
        if finding.advice:
            lines += _wrap(finding.advice, width, f"{indent}-> ", f"{indent}   ")
    verdict = PASS if passed(findings) else FAIL
    counts = ", ".join(f"{count} {level}" for level, count in _counts(findings).items())
    return "\n".join([*lines, painted(f"{verdict}: {counts}", verdict)])


def _wrap(text: str, width: int, first: str, rest: str) -> list[str]:
    text = " ".join(text.split())
    return textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False
    )


def findings_json(findings: Sequence[Finding], source: str) -> dict[str, Any]:
    """The same for `--json`; `source` is "live graph", or the bag's path."""
    return {
        "source": source,
        "passed": passed(findings),
        "counts": _counts(findings),
        "findings": [asdict(finding) for finding in findings],
    }
