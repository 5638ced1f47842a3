"""What this machine has: versions, the device, memory for the weights and for DDS, graph cache."""

from __future__ import annotations

import math
import os
import platform
import shutil
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import torch

from pi0_ros.check.whole import host_memory
from pi0_ros.checkpoint.checkpoint import Checkpoint
from pi0_ros.doctor.findings import Finding, fail, ok, warn
from pi0_ros.node.parameters import NodeParameters
from pi0_ros.policy.device import DeviceError, resolve_device
from pi0_ros.policy.policy import DTYPES
from pi0_ros.share import user_path

CACHE_BYTES = 1 << 30
"""Compiled graphs of a full model need hundreds of megabytes on disk."""

SHARED_MEMORY = Path("/dev/shm")
SHARED_BYTES = 64 << 20
"""Fast DDS takes up to 18 MiB of it per ROS process (config/fastdds.xml). A process that touches
pages which are not there ends by SIGBUS."""

_PACKAGES = ("rclpy", "torch", "torch_npu", "numpy", "opencv-python", "transformers", "rosbags")
_OTHER_NAMES = {"rclpy": ("ros-jazzy-rclpy", "ros-kilted-rclpy")}  # of the wheels from PyPI


def judge_host(parameters: NodeParameters, checkpoint: Checkpoint | None) -> list[Finding]:
    return [_versions(), *_device(parameters, checkpoint), *_shared_memory(), *_cache(parameters)]


def _versions() -> Finding:
    versions = [
        f"pi0_ros {_version('pi0_ros')}",
        f"Python {platform.python_version()}",
        f"ROS {os.environ.get('ROS_DISTRO', 'of this Python environment')}",
        *(f"{name} {_version(name)}" for name in _PACKAGES),
    ]
    return ok("versions", f"{', '.join(versions)}; {platform.machine()}")


def _version(package: str) -> str:
    for name in (package, *_OTHER_NAMES.get(package, ())):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "not installed"


def _device(parameters: NodeParameters, checkpoint: Checkpoint | None) -> Iterator[Finding]:
    try:
        device = resolve_device(parameters.device)
    except DeviceError as error:
        yield fail("device", str(error))
        return
    if parameters.device == "auto" and device.type == "cpu":
        text = "auto: neither an NPU nor a GPU can be used, the model runs on the CPU"
        yield warn("device", text, "-p device:=npu:0 or cuda:0 shows the reason")
    else:
        yield ok("device", f"{device} can be used")
    if checkpoint is None:
        return
    needed = weight_bytes(checkpoint, DTYPES[parameters.dtype])
    free = free_memory(device)
    there = "memory of unknown size" if free is None else f"{_size(free)} free"
    text = f"the weights take {_size(needed)} as {parameters.dtype}; {device} has {there}"
    if free is None or needed <= 0.8 * free:
        yield ok("memory", text)
    elif needed > free:
        yield fail("memory", text, "free some, or -p dtype:=bfloat16")
    else:
        yield warn("memory", text, "activations and graphs need room beside them")


def weight_bytes(checkpoint: Checkpoint, dtype: torch.dtype) -> int:
    """Bytes of a checkpoint's weights once loaded as a dtype, by the tensors' headers."""
    tensors = checkpoint.tensors.values()
    return sum(math.prod(info.shape) for info in tensors) * dtype.itemsize


def free_memory(device: torch.device) -> int | None:
    """Bytes that a device has left; None where that is not known."""
    if device.type == "cpu":
        return host_memory()
    module = getattr(torch, device.type, None)
    if module is None or not hasattr(module, "mem_get_info"):
        return None
    return int(module.mem_get_info(device)[0])


def _shared_memory() -> Iterator[Finding]:
    """Room for Fast DDS, the default of ROS 2; no finding with another middleware."""
    middleware = os.environ.get("RMW_IMPLEMENTATION") or "rmw_fastrtps_cpp"
    if not middleware.startswith("rmw_fastrtps") or not SHARED_MEMORY.is_dir():
        return
    free = shutil.disk_usage(SHARED_MEMORY).free
    text = f"{SHARED_MEMORY} has {_size(free)} free for Fast DDS"
    if free < SHARED_BYTES:
        advice = (
            "stop all ROS processes and run `fastdds shm clean`: processes that were killed leave"
            " theirs behind; in Docker raise --shm-size (default 64 MB)"
        )
        yield warn("shared memory", f"{text}: a new ROS process may die of SIGBUS", advice)
    else:
        yield ok("shared memory", text)


def _cache(parameters: NodeParameters) -> Iterator[Finding]:
    if not parameters.graph_cache:
        if parameters.graph not in ("auto", "eager"):
            text = f"no graph_cache: {parameters.graph} compiles anew at each start"
            yield warn("cache", text, "set graph_cache, and run `pi0 compile` once")
        return
    cache = user_path(parameters.graph_cache)
    existing = next(path for path in (cache, *cache.absolute().parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        text = f"graph_cache {cache} cannot be written ({existing})"
        yield fail("cache", text, "choose another directory, or change its owner")
        return
    free = shutil.disk_usage(existing).free
    text = f"graph_cache {cache} can be written, {_size(free)} free"
    if free < CACHE_BYTES:
        yield warn("cache", text, f"compiled graphs may need {_size(CACHE_BYTES)}")
    else:
        yield ok("cache", text)


def _size(number: float) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e8 else f"{number / 1e6:.1f} MB"
