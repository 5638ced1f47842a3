"""An NPU whose operators compute on the CPU, so that programs for npu:0 run to their end.

Beside the real torch_npu and the stand-ins for CANN, whose pretended device has host memory. Every
operator is called on CPU tensors that lie in the same memory; operators of torch_npu are the
references of `support.ascend_kernels`. Whatever needs CANN's graph engine fails, as it should.
"""

import ctypes
from pathlib import Path
from typing import Any

from benchmarks.graph_report import stand_ins

# They need no kernel. Others, such as `reshape`, are views for some tensors only.
VIEWS = {
    f"aten::{name}"
    for name in [
        "alias",
        "as_strided",
        "chunk",
        "detach",
        "expand",
        "narrow",
        "permute",
        "select",
        "slice",
        "split",
        "split_with_sizes",
        "squeeze",
        "t",
        "transpose",
        "unbind",
        "unflatten",
        "unsqueeze",
        "view",
    ]
}


def start(folder: str) -> None:
    """For the rest of this process, whose torch must not have been imported."""
    stand_ins.load(Path(folder))
    import torch
    import torch_npu  # noqa: F401
    from npu import cpu_kernels
    from torch import Tensor
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_map

    cpu_kernels.LIBRARY.impl("npu_format_cast", lambda tensor, *_, **__: tensor.clone())

    def is_npu(value: Any) -> bool:
        if isinstance(value, Tensor | torch.device | torch.Generator):
            device = value if isinstance(value, torch.device) else value.device
            return device.type == "npu"
        return False

    def on_host(value: Any) -> Any:
        """The same memory as a CPU tensor; a generator of the same seed; the CPU."""
        if not is_npu(value):
            return value
        if isinstance(value, torch.device):
            return torch.device("cpu")
        if isinstance(value, torch.Generator):
            return torch.Generator().manual_seed(value.initial_seed())
        if not value.numel():
            return torch.empty(value.shape, dtype=value.dtype)
        storage = value.untyped_storage()
        memory = (ctypes.c_byte * storage.nbytes()).from_address(storage.data_ptr())
        flat = torch.frombuffer(memory, dtype=value.dtype, count=storage.nbytes() // value.itemsize)
        return flat.as_strided(value.shape, value.stride(), value.storage_offset())

    def on_device(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        copy = torch.empty(value.shape, dtype=value.dtype, device="npu")
        on_host(copy).copy_(value)
        return copy

    class Emulation(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
        ) -> Any:
            kwargs = kwargs or {}
            given = torch.utils._pytree.tree_leaves((args, kwargs))
            if func._schema.name in VIEWS or not any(map(is_npu, given)):
                return func(*args, **kwargs)
            pairs = [(v, on_host(v)) for v in given]
            host = {id(v): h for v, h in pairs}
            back = {id(h): v for v, h in pairs if isinstance(h, Tensor)}
            swapped = tree_map(lambda v: host.get(id(v), v), (args, kwargs))
            result = func(*swapped[0], **swapped[1])
            target = kwargs.get("device")
            if target is not None and target.type != "npu":
                return result
            # What was written in place is the caller's tensor.
            return tree_map(lambda v: back[id(v)] if id(v) in back else on_device(v), result)

    Emulation().__enter__()
