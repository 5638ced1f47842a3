"""CUDA graphs without a GPU: a capture notes every operator, a replay runs them again.

As in CUDA, addresses are fixed: operators read and write the tensors of the capture, and a result
is overwritten by the next replay. Nothing here says that CUDA could capture an operator, except
that one which gives a value to Python cannot be.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Graph:
    """What stands in for torch.cuda.CUDAGraph."""

    def __init__(self) -> None:
        self.operators: list[tuple[Any, Any, Any, Any]] = []
        self.replays = 0

    def replay(self) -> None:
        self.replays += 1
        for operator, arguments, options, results in self.operators:
            new = operator(*arguments, **options)
            for result, value in zip(tree_leaves(results), tree_leaves(new), strict=True):
                if isinstance(result, Tensor) and result.data_ptr() != value.data_ptr():
                    result.copy_(value)


class _Capture(TorchDispatchMode):
    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None):
        kwargs = kwargs or {}
        if operator is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
        results = operator(*args, **kwargs)
        self.graph.operators.append((operator, args, kwargs, results))
        return results


class Cuda(SimpleNamespace):
    """The functions of torch.cuda that a capture calls.

    Attributes:
        graphs: all that were captured.
        modes: what was asked of each capture.
        waits: how often the host waited.
        error: raised at the end of a capture, as CUDA does; None: it succeeds.
    """

    def __init__(self) -> None:
        self.graphs: list[Graph] = []
        self.modes: list[tuple[Any, str]] = []
        self.error: str | None = None
        self.waits = 0
        stream = SimpleNamespace(wait_stream=lambda other: None, synchronize=self.wait)
        super().__init__(
            CUDAGraph=Graph,
            Stream=lambda device: stream,
            current_stream=lambda device=None: stream,
            device=lambda device: contextlib.nullcontext(),
            graph=self.capture,
            graph_pool_handle=lambda: (0, 1),
            stream=lambda stream: contextlib.nullcontext(),
            synchronize=self.wait,
        )

    def wait(self) -> None:
        self.waits += 1

    @contextlib.contextmanager
    def capture(self, graph: Graph, pool: Any, stream: Any, capture_error_mode: str) -> Iterator:
        self.modes.append((pool, capture_error_mode))
        with _Capture(graph):
            yield
        if self.error is not None:
            raise RuntimeError(self.error)
        self.graphs.append(graph)


def pretend(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    """Put the stand-ins into torch.cuda."""
    cuda = Cuda()
    for name, value in vars(cuda).items():
        if name not in ("graphs", "modes", "error", "waits"):
            monkeypatch.setattr(torch.cuda, name, value)
    return cuda
