"""Installs LeRobot apart from the environment: `python -m benchmarks.race --install-peers DIR`.

LeRobot 0.4.4 and 0.3.3 get a folder each, the libraries that they share another. torch and numpy
are this Python's own, so that all contestants compute with the same.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.race.race import BenchError

PINS = {
    "lerobot-0.4.4": ("lerobot==0.4.4",),
    "lerobot-0.3.3": ("lerobot==0.3.3",),
    "common": (
        "transformers==4.53.2",
        "tokenizers==0.21.4",
        "huggingface_hub==0.35.3",
        "safetensors==0.6.2",
        "regex==2025.9.18",
        "requests==2.32.5",
        "urllib3==2.5.0",
        "idna==3.11",
        "certifi==2025.10.5",
        "charset_normalizer==3.4.4",
        "packaging==25.0",
        "tqdm==4.67.1",
        "einops==0.8.1",
        "draccus==0.10.0",
        "mergedeep==1.3.4",
        "toml==0.10.2",
        "typing_inspect==0.9.0",
        "mypy_extensions==1.1.0",
        "pyyaml==6.0.3",
        "pyyaml_include==1.4.1",
        "jsonlines==4.0.0",
        "attrs==25.4.0",
        "termcolor==3.1.0",
    ),
}


def is_installed(directory: Path) -> bool:
    """Whether both versions are there, put there by this command or by the tests' installer."""
    return all((directory / folder).is_dir() for folder in PINS)


def install(directory: Path) -> None:
    """Fill a directory with this Python's pip; a minute, 150 MB.

    Raises:
        BenchError: pip failed.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for number, (folder, requirements) in enumerate(PINS.items(), 1):
        print(f"[{number}/{len(PINS)}] {folder}: {len(requirements)} packages", flush=True)
        target = directory / folder
        shutil.rmtree(target, ignore_errors=True)
        command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-compile"]
        command += ["--only-binary", ":all:", "--disable-pip-version-check", "--no-input"]
        command += ["--target", str(target), *requirements]
        # Constraints of the caller's environment would contradict the pins.
        env = {k: v for k, v in os.environ.items() if k not in ("PIP_CONSTRAINT", "PYTHONPATH")}
        status = subprocess.run(command, env=env).returncode
        if status:
            raise BenchError(
                f"pip could not install {folder} into {target}: exit status {status}, its message "
                f"is above; a package index must be reachable and {sys.executable} must have pip"
            )
    (directory / "pins.json").write_text(json.dumps(PINS, indent=2) + "\n")
