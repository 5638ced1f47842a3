"""The whole model: its actions against float32 on the CPU, and every value that it computes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pi0_ros.check.runner import Result, Row
from pi0_ros.check.subject import Inference, Subject, cosine
from pi0_ros.model.ops.reference import Reference
from pi0_ros.policy.compile import GraphOptions
from pi0_ros.policy.graphs import Graphs

LEAST_COSINE = {torch.float32: 0.999999, torch.bfloat16: 0.9999}
"""What a device has to reach beside float32; what others ask of bfloat16 as well."""

LEAST_OF_EIGHT_BITS = 0.99
"""With products of int8 or float8."""

# Largest finite value of float16, in which some kernels keep intermediate results.
HALF = 65504.0


def whole_rows(subject: Subject, options: GraphOptions | None = None) -> Iterator[Row]:
    """Actions against float32, and a scan of all values; computed operator by operator.

    Args:
        options: of the backend; its graph is not used.
    """
    options = options or GraphOptions("eager")
    full = options.precision == "full"
    suffix = "" if full else f", {options.precision}"
    seconds = 60.0 if subject.size == "full" or subject.checkpoint else 5.0

    @cache
    def inference() -> Inference:
        return Inference(subject.graphs(options), subject.cameras)

    def actions(left: float) -> Result:
        need, have = 5 * subject.parameters, host_memory()
        if have < need:
            text = (
                f"not compared: needs {need / 1e9:.0f} GB of host memory, {have / 1e9:.0f} GB free"
            )
            return Result(text, {"needed": need, "available": have})
        got, expected = inference().infer(), expected_actions(subject)
        alike, difference = cosine(got, expected), (got - expected).abs().max().item()
        return Result(
            f"cosine {alike:.7f}, largest difference {difference:.2e}",
            {"cosine": alike, "largest_difference": difference},
            alike >= (LEAST_COSINE[subject.dtype] if full else LEAST_OF_EIGHT_BITS),
        )

    def scan(left: float) -> Result:
        tried = inference()  # loaded before: packed weights are no tensors to look at
        with _Scan() as seen:
            tried.infer()
        return seen.result()

    yield Row("whole model", f"actions against float32{suffix}", actions, seconds)
    if full:
        yield Row("whole model", "finite, not saturated", scan, seconds / 4)


def expected_actions(subject: Subject) -> Tensor:
    """Of the same weights in float32, by plain PyTorch on the CPU; kept by nobody."""
    weights = subject.weights()
    cpu = torch.device("cpu")
    model = weights.load_model(torch.float32, cpu, Reference())
    with torch.inference_mode():
        table = model.time_table(weights.accumulates_time)
    return Inference(Graphs(model, GraphOptions("eager"), table, ""), subject.cameras).infer()


def host_memory() -> int:
    """Bytes that a process may take: those available, or all where the kernel does not say."""
    try:
        with open("/proc/meminfo") as file:
            fields = dict(line.split(":") for line in file)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


class _Scan(TorchDispatchMode):
    """Looks at every floating-point tensor that an operator returns."""

    def __init__(self) -> None:
        super().__init__()
        self._names: list[str] = []
        self._found: list[Tensor] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for value in tree_leaves(out):
            numbers = isinstance(value, Tensor) and value.is_floating_point() and value.numel()
            # An uninitialised tensor holds anything.
            if numbers and "empty" not in func.__name__:
                self._look(str(func), value)
        return out

    def _look(self, name: str, value: Tensor) -> None:
        size = value.abs()
        finite = torch.isfinite(size)
        limit = torch.finfo(value.dtype).max
        figures = (
            (~finite).sum().float(),
            torch.where(finite, size, 0.0).max().float(),
            (size == limit).sum().float(),
        )
        self._names.append(name)
        self._found.append(torch.stack(figures))

    def result(self) -> Result:
        """Whether a value is not finite or the largest of its dtype; and the largest there is."""
        table = torch.stack(self._found).cpu()
        bad, largest, saturated = table.unbind(1)
        index = int(largest.argmax())
        figures = {
            "operators": len(self._names),
            "not_finite": int(bad.sum()),
            "saturated": int(saturated.sum()),
            "largest": float(largest[index]),
            "largest_in": self._names[index],
        }
        text = f"largest value {figures['largest']:.4g} in {figures['largest_in']}"
        if figures["largest"] >= HALF:
            text += f", beyond float16's {HALF:.0f}"
        faulty = (bad + saturated).nonzero()
        if len(faulty):
            first = self._names[int(faulty[0])]
            text = (
                f"{figures['not_finite']} values are not finite and {figures['saturated']} "
                f"saturated, first in {first}; {text}"
            )
        return Result(text, figures, not len(faulty))
