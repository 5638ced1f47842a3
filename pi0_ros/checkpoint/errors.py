"""The error of this room."""

from __future__ import annotations

import reprlib

from pi0_ros.errors import UserError

_MOST_PROBLEMS = 1000
_LONGEST = 300
# Shows the beginning of long and of deep values.
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 100


class CheckpointError(UserError, ValueError):
    """A checkpoint cannot be used; the message lists everything that is wrong with it."""


def shown(value: object) -> str:
    """A value from a file, as a message shows it: printable, on one line, short."""
    return plain(str(value) if isinstance(value, Exception) else _REPR.repr(value))


def plain(name: str) -> str:
    """A name from a file, as a message shows it: printable, on one line, short."""
    return "".join(c if c.isprintable() else "?" for c in name[:_LONGEST])


def listed(title: str, problems: list[str]) -> str:
    """A message that lists problems, the first of them where there are very many."""
    lines = problems[:_MOST_PROBLEMS]
    if len(problems) > len(lines):
        lines = [*lines, f"... and {len(problems) - len(lines)} more"]
    return f"{title}:\n  - " + "\n  - ".join(lines)
