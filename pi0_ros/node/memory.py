"""Memory of this process and of its accelerator, and giving it back. Never imports torch."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from pathlib import Path
from types import ModuleType

_STATM = Path("/proc/self/statm")
_ACCELERATORS = ("npu", "cuda")
"""Modules of torch that keep memory of a device."""


def memory(device: str | None) -> dict[str, int]:
    """Bytes by name.

    process_rss: resident memory of this process; absent where there is no /proc.
    device_allocated, device_reserved: of this process's tensors, and with what the allocator keeps.
    device_free, device_total: of the device, whoever uses it.

    The device's are absent for a CPU, and where this process has not begun to use the device (the
    policy may live in a process of its own): asking would then begin to, which costs memory.

    Args:
        device: of the policy in torch's words (`npu:0`); None without a policy.
    """
    result = {}
    if _STATM.exists():
        resident = int(_STATM.read_text().split()[1])
        result["process_rss"] = resident * os.sysconf("SC_PAGE_SIZE")
    kind, _, number = (device or "").partition(":")
    accelerator = _accelerator(kind)
    if accelerator is not None:
        index = int(number) if number else accelerator.current_device()
        try:
            free, total = accelerator.mem_get_info(index)
            result["device_allocated"] = accelerator.memory_allocated(index)
            result["device_reserved"] = accelerator.memory_reserved(index)
            result["device_free"], result["device_total"] = free, total
        except RuntimeError:
            # A device that fails also fails the inference, which tells why; a report of memory
            # must not end the node before that.
            pass
    return result


def settle() -> None:
    """Let the garbage collector look no more at what stays: modules, the policy.

    A full collection over them takes tens of milliseconds, and comes between two ticks.
    """
    gc.collect()
    gc.freeze()


def release() -> None:
    """Give back what is no longer used: to the device, and to the system.

    To be called after the last reference to a policy is gone.
    """
    gc.unfreeze()
    gc.collect()
    for kind in _ACCELERATORS:
        accelerator = _accelerator(kind)
        if accelerator is not None:
            accelerator.empty_cache()
    # glibc keeps freed memory for later; other C libraries have no such call.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _accelerator(kind: str) -> ModuleType | None:
    """torch.npu or torch.cuda if this process uses it."""
    torch = sys.modules.get("torch")
    found = getattr(torch, kind, None) if kind in _ACCELERATORS else None
    return found if found is not None and found.is_initialized() else None
