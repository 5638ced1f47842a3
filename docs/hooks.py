"""For MkDocs: links to files beside docs/, which a git host follows and the site does not have."""

from __future__ import annotations

import re
from typing import Any

_OUTSIDE = re.compile(r"(?<!!)\[([^\]]+)\]\(\.\./([^)\s]+)\)")
_README = "README.md"


def on_page_markdown(markdown: str, **kwargs: Any) -> str:
    """The README is the site's first page; of other files the site shows the path."""

    def shown(match: re.Match[str]) -> str:
        text, path = match.groups()
        if path == _README:
            return f"[{text}](index.md)"
        plain = text.strip("`")
        return f"`{path}`" if path.endswith(plain) else f"{text} (`{path}`)"

    return _OUTSIDE.sub(shown, markdown)
