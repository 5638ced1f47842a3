"""The device that the model runs on, and why an NPU cannot be used."""

import importlib
import logging
import os
from importlib import metadata, util
from pathlib import Path

import torch

from pi0_ros.errors import UserError

_LOG = logging.getLogger(__name__)
_CANN = Path("/usr/local/Ascend/ascend-toolkit/set_env.sh")
_ASCEND_DEVICES = Path("/dev")
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
        name: `auto`, `cpu`, `npu`, `npu:1`, or any other device of torch. `auto` is the first NPU
            where one can be used and the CPU, with a warning that says why, where none can.

    Raises:
        DeviceError: the device cannot be used.
    """
    if name == "auto":
        try:
            return _npu("npu:0")
        except DeviceError as error:
            _LOG.warning("device auto: the model runs on the CPU. %s", error)
            return torch.device("cpu")
    if name.partition(":")[0] == "npu":
        return _npu(name)
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise DeviceError(f"device '{name}' cannot be used by torch here: {error}") from error
    return device


def _npu(name: str) -> torch.device:
    """An NPU, after checks of everything that is known to go wrong."""
    if util.find_spec("torch_npu") is None:
        raise DeviceError(
            f"device '{name}' needs torch_npu, which is not installed in this Python. Install the "
            f"release that pairs with torch {_release(torch.__version__)}: "
            f"pip install 'torch_npu=={_release(torch.__version__)}.*' (docs/ascend.md has the "
            "pairs with CANN)"
        )
    # Before the import, because mismatched libraries end the process instead of raising.
    installed = metadata.version("torch_npu")
    if _release(installed) != _release(torch.__version__):
        raise DeviceError(
            f"torch_npu {installed} does not pair with torch {torch.__version__}: both must be of "
            f"the same release; pip install 'torch=={_release(installed)}.*'"
        )
    if torch.version.cuda is not None and _numbers(installed) >= (2, 10):
        raise DeviceError(
            f"torch {torch.__version__} is the build for CUDA, and torch_npu {installed} ends the "
            "process beside it (both register pinned_reserve_segment_size_mb). Install the build "
            f"for CPU: pip install 'torch=={_release(installed)}.*' --index-url "
            "https://download.pytorch.org/whl/cpu"
        )
    try:
        importlib.import_module("torch_npu")
    except (ImportError, OSError) as error:
        raise DeviceError(f"torch_npu cannot be loaded: {error}. {_cann_advice()}") from error
    count = torch.npu.device_count()
    index = torch.device(name).index or 0
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


def _cann_advice() -> str:
    if "ASCEND_TOOLKIT_HOME" in os.environ:
        return (
            f"CANN is sourced from {os.environ['ASCEND_TOOLKIT_HOME']}: is it the version that "
            "this torch_npu was built for, and is the driver mounted? (docs/ascend.md)"
        )
    if _CANN.is_file():
        return f"CANN is installed but not sourced: source {_CANN}"
    return "CANN is not installed, or not where it is looked for; see docs/ascend.md"


def _release(version: str) -> str:
    """`2.13.0+cpu` -> `2.13`."""
    return ".".join(version.split("+")[0].split(".")[:2])


def _numbers(version: str) -> tuple[int, ...]:
    """`2.10.0.post4` -> (2, 10)."""
    return tuple(int(number) for number in version.split(".")[:2])
