"""What works without ROS, in processes in which no module of ROS can be imported."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from support import ROOT

from pi0_ros import console

BLOCK = """
import sys
from pi0_ros import cli, console

class NoRos:
    def find_spec(self, name, path=None, target=None):
        if console.missing(name) == console.NEEDS_ROS:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NoRos())
"""
ROOMS = (
    "bags",
    "checkpoint",
    "diff",
    "eval",
    "model",
    "motion",
    "policy",
    "profile",
    "serve",
)
"""Rooms that need no ROS at all."""


def without_ros(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BLOCK + code, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=100,
    )


def pi0(*arguments: object) -> subprocess.CompletedProcess[str]:
    return without_ros("sys.exit(cli.main(sys.argv[1:]))", *arguments)


def test_the_hook_blocks_ros_and_nothing_else() -> None:
    done = without_ros("import numpy, torch\nimport rclpy")
    assert done.stderr.endswith("ModuleNotFoundError: No module named 'rclpy'\n")


def test_rooms_without_ros_and_all_verbs_can_be_imported() -> None:
    files = [file for name in ROOMS for file in sorted((ROOT / "pi0_ros" / name).glob("*.py"))]
    names = [".".join(f.relative_to(ROOT).with_suffix("").parts) for f in files]
    assert len(names) > 3 * len(ROOMS)
    code = (
        "import importlib, importlib.util\n"
        "for name in [*sys.argv[1:], *(module for module, _ in cli.VERBS.values())]:\n"
        "    if importlib.util.find_spec(name): importlib.import_module(name)\n"
    )
    done = without_ros(code, *names)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("program", ["node", "viz"])
def test_executables_say_that_they_need_ros(program: str) -> None:
    done = without_ros(f"from pi0_ros.{program}.main import main; sys.exit(main([]))")
    assert (done.returncode, done.stderr) == (1, f"pi0_{program}: {console.NEEDS_ROS}\n")
