"""LeRobot from 0.5 is written for Python 3.12; rewrite its syntax for the Python that runs it.

The syntax is that of PEP 695: `class C[T](Base):`, `def f[T: Bound](...)`, `type Name = ...`. It
serves type checkers only: the rewritten modules compute the same.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

_CLASS = re.compile(r"^class (?P<name>\w+)\[(?P<types>[^\]]+)\](?:\((?P<bases>[^)]*)\))?:", re.M)
_DEF = re.compile(r"^(?P<indent> *)def (?P<name>\w+)\[(?P<types>[^\]]+)\]", re.M)
_ALIAS = re.compile(r"^type (\w+) = ", re.M)
_FIRST_IMPORT = re.compile(r"^(?:import|from (?!__future__)\w[\w.]* import) ", re.M)


def rewrite(folder: Path, python: tuple[int, int] = sys.version_info[:2]) -> None:
    """Rewrite every module below `folder` that a Python of this version cannot read."""
    if python >= (3, 12):
        return
    for path in folder.rglob("*.py"):
        text = path.read_text()
        new = without_type_parameters(text)
        if python < (3, 11):  # Self, Unpack, NotRequired
            new = re.sub(r"^from typing import", "from typing_extensions import", new, flags=re.M)
        if new != text:
            compile(new, str(path), "exec", dont_inherit=True)
            path.write_text(new)


def without_type_parameters(text: str) -> str:
    """A module's text with PEP 695's syntax replaced by that of older Pythons."""
    names: list[str] = []

    def declare(match: re.Match[str]) -> str:
        own = [part.partition(":")[0].strip() for part in match["types"].split(",")]
        names.extend(name for name in own if name not in names)
        return ", ".join(own)

    def plain_class(match: re.Match[str]) -> str:
        # Generic comes last: the other bases may be generic themselves.
        bases = [base for base in (match["bases"], f"Generic[{declare(match)}]") if base]
        return f"class {match['name']}({', '.join(bases)}):"

    def plain_def(match: re.Match[str]) -> str:
        declare(match)
        return f"{match['indent']}def {match['name']}"

    text = _ALIAS.sub(r"\1 = ", text)
    text = _DEF.sub(plain_def, _CLASS.sub(plain_class, text))
    if not names:
        return text
    variables = "".join(f'{name} = TypeVar("{name}")\n' for name in names)
    place = _FIRST_IMPORT.search(text)
    at = place.start() if place else 0
    return f"{text[:at]}from typing import Generic, TypeVar\n{variables}{text[at:]}"
