"""The device that the model runs on, and why an NPU or a GPU cannot be used."""

import importlib
import logging
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from pi0_ros.errors import UserError
from pi0_ros.policy import cann

_LOG = logging.getLogger(__name__)
_ASCEND_DEVICES = Path("/dev")
_NVIDIA = Path("/proc/driver/nvidia/version")
# By the prefix of the name that CANN gives a chip: Atlas A2 is 910B, A3 is 910_93.
_SUPPORTED_CHIPS = ("Ascend910B", "Ascend910_93")
_REFUSED_CHIPS = {
    "Ascend310B": "it has too little memory for pi0",
    "Ascend310P": "it computes no bfloat16 and lacks npu_fused_infer_attention_score",
}


class DeviceError(UserError, RuntimeError):
    """The device cannot be used; the message says why and what to do."""


def resolve_device(name: str) -> torch.device:
    """The torch device that a name stands for, ready to be used.

    Args:
        name: `auto`, `cpu`, `npu`, `npu:1`, `cuda`, `cuda:1`, or any other device of torch. `auto`
            is the first NPU that can be used, otherwise the first GPU of NVIDIA, otherwise the
            CPU, with a warning that says why.

    Raises:
        DeviceError: the device cannot be used.
    """
    if name == "auto":
        reasons = []
        for kind, resolve in _ACCELERATORS.items():
            try:
                return resolve(f"{kind}:0")
            except DeviceError as error:
                reasons.append(str(error))
        _LOG.warning("device auto: the model runs on the CPU.\n%s", "\n".join(reasons))
        return torch.device("cpu")
    if resolve := _ACCELERATORS.get(name.partition(":")[0]):
        return resolve(name)
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise DeviceError(f"device '{name}' cannot be used by torch here: {error}") from error
    return device


def _npu(name: str) -> torch.device:
    """An NPU, after checks of everything that is known to go wrong."""
    # Before the import, because some of it ends the process instead of raising.
    if problem := cann.problem():
        raise DeviceError(f"device '{name}': {problem}")
    try:
        importlib.import_module("torch_npu")
    # torch_npu raises plain Exception where it does not like its environment.
    except Exception as error:
        raise DeviceError(
            f"torch_npu cannot be loaded: {error}. Is CANN {cann.short_version() or 'here'} the "
            "version that this torch_npu was built for, and is the driver mounted? (docs/ascend.md)"
        ) from error
    index, count = _index(name), torch.npu.device_count()
    if index >= count:
        there = sorted(path.name for path in _ASCEND_DEVICES.glob("davinci[0-9]*"))
        raise DeviceError(
            f"device '{name}': CANN sees {count} NPUs, and /dev has {there or 'no davinci device'}."
            " Check `npu-smi info`, ASCEND_RT_VISIBLE_DEVICES, and in a container that driver and "
            "devices are mounted (docs/ascend.md)"
        )
    chip = torch.npu.get_device_name(index)
    if not chip.startswith(_SUPPORTED_CHIPS):
        why = next((w for c, w in _REFUSED_CHIPS.items() if chip.startswith(c)), "it is not known")
        raise DeviceError(
            f"device '{name}' is an {chip}, which is not supported: {why}. Supported are "
            "Atlas A2 (910B) and A3 (910_93)"
        )
    return torch.device("npu", index)


