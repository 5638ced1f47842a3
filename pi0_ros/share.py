"""Files of the package's share directory: message definitions, configuration, launch files."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def find_shared_file(name: str) -> Path | None:
    """A file of the package's share directory, e.g. "config/fastdds.xml".

    Looks in the ROS workspaces (AMENT_PREFIX_PATH), in this Python's prefix and, for runs from the
    source tree, in the tree itself. None where there is none.
    """
    prefixes = [p for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    folders = [Path(prefix, "share", "pi0_ros") for prefix in (*prefixes, sys.prefix)]
    folders.append(Path(__file__).resolve().parents[1])
    return next((folder / name for folder in folders if (folder / name).is_file()), None)
