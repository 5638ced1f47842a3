"""Puts the files of the repository that a page shows into it: `make docs`.

The file follows a line `<!-- file: PATH -->` in a fenced block, which this program writes anew.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_LANGUAGES = {".py": "python", ".yaml": "yaml", ".urdf": "xml"}
_MARK = re.compile(r"(<!-- file: (\S+) -->\n)(?:\n```\w+\n.*?\n```\n)?", re.DOTALL)


def with_files(text: str) -> str:
    """The page with the files as they are now."""

    def shown(match: re.Match[str]) -> str:
        file = ROOT / match[2]
        content = file.read_text(encoding="utf-8").rstrip("\n")
        return f"{match[1]}\n```{_LANGUAGES[file.suffix]}\n{content}\n```\n"

    return _MARK.sub(shown, text)


if __name__ == "__main__":
    for page in sorted((ROOT / "docs").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        page.write_text(with_files(text), encoding="utf-8")
