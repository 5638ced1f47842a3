"""Processes with the real torch_npu and with stand-ins for CANN."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from npu import install
from support import ROOT

# The ROS wheels of PyPI mark an interpreter that they re-executed; a child must not inherit that.
# With CI set, torch forbids operators that return an argument, as torch_npu's `.out` forms do.
_DROPPED = ("_ROS_WHEELS_BOOTSTRAP_COMPLETE", "PYTHONHOME", "PYTHONSTARTUP", "CI")

Run = Callable[..., subprocess.CompletedProcess[str]]


def run_python(
    *args: str | Path, paths: tuple[Path, ...] = (), check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run this Python on the repository's modules, the tests' and those in `paths`."""
    env = {k: v for k, v in os.environ.items() if k not in _DROPPED}
    env["PYTHONPATH"] = os.pathsep.join(map(str, (ROOT, ROOT / "test", *paths)))
    # Importing torch must not import torch_npu, which cannot succeed without the stand-ins.
    env["TORCH_DEVICE_BACKEND_AUTOLOAD"] = "0"
    env["OMP_NUM_THREADS"] = "1"
    result = subprocess.run(
        [sys.executable, *map(str, args)],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=900,
    )
    if check and result.returncode:
        pytest.fail(f"{args} ended with {result.returncode}:\n{result.stderr[-6000:]}")
    return result


@pytest.fixture(scope="session")
def torch_npu_dir() -> Path:
    """Folder with torch_npu: $PI0_NPU, else build/npu of the repository."""
    path = Path(os.environ.get("PI0_NPU") or ROOT / "build" / "npu").resolve()
    if why := install.unfit():
        pytest.skip(why)
    if not install.is_installed(path):
        pytest.fail(
            f"torch_npu is not installed in {path} as test/npu/requirements.txt pins it for this "
            "Python: run `make npu`"
        )
    return path


@pytest.fixture(scope="session")
def stand_ins(torch_npu_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the compiled stand-ins."""
    folder = tmp_path_factory.mktemp("stand-ins")
    code = (
        "import sys; from pathlib import Path; from benchmarks.graph_report import stand_ins; "
        "stand_ins.build(Path(sys.argv[1]))"
    )
    run_python("-c", code, folder, paths=(torch_npu_dir,))
    return folder


@pytest.fixture(scope="session")
def without_torch_npu() -> Run:
    """Runs Python as most machines have it."""
    return run_python


@pytest.fixture(scope="session")
def with_torch_npu(torch_npu_dir: Path) -> Run:
    """Runs Python where torch_npu can be imported once the stand-ins are loaded."""

    def run(*args: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        return run_python(*args, paths=(torch_npu_dir,), check=check)

    return run
