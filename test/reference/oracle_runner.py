"""Run the reference oracles from tests: LeRobot's own pi0, in a process with its own libraries.

    cases = [{"name": "plain"}, {"name": "masked", "masked": ["wrist"]}]
    results = run_oracles("0.4.4", cases, tmp_path)
    tensors = results["plain"].tensors()

Cases: oracle_case.py. Files and tensors: oracle_common.py. One process per call, since importing
LeRobot takes seconds and a tiny case a tenth of one. `reference_dir` says where LeRobot is looked
for and how to get it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reference import install
from reference.oracle_case import Case
from support import ROOT

VERSIONS = ("0.6.1", "0.4.4", "0.3.3")
COMMAND = (sys.executable, "-m", "reference.run_oracle")
# The ROS wheels of PyPI mark an interpreter that they re-executed; a child must not inherit that.
_DROPPED = ("_ROS_WHEELS_BOOTSTRAP_COMPLETE", "PYTHONHOME", "PYTHONSTARTUP")


class ReferenceMissing(RuntimeError):
    """LeRobot is not installed where the oracles look for it."""


class OracleFailed(RuntimeError):
    """An oracle's process failed; the message holds the end of its stderr."""


@dataclass(frozen=True)
class OracleResult:
    """One case's output folder."""

    path: Path

    @property
    def checkpoint(self) -> Path:
        """The directory LeRobot's save_pretrained wrote."""
        return self.path / "checkpoint"

    @property
    def record(self) -> dict[str, Any]:
        """case.json: the case with its defaults and what the run found out."""
        return json.loads((self.path / "case.json").read_text())

    def tensors(self) -> dict[str, Any]:
        """io.safetensors as torch tensors by name."""
        from safetensors.torch import load_file

        return load_file(self.path / "io.safetensors")


def reference_dir(*more: str) -> Path:
    """Folder of the reference install: $PI0_REFERENCE, else build/reference of the repository.

    Args:
        more: folders in it that are needed beside LeRobot's and the common one.

    Raises ReferenceMissing, with the command that installs it, if it is absent or has other pins.
    """
    path = Path(os.environ.get("PI0_REFERENCE") or ROOT / "build" / "reference").resolve()
    folders = ("common", *(f"lerobot-{version}" for version in VERSIONS), *more)
    if not install.is_installed(path, folders):
        raise ReferenceMissing(
            f"the reference LeRobot is not installed in {path}, or not with the pins of "
            f"{install.REQUIREMENTS} for this Python. Run `make reference`, or set PI0_REFERENCE"
            " to a folder where `python -m reference.install` was run."
        )
    return path


def oracle_environment(version: str, reference: Path) -> dict[str, str]:
    """Environment for an oracle's process."""
    env = {k: v for k, v in os.environ.items() if k not in _DROPPED}
    paths = (reference / f"lerobot-{version}", reference / "common", ROOT, ROOT / "test")
    env["PYTHONPATH"] = os.pathsep.join(map(str, paths))
    env |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
    return env


def run_oracles(
    version: str,
    cases: Sequence[Mapping[str, Any]],
    out: Path,
    timeout: float = 600.0,
) -> dict[str, OracleResult]:
    """Run cases through LeRobot `version` (one of VERSIONS) in one process, into out/<name>.

    timeout is in seconds. Raises ValueError (bad case or version), ReferenceMissing, OracleFailed.
    """
    if version not in VERSIONS:
        raise ValueError(f"LeRobot {version!r}: expected one of {sorted(VERSIONS)}")
    for case in cases:
        Case.from_json(dict(case))
    reference = reference_dir()
    out.mkdir(parents=True, exist_ok=True)
    case_file = out / f"cases-{version}.json"
    case_file.write_text(json.dumps([dict(case) for case in cases], indent=2))
    command = [*COMMAND, version, str(case_file), str(out)]
    try:
        process = subprocess.run(
            command,
            env=oracle_environment(version, reference),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired as error:
        raise OracleFailed(
            f"the LeRobot {version} oracle took longer than {timeout:.0f} s: {' '.join(command)}\n"
            f"{_tail(error.stdout)}"
        ) from error
    if process.returncode:
        raise OracleFailed(
            f"the LeRobot {version} oracle ended with status {process.returncode}: "
            f"{' '.join(command)}\n{_tail(process.stdout)}"
        )
    return {case["name"]: OracleResult(out / case["name"]) for case in cases}


def run_oracle(version: str, case: Mapping[str, Any], out: Path) -> OracleResult:
    """`run_oracles` for one case."""
    return run_oracles(version, [case], out)[case["name"]]


def _tail(output: str | bytes | None, lines: int = 40) -> str:
    text = output.decode(errors="replace") if isinstance(output, bytes) else output or "(no output)"
    return "\n".join(text.splitlines()[-lines:])
