"""Where files lie: those of the package's share directory, and paths that users write."""

from __future__ import annotations

import os
import sys
from pathlib import Path

TREE = Path(__file__).resolve().parents[1]
"""The source tree, where this module runs from one: its files are of the same version."""


def find_shared_file(name: str) -> Path | None:
    """A file of the package's share directory, e.g. "config/fastdds.xml".

    Looks in the source tree, if this module runs from one, in the ROS workspaces
    (AMENT_PREFIX_PATH) and in this Python's prefix. None where there is none.
    """
    prefixes = [p for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    folders = [TREE]
    folders += [Path(prefix, "share", "pi0_ros") for prefix in (*prefixes, sys.prefix)]
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def user_path(path: str | Path) -> Path:
    """A path that a user wrote: `~` is a home directory, where there is one of that name.

    `Path.expanduser` raises a RuntimeError where there is none.
    """
    return Path(os.path.expanduser(path))
