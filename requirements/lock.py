"""Prints what pip installed into this Python, pinned: the lock that `make lock` writes."""

import re
from importlib.metadata import distributions


def pins() -> list[str]:
    """Lines `name==version`, sorted by name, without this package and without pip."""
    lines = {}
    for distribution in distributions():
        name = re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower()
        # The ROS wheels carry a second metadata folder, unknown to pip: it has no INSTALLER.
        if name in ("pi0-ros", "pip") or distribution.read_text("INSTALLER") is None:
            continue
        # torch 2.x.y+cpu is torch 2.x.y to anyone with a GPU.
        lines[name] = f"{name}=={distribution.version.partition('+')[0]}"
    return [lines[name] for name in sorted(lines)]


if __name__ == "__main__":
    print("# Written by `make lock`: the set that CI proves, with all that it pulls in.")
    print(*pins(), sep="\n")
