"""Choosing a device on machines that lack one thing or another.

The machines are pretended: nothing here ran on an NPU.
"""

import sys
import types
from collections.abc import Callable
from importlib import machinery, metadata, util
from pathlib import Path

import pytest
import torch

from pi0_ros.policy import device as module
from pi0_ros.policy.device import DeviceError, resolve_device

RELEASE = ".".join(torch.__version__.split("+")[0].split(".")[:2])


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Pretends a machine; by default one with everything in order."""

    def pretend(
        installed: bool = True,
        version: str = f"{RELEASE}.0",
        loads: bool = True,
        count: int = 2,
        chip: str = "Ascend910B3",
        cuda: str | None = None,
    ) -> None:
        monkeypatch.setattr(torch.version, "cuda", cuda)
        spec = machinery.ModuleSpec("torch_npu", None) if installed else None
        find, version_of = util.find_spec, metadata.version
        monkeypatch.setattr(
            util, "find_spec", lambda n, *a: spec if n == "torch_npu" else find(n, *a)
        )
        monkeypatch.setattr(
            metadata, "version", lambda n: version if n == "torch_npu" else version_of(n)
        )
        # None in sys.modules makes an import fail.
        fake = types.ModuleType("torch_npu") if loads else None
        monkeypatch.setitem(sys.modules, "torch_npu", fake)
        npu = types.SimpleNamespace(device_count=lambda: count, get_device_name=lambda index: chip)
        monkeypatch.setattr(torch, "npu", npu, raising=False)
        monkeypatch.setattr(
            torch, "device", lambda *a: types.SimpleNamespace(name=a, index=_index(a))
        )

    return pretend


def _index(arguments: tuple) -> int | None:
    if len(arguments) == 2:
        return arguments[1]
    return int(arguments[0].partition(":")[2]) if ":" in arguments[0] else None


def refused(name: str = "npu") -> str:
    with pytest.raises(DeviceError) as error:
        resolve_device(name)
    return str(error.value)


def test_plain_devices() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    assert "cannot be used by torch here" in refused("toaster")


def test_an_npu_in_order_is_taken(machine: Callable[..., None]) -> None:
    machine()
    assert resolve_device("npu:1").index == 1
    assert resolve_device("auto").index == 0


def test_no_torch_npu(machine: Callable[..., None]) -> None:
    machine(installed=False)
    assert f"pip install 'torch_npu=={RELEASE}.*'" in refused()


def test_versions_that_do_not_pair(machine: Callable[..., None]) -> None:
    machine(version="2.1.0")
    assert "torch_npu 2.1.0 does not pair with torch" in refused()


def test_the_build_of_torch_for_cuda(
    machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "__version__", "2.13.0+cu130")
    machine(version="2.13.0", cuda="13.0")
    assert "2.13.0+cu130 is the build for CUDA" in refused()
    assert "whl/cpu" in refused()
    monkeypatch.setattr(torch, "__version__", "2.9.0+cu128")
    machine(version="2.9.0.post6", cuda="12.8")  # it does not register that setting
    assert resolve_device("npu").index == 0


def test_no_cann(machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ASCEND_TOOLKIT_HOME", raising=False)
    machine(loads=False)
    assert "CANN is not installed" in refused()


def test_cann_not_sourced(
    machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("ASCEND_TOOLKIT_HOME", raising=False)
    script = tmp_path / "set_env.sh"
    script.touch()
    monkeypatch.setattr(module, "_CANN", script)
    machine(loads=False)
    assert f"source {script}" in refused()


def test_cann_of_another_version(
    machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASCEND_TOOLKIT_HOME", "/opt/cann")
    machine(loads=False)
    assert "CANN is sourced from /opt/cann" in refused()


def test_no_card(machine: Callable[..., None]) -> None:
    machine(count=0)
    assert "CANN sees 0 NPUs" in refused()
    machine(count=1)
    assert "CANN sees 1 NPUs" in refused("npu:3")


@pytest.mark.parametrize(
    "chip,why", [("Ascend310B1", "too little memory"), ("Ascend310P3", "no bfloat16")]
)
def test_chips_that_are_not_supported(machine: Callable[..., None], chip: str, why: str) -> None:
    machine(chip=chip)
    assert why in refused()


def test_auto_falls_back_to_the_cpu_and_says_why(
    machine: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    machine(installed=False)
    resolve_device("auto")
    assert "the model runs on the CPU" in caplog.text
    assert "torch_npu" in caplog.text
