"""CUDA graphs: a function's kernels, captured once and launched together from then on."""

import inspect
import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

_LOG = logging.getLogger(__name__)


class CapturePool:
    """What the graphs of one model share, of which one runs at a time: memory and a stream."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.handle: Any = None
        self.stream: Any = None
        self.failed = False

    def prepare(self) -> None:
        """Get both from the driver, once."""
        if self.stream is None:
            self.handle = torch.cuda.graph_pool_handle()
            self.stream = torch.cuda.Stream(self.device)


class Captured:
    """A function of tensors whose kernels are captured into a CUDA graph at its first call.

    A graph reads and writes fixed addresses: each argument has a buffer, into which it is copied
    where it is another tensor than last time or may have changed since; the result is copied out.
    So shapes and dtypes are those of the first call. The thread that called first calls always.

    Where a capture fails, the function is called as it is, and so is every other one of the pool
    that is not captured yet.
    """

    def __init__(
        self, module: nn.Module, function: Callable[..., Tensor], pool: CapturePool
    ) -> None:
        """
        Args:
            module: its `forward` names the arguments, the last name being that of all further ones;
                its `KEPT` are the names of those that callers never change in place.
            function: what `compile_module` made of it.
        """
        self._names, self._kept = list(inspect.signature(module.forward).parameters), module.KEPT
        self._function, self._pool = function, pool
        self._graph: Any = None
        self._buffers: list[Tensor] = []
        self._last: tuple[Tensor, ...] = ()
        self._result: Tensor

    def __call__(self, *arguments: Tensor) -> Tensor:
        """The function's result, in memory of its own.

        Raises:
            ValueError: an argument has another shape or dtype than at the first call.
        """
        if self._graph is None:
            if not self._pool.failed:
                self._try_to_capture(arguments)
            if self._graph is None:
                return self._function(*arguments)
        with torch.cuda.device(self._pool.device):
            self._fill(arguments)
            self._graph.replay()
            return self._result.clone()

    def _fill(self, arguments: tuple[Tensor, ...]) -> None:
        if len(arguments) != len(self._buffers):
            raise ValueError(
                f"a captured graph of {len(self._buffers)} arguments got {len(arguments)}"
            )
        for i, (given, buffer) in enumerate(zip(arguments, self._buffers, strict=True)):
            name = self._names[min(i, len(self._names) - 1)]
            if given is self._last[i] and name in self._kept:
                continue
            if given.shape != buffer.shape or given.dtype != buffer.dtype:
                raise ValueError(
                    f"a graph captured for {name} {buffer.dtype} {list(buffer.shape)} got "
                    f"{given.dtype} {list(given.shape)}"
                )
            buffer.copy_(given, non_blocking=True)
        self._last = arguments

    def _try_to_capture(self, arguments: tuple[Tensor, ...]) -> None:
        """Call it twice, so that kernels are loaded and what is compiled is, and capture."""
        pool = self._pool
        with torch.cuda.device(pool.device):
            pool.prepare()
            self._buffers = [argument.clone() for argument in arguments]
            self._last = arguments
            pool.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(pool.stream):
                for _ in range(2):
                    self._function(*self._buffers)
            torch.cuda.current_stream().wait_stream(pool.stream)
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            try:
                # Other threads, such as a second policy's, may use the GPU meanwhile.
                mode = {"stream": pool.stream, "capture_error_mode": "thread_local"}
                with torch.cuda.graph(graph, pool.handle, **mode):
                    self._result = self._function(*self._buffers)
            except RuntimeError as error:
                pool.failed, self._buffers, self._last = True, [], ()
                _LOG.warning(
                    "the frame cannot be captured into a CUDA graph; it runs operator by operator, "
                    "which is several times slower: %s",
                    error,
                )
                return
        self._graph = graph
