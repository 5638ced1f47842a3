"""What works without ROS, in processes in which no module of ROS can be imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT
from support.waiting import PATIENCE

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
TOUCH = ROOT / "pi0_ros" / "sim" / "touch_checkpoint"
ROOMS = (
    "bags",
    "checkpoint",
    "convert",
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
        timeout=PATIENCE,
    )


def pi0(*arguments: object) -> subprocess.CompletedProcess[str]:
    return without_ros("sys.exit(cli.main(sys.argv[1:]))", *arguments)


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of the simulated arm."""
    pytest.importorskip("mujoco")
    path = tmp_path_factory.mktemp("without_ros") / "bag"
    done = pi0("demo", "bag", path, "--seconds", 1)
    assert done.returncode == 0, done.stderr
    return path


def test_the_hook_blocks_ros_and_nothing_else() -> None:
    done = without_ros("import numpy, torch\nimport rclpy")
    assert done.stderr.endswith("ModuleNotFoundError: No module named 'rclpy'\n")


def test_rooms_without_ros_and_all_verbs_can_be_imported() -> None:
    files = [file for name in ROOMS for file in sorted((ROOT / "pi0_ros" / name).glob("*.py"))]
    names = [".".join(f.relative_to(ROOT).with_suffix("").parts) for f in files]
    names.remove("pi0_ros.serve.fleet")  # needs Ray
    assert len(names) > 3 * len(ROOMS)
    code = (
        "import importlib\n"
        "for name in [*sys.argv[1:], *(module for module, _ in cli.VERBS.values())]:\n"
        "    importlib.import_module(name)\n"
    )
    done = without_ros(code, *names)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", ["node.main", "sim.node", "viz.main"])
def test_executables_say_that_they_need_ros(module: str) -> None:
    done = without_ros(f"from pi0_ros.{module} import main; sys.exit(main([]))")
    program = f"pi0_{module.partition('.')[0]}"
    assert (done.returncode, done.stderr) == (1, f"{program}: {console.NEEDS_ROS}\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["doctor", "--checkpoint", TOUCH, "--params", ROOT / "config" / "touch.yaml"],
        ["replay", "bag", "--checkpoint", TOUCH],
        ["view", "--live"],
        ["demo"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_what_needs_ros_says_so(arguments: list[object], bag: Path, tmp_path: Path) -> None:
    arguments = [bag if word == "bag" else word for word in arguments]
    if arguments[0] == "demo":
        arguments += ["--out", tmp_path / "out"]
    done = pi0(*arguments)
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines()[-1] == f"pi0 {arguments[0]}: {console.NEEDS_ROS}"


def test_replay_diff_eval_and_doctor_of_a_bag(bag: Path, tmp_path: Path) -> None:
    given = f"--checkpoint {TOUCH} --params {ROOT / 'config' / 'touch.yaml'}"
    limits = f"--enable --ros-args -p joint_limits:={ROOT / 'config' / 'so101_limits.yaml'}"
    lines = [
        f"replay {bag} --deterministic {given} --out {tmp_path / 'out'} {limits}",
        f"diff {tmp_path / 'out'} {tmp_path / 'out'} --json {tmp_path / 'diff.json'}",
        f"eval {bag} {given} --json {tmp_path / 'eval.json'}",
        f"doctor --bag {bag} {given} --json {tmp_path / 'doctor.json'}",
    ]
    code = (
        "for line in sys.argv[1:]:\n"
        "    print('status', line.split()[0], cli.main(line.split()), flush=True)\n"
    )
    done = without_ros(code, *lines)
    statuses = [line for line in done.stdout.splitlines() if line.startswith("status ")]
    expected = ["replay 0", "diff 0", "eval 0", "doctor 0"]
    assert statuses == [f"status {words}" for words in expected], done.stdout + done.stderr
    assert json.loads((tmp_path / "diff.json").read_text())["trajectories"]["pairs"] > 5
    assert json.loads((tmp_path / "eval.json").read_text())["all"]["chunks"] > 5
    assert json.loads((tmp_path / "doctor.json").read_text())["passed"]
