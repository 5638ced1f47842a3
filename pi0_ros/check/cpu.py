"""Rows of a check on a CPU."""

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

WAYS = (
    Way("eager", {"graph": "eager"}, profile=1),
    Way("inductor two-graph", {"graph": "inductor", "form": "two-graph"}, seconds=240),
)


def describe(device: torch.device) -> dict[str, str]:
    """Versions, chip and memory."""
    return {**describe_host(device), "threads": str(torch.get_num_threads())}


def rows(subject: Subject) -> Iterator[Row]:
    """Kernels, the whole model, speed."""
    yield from kernel_rows(subject, select(subject.device, subject.dtype))
    yield from whole_rows(subject)
    yield from speed_rows(subject, WAYS)
