"""Install what the reference oracles import: `python install.py DEST`.

Puts LeRobot 0.4.4 and 0.3.3, one folder each, and the libraries they share into DEST with this
Python's pip, leaving its environment alone. torch and numpy are not installed: the oracles use this
Python's own. A second run with the same pins and the same Python does nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
STAMP = "installed.json"


def read_pins(path: Path = REQUIREMENTS) -> dict[str, list[str]]:
    """Folder name -> pinned requirements, from the requirements file."""
    pins: dict[str, list[str]] = {"common": []}
    for line in path.read_text().splitlines():
        requirement = line.partition("#")[0].strip()
        if not requirement:
            continue
        name, separator, version = requirement.partition("==")
        if not separator or not version:
            raise SystemExit(f"{path}: {requirement!r} is not pinned, expected name==version")
        folder = f"lerobot-{version}" if name == "lerobot" else "common"
        pins.setdefault(folder, []).append(requirement)
    return pins


def stamp(pins: dict[str, list[str]]) -> dict[str, object]:
    """What an installation depends on."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return {"pins": pins, "python": python, "platform": sysconfig.get_platform()}


def is_installed(dest: Path, pins: dict[str, list[str]] | None = None) -> bool:
    """Whether DEST holds these pins (the requirements file's by default) for this Python."""
    try:
        found = json.loads((dest / STAMP).read_text())
    except (OSError, json.JSONDecodeError):
        return False
    return found == stamp(read_pins() if pins is None else pins)


def pip_install(target: Path, requirements: list[str]) -> None:
    """Install exactly `requirements` into `target`; SystemExit if that fails."""
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-compile"]
    command += ["--only-binary", ":all:", "--disable-pip-version-check", "--no-input"]
    command += ["--target", str(target), *requirements]
    # Constraints of the caller's environment would contradict the pins.
    env = {k: v for k, v in os.environ.items() if k not in ("PIP_CONSTRAINT", "PYTHONPATH")}
    result = subprocess.run(command, env=env)
    if result.returncode:
        raise SystemExit(
            f"pip could not install the reference into {target}: exit status {result.returncode}, "
            f"its message is above. The pins are in {REQUIREMENTS}; a package index must be "
            f"reachable and {sys.executable} must have pip."
        )


def install(dest: Path) -> None:
    """Bring DEST to the pins, from scratch if it differs."""
    pins = read_pins()
    if is_installed(dest, pins):
        print(f"reference LeRobot: up to date in {dest}")
        return
    start = time.monotonic()
    dest.mkdir(parents=True, exist_ok=True)
    (dest / STAMP).unlink(missing_ok=True)
    for number, (folder, requirements) in enumerate(sorted(pins.items()), 1):
        print(f"[{number}/{len(pins)}] {folder}: {len(requirements)} packages", flush=True)
        shutil.rmtree(dest / folder, ignore_errors=True)
        pip_install(dest / folder, requirements)
    (dest / STAMP).write_text(json.dumps(stamp(pins), indent=2) + "\n")
    print(f"reference LeRobot: installed in {dest} in {time.monotonic() - start:.0f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("dest", type=Path, help="folder to install into, e.g. build/reference")
    install(parser.parse_args().dest.resolve())


if __name__ == "__main__":
    main()
