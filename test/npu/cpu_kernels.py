"""Registers the CPU kernels of `support.ascend_kernels` for torch_npu's operators.

For real schemas of the real library, so that a wrong argument fails as it would on a device.
Import after torch_npu: the other order aborts the process.
"""

import torch
import torch_npu  # noqa: F401
from support.ascend_kernels import OPERATORS, fused_infer_attention_score
from torch import Tensor

LIBRARY = torch.library.Library("npu", "IMPL", "CPU")


def fused_infer_attention_workspace(query: Tensor, *args: object, **given: object) -> Tensor:
    """Scratch memory that backend npugraph_ex asks for ahead of the kernel."""
    return query.new_empty(1, dtype=torch.uint8)


def fused_infer_attention_out(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    workspace: Tensor | None = None,
    out: list[Tensor],
    **given: object,
) -> tuple[Tensor, ...]:
    """The kernel as backend npugraph_ex calls it."""
    result, _ = fused_infer_attention_score(query, key, value, **given)
    out[0].copy_(result)
    return tuple(out)


KERNELS = vars(OPERATORS) | {
    "npu_fused_infer_attention_score.out": fused_infer_attention_out,
    "_npu_fused_infer_attention_score_get_max_workspace": fused_infer_attention_workspace,
}
for name, kernel in KERNELS.items():
    LIBRARY.impl(name, kernel)
