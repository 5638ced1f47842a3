"""Install what the reference oracles import: `python -m reference.install DEST`.

Puts LeRobot 0.3.3, 0.4.4 and 0.6.1, one folder each, the libraries they share and those of their
data sets into DEST with this Python's pip, leaving its environment alone. torch, numpy, Pillow,
pyarrow and av are not installed: the oracles use this Python's own. A folder that has its pins
already is left as it is.
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
from collections.abc import Sequence
from pathlib import Path

from reference.older_python import rewrite

REQUIREMENTS = Path(__file__).with_name("requirements")
STAMP = "installed.json"


def read_pins(folder: Path = REQUIREMENTS) -> dict[str, list[str]]:
    """Name of a folder of DEST -> pinned requirements, from the file of that name."""
    pins: dict[str, list[str]] = {}
    for path in sorted(folder.glob("*.txt")):
        lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
        pins[path.stem] = [line for line in lines if line]
        for requirement in pins[path.stem]:
            _, separator, version = requirement.partition("==")
            if not separator or not version:
                raise SystemExit(f"{path}: {requirement!r} is not pinned, expected name==version")
    return pins


def stamp(pins: dict[str, list[str]]) -> dict[str, object]:
    """What an installation depends on."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return {"pins": pins, "python": python, "platform": sysconfig.get_platform()}


def installed_pins(dest: Path) -> dict[str, list[str]]:
    """What DEST holds for this Python and platform."""
    try:
        found = json.loads((dest / STAMP).read_text())
    except (OSError, json.JSONDecodeError):
        return {}
    return found["pins"] if found == stamp(found["pins"]) else {}


def is_installed(dest: Path, folders: Sequence[str] = ()) -> bool:
    """Whether DEST holds the pins of these folders for this Python; without folders, of all."""
    pins = read_pins()
    wanted = {folder: pins[folder] for folder in folders or pins}
    return wanted.items() <= installed_pins(dest).items()


def pip_install(target: Path, requirements: list[str]) -> None:
    """Install exactly `requirements` into `target`; SystemExit if that fails."""
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-compile"]
    command += ["--only-binary", ":all:", "--disable-pip-version-check", "--no-input"]
    # LeRobot 0.6.1 declares Python 3.12; `older_python` makes up for it.
    command += ["--ignore-requires-python", "--target", str(target), *requirements]
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
    """Bring DEST to the pins, folder by folder."""
    pins, done = read_pins(), installed_pins(dest)
    if done == pins:
        print(f"reference LeRobot: up to date in {dest}")
        return
    start = time.monotonic()
    dest.mkdir(parents=True, exist_ok=True)
    for number, (folder, requirements) in enumerate(pins.items(), 1):
        if done.get(folder) == requirements:
            continue
        print(f"[{number}/{len(pins)}] {folder}: {len(requirements)} packages", flush=True)
        done.pop(folder, None)
        _write_stamp(dest, done)
        shutil.rmtree(dest / folder, ignore_errors=True)
        pip_install(dest / folder, requirements)
        if (dest / folder / "lerobot").is_dir():
            rewrite(dest / folder / "lerobot")
        done[folder] = requirements
    _write_stamp(dest, pins)
    print(f"reference LeRobot: installed in {dest} in {time.monotonic() - start:.0f} s")


def _write_stamp(dest: Path, pins: dict[str, list[str]]) -> None:
    (dest / STAMP).write_text(json.dumps(stamp(pins), indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("dest", type=Path, help="folder to install into, e.g. build/reference")
    install(parser.parse_args().dest.resolve())


if __name__ == "__main__":
    main()
