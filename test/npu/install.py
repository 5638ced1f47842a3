"""Install torch_npu where only the tests' own processes find it: `python install.py DEST`.

Beside torch in the environment itself, torch_npu would make plain `import torch` fail on a machine
without CANN. A second run with the same pins and the same Python does nothing.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
STAMP = "installed.json"


def pins() -> list[str]:
    """The pinned requirements."""
    lines = [line.partition("#")[0].strip() for line in REQUIREMENTS.read_text().splitlines()]
    return [line for line in lines if line]


def stamp() -> dict[str, object]:
    """What an installation depends on."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return {"pins": pins(), "python": python, "platform": sysconfig.get_platform()}


def is_installed(dest: Path) -> bool:
    """Whether DEST holds these pins for this Python."""
    try:
        return json.loads((dest / STAMP).read_text()) == stamp()
    except (OSError, json.JSONDecodeError):
        return False


def unfit() -> str:
    """Why torch_npu cannot run beside this environment's torch; "" if it can."""
    torch = importlib.metadata.version("torch").partition("+")[0]
    wanted = next(p.partition("==")[2] for p in pins() if p.startswith("torch_npu=="))
    if torch.split(".")[:2] != wanted.split(".")[:2]:
        return (
            f"torch_npu {wanted} needs torch {wanted}, but {sys.executable} has torch {torch}: "
            f"install torch=={wanted}, or pin torch_npu=={torch} in {REQUIREMENTS}"
        )
    return ""


def install(dest: Path) -> None:
    """Bring DEST to the pins, from scratch if it differs."""
    if is_installed(dest):
        print(f"torch_npu for tests: up to date in {dest}")
        return
    if why := unfit():
        print(f"torch_npu for tests: left out, its tests are skipped. {why}")
        return
    shutil.rmtree(dest, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-compile"]
    command += ["--only-binary", ":all:", "--disable-pip-version-check", "--no-input"]
    command += ["--target", str(dest), *pins()]
    # Constraints of the caller's environment would contradict the pins.
    env = {k: v for k, v in os.environ.items() if k not in ("PIP_CONSTRAINT", "PYTHONPATH")}
    result = subprocess.run(command, env=env)
    if result.returncode:
        raise SystemExit(
            f"pip could not install {' '.join(pins())} into {dest}: exit status "
            f"{result.returncode}, its message is above. A package index must be reachable, and "
            "there are wheels for Linux on x86-64 and aarch64 only."
        )
    (dest / STAMP).write_text(json.dumps(stamp(), indent=2) + "\n")
    print(f"torch_npu for tests: installed in {dest}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("dest", type=Path, help="folder to install into, e.g. build/npu")
    install(parser.parse_args().dest.resolve())


if __name__ == "__main__":
    main()