def _cuda(name: str) -> torch.device:
    """A GPU of NVIDIA, after checks of driver and compute capability."""
    if torch.version.cuda is None:
        raise DeviceError(
            f"device '{name}': torch {torch.__version__} is a build without CUDA. Install the one "
            "with it (docs/nvidia.md has the wheels of each platform)"
        )
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        raise DeviceError(
            f"device '{name}' cannot be used: {str(error).rstrip('. ')}. The driver is "
            f"{_driver()}, torch is built for CUDA {torch.version.cuda}; check `nvidia-smi`, "
            "CUDA_VISIBLE_DEVICES, and in a container that it was started with --gpus all or, on a "
            "Jetson, --runtime nvidia (docs/nvidia.md)"
        ) from error
    index, count = _index(name), torch.cuda.device_count()
    if index >= count:
        raise DeviceError(
            f"device '{name}': the driver shows {count} GPUs, counted from 0. Check `nvidia-smi -L`"
            " and CUDA_VISIBLE_DEVICES"
        )
    device = torch.device("cuda", index)
    capability, kernels = torch.cuda.get_device_capability(device), torch.cuda.get_arch_list()
    if not any(_runs_on(architecture, capability) for architecture in kernels):
        raise DeviceError(
            f"device '{name}' ({torch.cuda.get_device_name(device)}) has compute capability "
            f"{capability[0]}.{capability[1]}, and torch {torch.__version__} has kernels for "
            f"{', '.join(kernels)} only: install a build for it (docs/nvidia.md), or use another "
            "device"
        )
    return device


_ACCELERATORS = {"npu": _npu, "cuda": _cuda}
"""By kind, in the order in which `auto` takes them."""


def check_fits(device: torch.device, dtype: torch.dtype, needed: Callable[[], int]) -> None:
    """Whether a GPU computes in a dtype, and has the memory; other devices are not asked.

    Args:
        needed: bytes of weights, activations and what the driver keeps.

    Raises:
        DeviceError: it does not, with what to do.
    """
    if device.type != "cuda":
        return
    what = f"device '{device}' ({torch.cuda.get_device_name(device)})"
    capability = torch.cuda.get_device_capability(device)
    if dtype == torch.bfloat16 and capability < (8, 0):
        raise DeviceError(
            f"{what} has compute capability {capability[0]}.{capability[1]} and computes no "
            "bfloat16, which begins with 8.0 (Ampere): set dtype to float32, or use another device"
        )
    free, total = torch.cuda.mem_get_info(device)
    # Where CPU and GPU share the memory, the system's file cache counts as used, but gives way.
    shared = bool(getattr(torch.cuda.get_device_properties(device), "is_integrated", False))
    if (total if shared else free) < needed():
        raise DeviceError(
            f"{what} has {free / 1e9:.1f} of {total / 1e9:.1f} GB free, and the model needs about "
            f"{needed() / 1e9:.1f} GB in {str(dtype).removeprefix('torch.')}: close what else uses "
            "the GPU (`nvidia-smi`), set dtype to bfloat16, or use another device (docs/nvidia.md "
            "has the memory of each configuration)"
        )


def check_precision(device: torch.device, dtype: torch.dtype, precision: str) -> None:
    """Whether a device computes products of eight bits; see `pi0_ros.model.quantised`.

    Raises:
        DeviceError: it does not, with what to do.
    """
    what = f"precision '{precision}' on device '{device}'"
    if precision == "int8" and device.type not in ("npu", "cpu"):
        raise DeviceError(
            f"{what}: it is for NPUs, and for CPUs to try what it does to the actions; a GPU of "
            "NVIDIA has 'float8'"
        )
    if precision != "float8":
        return
    if device.type != "cuda":
        raise DeviceError(
            f"{what}: it is for GPUs of NVIDIA from compute capability 8.9 on; use 'int8' on an "
            "NPU, 'full' elsewhere"
        )
    capability = torch.cuda.get_device_capability(device)
    if capability < (8, 9):
        raise DeviceError(
            f"{what} ({torch.cuda.get_device_name(device)}): it has compute capability "
            f"{capability[0]}.{capability[1]}, and float8 begins with 8.9 (Ada): use 'full'"
        )
    if dtype != torch.bfloat16:
        raise DeviceError(f"{what}: its results are bfloat16: set dtype to bfloat16, too")


