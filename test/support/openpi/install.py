"""Install openpi's client and server: `python -m support.openpi.install DEST`.

They need numpy below 2, so they get a folder of their own, which nothing else of this Python is
beside. Versions are pinned; a folder that has them already is left as it is.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

PINS = (
    "openpi-client==0.1.2",
    "openpi-server==0.1.0",
    "absl-py==2.5.1",
    "attrs==26.1.0",
    "dm-tree==0.1.10",
    "msgpack==1.2.4",
    "numpy==1.26.4",
    "pillow==12.0.0",
    "typing_extensions==4.15.0",
    "websockets==16.1.1",
    "wrapt==2.0.1",
)
STAMP = "installed.json"


def stamp() -> dict[str, object]:
    """What an installation depends on."""
    return {"pins": list(PINS), "python": list(sys.version_info[:2])}


def is_installed(dest: Path) -> bool:
    """Whether `dest` holds the pins for this Python."""
    try:
        return json.loads((dest / STAMP).read_text()) == stamp()
    except (OSError, ValueError):
        return False


def install(dest: Path) -> None:
    """Bring `dest` to the pins."""
    if is_installed(dest):
        print(f"openpi: up to date in {dest}")
        return
    if sys.version_info >= (3, 13):
        print("openpi: not installed; no numpy below 2 has a wheel for this Python")
        return
    shutil.rmtree(dest, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--only-binary", ":all:"]
    command += ["--disable-pip-version-check", "--no-input", "--target", str(dest), *PINS]
    env = {k: v for k, v in os.environ.items() if k not in ("PIP_CONSTRAINT", "PYTHONPATH")}
    status = subprocess.run(command, env=env).returncode
    if status:
        raise SystemExit(f"pip could not install openpi into {dest}: exit status {status}")
    (dest / STAMP).write_text(json.dumps(stamp()) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("dest", type=Path, help="folder to install into, e.g. build/openpi")
    install(parser.parse_args().dest.resolve())


if __name__ == "__main__":
    main()
