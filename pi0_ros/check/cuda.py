"""Rows of a check on an NVIDIA GPU."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from pi0_ros.check.facts import describe_host
from pi0_ros.check.kernels import kernel_rows
from pi0_ros.check.runner import Row
from pi0_ros.check.speed import Way, speed_rows
from pi0_ros.check.subject import Subject
from pi0_ros.check.whole import whole_rows
from pi0_ros.model.ops import select

WAYS = (Way("eager", {"graph": "eager"}, profile=5),)


def describe(device: torch.device) -> dict[str, str]:
    """Versions, card and memory."""
    card = torch.cuda.get_device_properties(device)
    return {
        **describe_host(device),
        "CUDA of torch": str(torch.version.cuda),
        "compute capability": f"{card.major}.{card.minor}",
        "device memory": f"{card.total_memory / 1e9:.1f} GB",
    }


def rows(subject: Subject) -> Iterator[Row]:
    """Kernels, the whole model, speed."""
    yield from kernel_rows(subject, select(subject.device, subject.dtype))
    yield from whole_rows(subject)
    yield from speed_rows(subject, WAYS)
