"""`pi0 check --device npu:0` from its beginning to its end, on an NPU that the CPU emulates."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from support import ROOT

from pi0_ros.check.kernels import PIECES


@pytest.fixture(scope="module")
def checked(
    stand_ins: Path, torch_npu_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    if torch.version.cuda is not None:
        pytest.skip("torch here is the build for CUDA, beside which `pi0` imports no torch_npu")
    folder = tmp_path_factory.mktemp("check")
    env = {k: v for k, v in os.environ.items() if not k.startswith("ASCEND_")}
    paths = (ROOT / "test" / "npu" / "startup", ROOT, ROOT / "test", torch_npu_dir)
    env["PYTHONPATH"] = os.pathsep.join(map(str, paths))
    env |= {"PI0_EMULATED_NPU": str(stand_ins), "OMP_NUM_THREADS": "1"}
    command = ["check", "--device", "npu:0", "--size", "tiny", "--budget", "3000", "--ways", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "pi0_ros.cli", *command, "--out", folder / "out"],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
    )
    file = folder / "out" / "check.json"
    assert file.is_file(), done.stderr[-4000:]
    return done, json.loads(file.read_text())


def rows(document: dict[str, Any], group: str) -> dict[str, Any]:
    return {row["name"]: row for row in document["rows"] if row["group"] == group}


def test_kernels_in_all_their_forms_are_compared(checked) -> None:
    _, document = checked
    kernels = rows(document, "kernels")
    assert {row["status"] for row in kernels.values()} == {"ok"}, kernels
    first = list(kernels)[:4]
    assert first[:3] == ["RotaryMul per-head", "RotaryMul broadcast", "RotaryMul to use"]
    assert first[3] == "suffix attention on prefix, fia"
    assert kernels["RotaryMul to use"]["figures"]["sound"] == ["per-head", "broadcast"]
    for kernel in ("fia", "pfa"):
        assert {f"{piece}, {kernel}" for piece in PIECES} <= set(kernels)
    assert "prefix attention, RoPE, fia, padded masks" in kernels


def test_the_whole_model_is_compared_and_scanned(checked) -> None:
    _, document = checked
    whole = rows(document, "whole model")
    assert {row["status"] for row in whole.values()} == {"ok"}, whole
    assert whole["actions against float32"]["figures"]["cosine"] >= 0.9999
    assert 0.99 <= whole["actions against float32, int8"]["figures"]["cosine"] < 0.99999
    assert whole["finite, not saturated"]["figures"]["operators"] > 100


def test_eager_is_timed_and_what_needs_cann_fails_by_name(checked) -> None:
    done, document = checked
    speed = rows(document, "speed")
    eager = speed.pop("eager two-graph fia nd")
    assert eager["status"] == "measured", eager
    assert eager["figures"]["p99"] >= eager["figures"]["p50"] > 0
    assert eager["figures"]["memory"] > 0
    # There is no graph engine behind the stand-ins.
    assert list(speed) == ["torchair frame fia nd"]
    assert speed["torchair frame fia nd"]["status"] == "FAILED"
    assert done.returncode == 1 and "FAILED: torchair frame fia nd" in done.stdout


def test_the_card_is_described(checked) -> None:
    _, document = checked
    assert document["kind"] == "npu" and document["dtype"] == "bfloat16"
    facts = document["facts"]
    assert facts["device"] == "npu:0, Ascend910B3"
    assert facts["driver"] == "npu-smi is not installed"
    assert facts["CANN"] == "version not found" and "torch_npu" in facts
