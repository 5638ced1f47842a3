"""Starting where torch_npu is installed and CANN is not: the commonest machine on the first day."""

import os
import subprocess
import sys
from pathlib import Path

import torch
from support.waiting import PATIENCE

WHY = "CANN is not installed" if torch.version.cuda is None else "is the build for CUDA"
REPOSITORY = Path(__file__).parents[2]
_LOAD = """
import logging, sys
logging.basicConfig(level=logging.WARNING)
from pi0_ros.policy.policy import Policy
Policy.load(sys.argv[1], device=sys.argv[2])
"""


def load(checkpoint: Path, device: str, torch_npu_dir: Path) -> subprocess.CompletedProcess[str]:
    dropped = {"TORCH_DEVICE_BACKEND_AUTOLOAD", "ASCEND_TOOLKIT_HOME"}
    dropped |= {"_ROS_WHEELS_BOOTSTRAP_COMPLETE"}
    env = {k: v for k, v in os.environ.items() if k not in dropped}
    env["PYTHONPATH"] = os.pathsep.join((str(REPOSITORY), str(torch_npu_dir)))
    return subprocess.run(
        [sys.executable, "-c", _LOAD, str(checkpoint), device],
        env=env,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def test_auto_runs_on_the_cpu_and_says_why(demo_checkpoint: Path, torch_npu_dir: Path) -> None:
    done = load(demo_checkpoint, "auto", torch_npu_dir)
    assert done.returncode == 0, done.stderr
    assert "the model runs on the CPU" in done.stderr
    assert WHY in done.stderr


def test_npu_refuses_and_says_why(demo_checkpoint: Path, torch_npu_dir: Path) -> None:
    done = load(demo_checkpoint, "npu", torch_npu_dir)
    assert done.returncode != 0
    assert "DeviceError: " in done.stderr and WHY in done.stderr
