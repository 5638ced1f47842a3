"""Rows of a check on an NVIDIA GPU."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from pi0_ros.check.facts import describe_host
from pi0_ros.check.kernels import kernel_rows
from pi0_ros.check.runner import Result, Row
from pi0_ros.check.speed import Way, speed_rows
from pi0_ros.check.subject import Subject
from pi0_ros.check.whole import LEAST_OF_EIGHT_BITS, whole_rows
from pi0_ros.model.ops import cuda, select

WAYS = (
    Way("eager", {"graph": "eager", "kernels": "none"}, profile=5),
    Way("captured", {"graph": "cudagraph", "kernels": "none"}, seconds=30),
    Way("captured, kernels that win", {"graph": "cudagraph"}, seconds=60, profile=5),
    Way("captured, all kernels", {"graph": "cudagraph", "kernels": "triton"}, seconds=60),
    Way("inductor captured", {"graph": "inductor_cudagraph", "kernels": "none"}, seconds=150),
    Way("inductor captured, own attention", {"graph": "inductor_cudagraph"}, seconds=150),
    Way(
        "float8, inductor captured",
        {"graph": "inductor_cudagraph", "precision": "float8"},
        seconds=180,
        least_cosine=LEAST_OF_EIGHT_BITS,
    ),
)


def describe(device: torch.device) -> dict[str, str]:
    """Versions, card and memory."""
    card = torch.cuda.get_device_properties(device)
    return {
        **describe_host(device),
        "CUDA of torch": str(torch.version.cuda),
        "compute capability": f"{card.major}.{card.minor}",
        "device memory": f"{card.total_memory / 1e9:.1f} GB",
    }


def own_kernel_rows(subject: Subject) -> Iterator[Row]:
    """Each Triton kernel beside PyTorch's operators: whether it agrees, and what it saves."""
    for name in cuda.KERNELS:

        def measure(left: float, name: str = name) -> Result:
            of = (subject.config, subject.dtype, subject.device)
            share = max(cuda.disagreement(name, part, *of) for part in cuda.PARTS)
            own, torchs = cuda.spent(name, *of)
            return Result(
                f"{own * 1e3:.3f} ms of a frame, PyTorch's {torchs * 1e3:.3f} ms; differs by "
                f"{share:.1e} of the range",
                {"share": share, "own": own, "torch": torchs},
                share <= cuda.TOLERANCE[subject.dtype],
            )

        yield Row("kernels", f"Triton {name}", measure, seconds=20)


def rows(subject: Subject) -> Iterator[Row]:
    """Kernels, the whole model, speed."""
    if cuda.supported(subject.device):
        yield from own_kernel_rows(subject)
    # All of this package's kernels, also those that do not win.
    yield from kernel_rows(subject, select(subject.device, subject.dtype, kernels="triton"))
    yield from whole_rows(subject)
    yield from speed_rows(subject, WAYS)
