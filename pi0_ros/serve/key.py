"""The key that clients of a policy server have to send."""

from __future__ import annotations

from pathlib import Path

from pi0_ros.errors import UserError


class KeyFileError(UserError, ValueError):
    """A file that holds no key, or that others may read."""


def read_key(file: Path) -> str:
    """The key in a file.

    Raises:
        OSError: it cannot be read.
        KeyFileError: it holds none, or others may read it.
    """
    key = file.read_text(encoding="utf-8").strip()
    if not key.isascii() or not key.isprintable() or len(key) < 16:
        raise KeyFileError(f"{file}: expected a key of at least 16 printable ASCII characters")
    if file.stat().st_mode & 0o077:
        raise KeyFileError(f"{file}: others may read it; chmod 600 {file}")
    return key