class Transfer:
    """Copies between the host and a device: on CUDA through pinned memory, while the host goes on.

    Not thread-safe. Pinned buffers are used again once the host has waited for the device.
    """

    MOST = 256
    """Buffers in use at which it waits, should nobody ask for results."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.is_asynchronous = device.type == "cuda"
        self._free: dict[tuple[torch.Size, torch.dtype], list[torch.Tensor]] = {}
        self._used: list[torch.Tensor] = []

    def upload(self, values: np.ndarray) -> torch.Tensor:
        """An array, of any strides, on the device."""
        if not self.is_asynchronous:
            # torch takes no negative strides, and warns of what must not be written to.
            dense = np.require(values, requirements=("C", "W"))
            return torch.from_numpy(dense).to(self.device)
        buffer = self._buffer(values.shape, torch.from_numpy(np.empty(0, values.dtype)).dtype)
        np.copyto(buffer.numpy(), values)
        return buffer.to(self.device, non_blocking=True, copy=True)

    def download(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor on the host; waits for everything that the device was given."""
        if not self.is_asynchronous:
            return tensor.cpu()
        buffer = self._buffer(tensor.shape, tensor.dtype)
        buffer.copy_(tensor, non_blocking=True)
        self._wait()
        return buffer.clone()

    def _buffer(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        """A buffer that the device does not read or write."""
        if len(self._used) >= self.MOST:
            self._wait()
        free = self._free.get((torch.Size(shape), dtype))
        buffer = free.pop() if free else torch.empty(*shape, dtype=dtype, pin_memory=True)
        self._used.append(buffer)
        return buffer

    def _wait(self) -> None:
        torch.cuda.current_stream(self.device).synchronize()
        for buffer in self._used:
            self._free.setdefault((buffer.shape, buffer.dtype), []).append(buffer)
        self._used.clear()


class StageClock:
    """Wall time per stage."""

    def __init__(self, device: torch.device) -> None:
        self.laps: dict[str, float] = {}
        self._device = device
        self._last = time.perf_counter()

    def lap(self, stage: str, waits: bool = True) -> None:
        """End a stage.

        Args:
            waits: for the device, so that what it still does counts in this stage.
        """
        if waits and self._device.type != "cpu":
            getattr(torch, self._device.type).synchronize(self._device)
        now = time.perf_counter()
        self.laps[stage] = now - self._last
        self._last = now


def chip_name(device: torch.device) -> str:
    """What computes: the name of the accelerator or of the processor."""
    if device.type != "cpu":
        return str(getattr(torch, device.type).get_device_name(device))
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    # An ARM kernel gives numbers instead of a name.
    names = ("model name", "CPU implementer", "CPU part")
    found = {line.partition(":")[0].strip(): line.partition(":")[2].strip() for line in lines}
    return " ".join(found[name] for name in names if name in found) or platform.machine()


def _index(name: str) -> int:
    """`cuda:1` -> 1, `cuda` -> 0.

    Raises:
        DeviceError: there is no number behind the colon.
    """
    number = name.partition(":")[2] or "0"
    if not number.isdecimal():
        raise DeviceError(f"device '{name}' must be a kind with :N or without, such as cuda:0")
    return int(number)


def _runs_on(architecture: str, capability: tuple[int, int]) -> bool:
    """Whether code for an architecture, such as sm_86, sm_90a or compute_120, runs on a GPU.

    Machine code (sm) does within its major version, from its minor version on; PTX (compute) does
    on all that is newer.
    """
    kind, _, number = architecture.partition("_")
    digits = "".join(c for c in number if c.isdecimal())
    of = int(digits[:-1]), int(digits[-1])
    if number.endswith("a"):  # sm_90a is for 9.0 alone
        return of == capability
    return of <= capability if kind == "compute" else of[0] == capability[0] and of <= capability


def _driver() -> str:
    """The version of NVIDIA's kernel module, in words."""
    try:
        text = _NVIDIA.read_text()
    except OSError:
        return f"not loaded ({_NVIDIA} is missing)"
    return next((word for word in text.split() if word[0].isdecimal() and "." in word), "unknown")
