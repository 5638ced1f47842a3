"""Choosing a device on machines that lack one thing or another.

The machines are pretended: nothing here ran on an NPU or a GPU.
"""

import sys
import types
from collections.abc import Callable
from importlib import machinery, metadata, util
from pathlib import Path

import pytest
import torch

from pi0_ros.policy import cann
from pi0_ros.policy import device as module
from pi0_ros.policy.device import (
    DeviceError,
    check_fits,
    check_precision,
    chip_name,
    resolve_device,
)

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
        monkeypatch.setattr(cann, "_is_cuda_build", lambda: cuda is not None)
        monkeypatch.setattr(cann, "_cann_problem", lambda: None)
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


def test_what_cann_lacks_is_said_before_torch_npu_is_imported(
    machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(loads=False)
    monkeypatch.setattr(cann, "_cann_problem", lambda: "CANN is not sourced")
    assert refused() == "device 'npu': CANN is not sourced"


@pytest.mark.parametrize("error", [OSError, ImportError, RuntimeError, Exception])
def test_whatever_torch_npu_raises_is_a_refusal(
    machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    machine()

    def load(name: str) -> None:
        raise error(f"{name} does not like this")

    monkeypatch.setattr(module.importlib, "import_module", load)
    assert "torch_npu cannot be loaded: torch_npu does not like this" in refused()


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


# ---- NVIDIA --------------------------------------------------------------------------------------


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Pretends GPUs; by default two H100 with everything in order, and no NPU."""

    def pretend(
        error: str | None = None,
        count: int = 2,
        capability: tuple[int, int] = (9, 0),
        kernels: str = "sm_75 sm_80 sm_86 sm_90 sm_100 sm_120 compute_120",
        cuda: str | None = "13.0",
        free: float = 80e9,
        shared: bool = False,
    ) -> None:
        def init() -> None:
            if error is not None:
                raise RuntimeError(error)

        fakes = {
            "init": init,
            "device_count": lambda: count,
            "get_device_capability": lambda device: capability,
            "get_arch_list": lambda: kernels.split(),
            "get_device_name": lambda device: f"GPU {device.index}",
            "mem_get_info": lambda device: (int(free), 80_000_000_000),
            "get_device_properties": lambda device: types.SimpleNamespace(is_integrated=shared),
        }
        for name, fake in fakes.items():
            monkeypatch.setattr(torch.cuda, name, fake)
        monkeypatch.setattr(torch.version, "cuda", cuda)
        find = util.find_spec
        monkeypatch.setattr(
            util, "find_spec", lambda n, *a: None if n == "torch_npu" else find(n, *a)
        )

    return pretend


def test_a_gpu_in_order_is_taken(gpus: Callable[..., None]) -> None:
    gpus()
    assert resolve_device("cuda") == torch.device("cuda", 0)
    assert resolve_device("cuda:1") == torch.device("cuda", 1)
    check_fits(torch.device("cuda", 0), torch.bfloat16, lambda: 8_000_000_000)


def test_auto_prefers_an_npu_then_a_gpu_then_the_cpu(
    gpus: Callable[..., None],
    machine: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    gpus()
    assert resolve_device("auto") == torch.device("cuda", 0)
    assert not caplog.text, "a GPU is no fault"
    gpus(error="No CUDA GPUs are available")
    assert resolve_device("auto") == torch.device("cpu")
    assert (
        "torch_npu is not installed" in caplog.text and "No CUDA GPUs are available" in caplog.text
    )
    gpus()
    machine()
    assert resolve_device("auto").name == ("npu", 0)


def test_no_driver_or_an_old_one(
    gpus: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "_NVIDIA", tmp_path / "version")
    gpus(error="Found no NVIDIA driver on your system.")
    text = refused("cuda")
    assert "Found no NVIDIA driver on your system" in text and "driver is not loaded" in text
    assert "--gpus all" in text and "nvidia-smi" in text
    (tmp_path / "version").write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  470.82.01  Wed Oct 27 21:21:55 UTC 2021\n"
    )
    gpus(error="The NVIDIA driver on your system is too old (found version 11040).")
    text = refused("cuda:1")
    assert "too old" in text and "The driver is 470.82.01, torch is built for CUDA 13.0" in text


def test_a_build_of_torch_without_cuda(gpus: Callable[..., None]) -> None:
    gpus(cuda=None)
    assert "is a build without CUDA" in refused("cuda:0")
    assert "docs/nvidia.md" in refused("cuda:0")


@pytest.mark.parametrize("name", ["cuda:2", "cuda:17"])
def test_a_gpu_that_is_not_there(gpus: Callable[..., None], name: str) -> None:
    gpus()
    assert f"device '{name}': the driver shows 2 GPUs, counted from 0" in refused(name)


@pytest.mark.parametrize("name", ["cuda:x", "cuda:-1", "cuda:0.5"])
def test_a_name_that_is_no_number(gpus: Callable[..., None], name: str) -> None:
    gpus()
    assert "such as cuda:0" in refused(name)


@pytest.mark.parametrize(
    "capability,kernels,runs",
    [
        ((8, 7), "sm_80 sm_90", True),  # Orin, from the code for 8.0
        ((8, 0), "sm_86 sm_90", False),
        ((6, 1), "sm_75 sm_80 compute_80", False),
        ((12, 0), "sm_80 sm_90 compute_90", True),  # compiled by the driver
        ((12, 0), "sm_80 sm_90", False),
        ((10, 0), "sm_90a sm_80", False),
        ((9, 0), "sm_80 sm_90a", True),
        ((12, 1), "sm_120f", True),
    ],
)
def test_compute_capability(
    gpus: Callable[..., None], capability: tuple[int, int], kernels: str, runs: bool
) -> None:
    gpus(capability=capability, kernels=kernels)
    if runs:
        assert resolve_device("cuda").type == "cuda"
        return
    text = refused("cuda")
    assert f"has compute capability {capability[0]}.{capability[1]}" in text
    assert kernels.replace(" ", ", ") in text


def test_bfloat16_begins_with_ampere(gpus: Callable[..., None]) -> None:
    gpus(capability=(7, 5))
    device = resolve_device("cuda")
    check_fits(device, torch.float32, lambda: 1)
    with pytest.raises(DeviceError, match=r"computes no bfloat16, which begins with 8\.0"):
        check_fits(device, torch.bfloat16, lambda: 1)


def test_eight_bits_are_refused_where_nothing_computes_them(gpus: Callable[..., None]) -> None:
    gpu, cpu, npu = torch.device("cuda", 0), torch.device("cpu"), torch.device("meta")
    bfloat16 = torch.bfloat16
    gpus(capability=(8, 9))
    for on, precision in ((gpu, "full"), (gpu, "float8"), (cpu, "int8"), (cpu, "full")):
        check_precision(on, bfloat16, precision)
    refusals = [
        (gpu, bfloat16, "int8", "a GPU of NVIDIA has 'float8'"),
        (cpu, bfloat16, "float8", "precision 'float8' on device 'cpu': it is for GPUs of NVIDIA"),
        (npu, bfloat16, "float8", "use 'int8' on an NPU"),
        (gpu, torch.float32, "float8", "set dtype to bfloat16, too"),
    ]
    for on, dtype, precision, words in refusals:
        with pytest.raises(DeviceError, match=words):
            check_precision(on, dtype, precision)
    gpus(capability=(8, 6))
    with pytest.raises(DeviceError, match=r"GPU 0.: it has compute capability 8\.6, and float8 be"):
        check_precision(gpu, bfloat16, "float8")


def test_memory(gpus: Callable[..., None]) -> None:
    gpus(free=6e9)
    device, needed = torch.device("cuda", 1), lambda: 6_700_000_000
    with pytest.raises(DeviceError, match=r"6\.0 of 80\.0 GB free, .* about 6\.7 GB in bfloat16"):
        check_fits(device, torch.bfloat16, needed)
    gpus(free=6e9, shared=True)  # a Jetson: the file cache gives way
    check_fits(device, torch.bfloat16, needed)
    check_fits(torch.device("cpu"), torch.bfloat16, lambda: 10**15)


def test_the_name_of_the_chip(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    assert chip_name(cpu)
    named = {"model name\t: Some CPU\nflags\t: a b": "Some CPU"}
    named["CPU implementer\t: 0x48\nCPU part\t: 0xd01"] = "0x48 0xd01"
    for text, name in named.items():
        with monkeypatch.context() as patch:
            patch.setattr(Path, "read_text", lambda path, text=text: text)
            assert chip_name(cpu) == name
    gpu = types.SimpleNamespace(get_device_name=lambda device: f"GPU {device.index}")
    monkeypatch.setattr(torch, "cuda", gpu)
    assert chip_name(torch.device("cuda", 1)) == "GPU 1"
