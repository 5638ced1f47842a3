"""What any machine can say of itself, for `describe` of each device kind."""

from __future__ import annotations

import os
import platform
from importlib import metadata

import torch

from pi0_ros.check.whole import host_memory
from pi0_ros.policy.device import chip_name

_PACKAGES = ("pi0_ros", "torch", "torch_npu", "triton", "numpy", "transformers")


def describe_host(device: torch.device) -> dict[str, str]:
    """Versions, chip and memory: name -> value, for a table."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    versions["torch"] = torch.__version__  # with its build, such as +cpu or +cu130
    return {
        "device": f"{device}, {chip_name(device)}",
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, {platform.system()} "
        f"{platform.release()}",
        "Python": platform.python_version(),
        **versions,
        "host memory free": f"{host_memory() / 1e9:.1f} GB",
    }
