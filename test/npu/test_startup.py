"""Starting where torch_npu is installed and CANN is not: the commonest machine on the first day."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
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


WHYS = {
    "build for CUDA": "is the build for CUDA",
    "another release": "torch_npu 2.1.0 does not pair with torch",
    # For these torch_npu raises a plain Exception.
    "CANN is gone": "which is not there",
    "CANN without operators": "ASCEND_OPP_PATH names no folder",
}


@pytest.fixture(scope="module")
def taken(
    stand_ins: Path, with_torch_npu: Callable[..., object], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, object]]:
    """Which device is taken beside the real torch_npu, with CANN's runtime to be loaded."""
    folder = tmp_path_factory.mktemp("startup")
    arguments = ("npu.measure_startup", folder / "out.json", folder)
    with_torch_npu("-m", "npu.under_stand_ins", stand_ins, *arguments)
    return json.loads((folder / "out.json").read_text())


# The other build of torch comes first, before what CANN lacks.
only_for_cpu = pytest.mark.skipif(torch.version.cuda is not None, reason="needs torch for CPU")


@only_for_cpu
@pytest.mark.parametrize("case", WHYS)
def test_auto_falls_back_and_npu_refuses_before_torch_npu_is_imported(
    taken: dict[str, dict[str, object]], case: str
) -> None:
    found = taken[case]
    assert found["auto"] == "cpu" and not found["imported"]
    assert WHYS[case] in found["why"] and WHYS[case] in found["npu"]


@only_for_cpu
def test_what_is_in_order_is_taken(taken: dict[str, dict[str, object]]) -> None:
    found = taken["in order"]
    assert found["auto"] == found["npu"] == "npu:0" and found["imported"]


def test_a_driver_that_is_not_there(tmp_path: Path) -> None:
    """CANN's runtime is found, and needs a library of the driver that is not."""
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    for name, link in (("ascend_hal", []), ("ascendcl", ["-L.", "-lascend_hal"])):
        source = tmp_path / f"{name}.c"
        source.write_text(f"int {name}(void) {{ return 0; }}")
        command = ["cc", "-shared", "-fPIC", "-o", f"lib{name}.so", source, "-Wl,--no-as-needed"]
        subprocess.run([*command, *link], cwd=tmp_path, check=True)
    (tmp_path / "libascend_hal.so").unlink()
    code = "import pi0_ros.policy.cann as cann; print(cann._cann_problem())"
    env = {k: v for k, v in os.environ.items() if not k.startswith("ASCEND_")}
    env |= {"LD_LIBRARY_PATH": str(tmp_path), "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert "libascend_hal.so: cannot open shared object file" in done.stdout
    assert "the driver must be mounted" in done.stdout
