"""LeRobot's syntax of Python 3.12, rewritten for older ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from reference.older_python import rewrite, without_type_parameters

NEW = '''"""Words: class C[T]."""

from __future__ import annotations

import os

type Name = str | int


@property
class Pipeline[TIn, TOut: int](dict, list):
    def call[T](self, value: T) -> TIn:
        return value


class Plain[T]:
    pass
'''


def test_type_parameters_become_variables() -> None:
    old = without_type_parameters(NEW)
    assert "class Pipeline(dict, list, Generic[TIn, TOut]):" in old
    assert "class Plain(Generic[T]):" in old
    assert "    def call(self, value: T) -> TIn:" in old
    assert "\nName = str | int\n" in old
    assert old.startswith('"""Words: class C[T]."""\n\nfrom __future__ import annotations\n\n')
    for name in ("TIn", "TOut", "T"):
        assert old.count(f'{name} = TypeVar("{name}")') == 1
    compile(old, "old", "exec", dont_inherit=True)
    assert without_type_parameters(old) == old


@pytest.mark.parametrize("python,module", [((3, 10), "typing_extensions"), ((3, 11), "typing")])
def test_only_what_is_needed_is_rewritten(
    tmp_path: Path, python: tuple[int, int], module: str
) -> None:
    plain = "from typing import Any, Self\n"
    (tmp_path / "new.py").write_text(NEW)
    (tmp_path / "plain.py").write_text(plain)
    rewrite(tmp_path, (3, 12))
    assert (tmp_path / "new.py").read_text() == NEW
    rewrite(tmp_path, python)
    assert "class Plain(Generic[T]):" in (tmp_path / "new.py").read_text()
    assert (tmp_path / "plain.py").read_text() == f"from {module} import Any, Self\n"
