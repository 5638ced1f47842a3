"""What compilers make of the Triton kernels where there is no GPU; prints JSON.

python -m support.triton_offline compile 90 232448      shared memory by kernel, compiled for sm_90
python -m support.triton_offline trace pi0 3 2          calls in the graph of a frame
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import replace
from typing import Any

import torch
import triton
from torch._subclasses.fake_tensor import FakeTensorMode
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from pi0_ros.model.config import PI05, Pi0Config
from pi0_ros.model.ops import triton_attention, triton_kernels
from pi0_ros.model.ops.cuda import KERNELS, Cuda
from pi0_ros.model.pi0 import Pi0
from pi0_ros.policy.compile import Frame, flatten_layout


def compile_for(gpu: int, shared: int) -> dict[str, int]:
    """Kernel -> bytes of shared memory, in bfloat16 at the sizes of the published model."""
    triton_attention._gpu = lambda index: (132, shared)
    cut = triton_attention.tiles(torch.bfloat16, 0)
    heads = {"GROUP": 8, "KV_HEADS": 1, "DIM": 256}
    tile = {**heads, "CHUNK": 64, "BLOCK_M": cut.rows, "BLOCK_N": cut.keys, "MASKED": True}
    options = {"num_warps": cut.warps, "num_stages": cut.stages}
    kernel = triton_attention._attention_kernel
    rope = {"HEADS": 8, "KV_HEADS": 1, "HALF": 128, "BLOCK": 128}
    norm = triton_kernels._add_rms_norm_kernel
    found = {
        "attention": (kernel, {**tile, "SPLIT": False, "CHUNK": 576}, options),
        "attention split": (kernel, {**tile, "SPLIT": True}, options),
        "merge": (triton_attention._merge_kernel, {**heads, "BLOCK": 16}, {"num_warps": 4}),
        "add_rms_norm": (norm, {"GATED": False, "BLOCK": 2048}, {"num_warps": 8}),
        "gated add_rms_norm": (norm, {"GATED": True, "BLOCK": 1024}, {"num_warps": 4}),
        "split_rope": (triton_kernels._split_rope_kernel, rope, {"num_warps": 1}),
        "geglu": (triton_kernels._geglu_kernel, {"BLOCK": 1024}, {"num_warps": 4}),
    }
    target = GPUTarget("cuda", gpu, 32)
    return {
        name: triton.compile(source(kernel, sizes), target=target, options=options).metadata.shared
        for name, (kernel, sizes, options) in found.items()
    }


def source(kernel: Any, sizes: dict[str, Any]) -> ASTSource:
    """A kernel for aligned bfloat16 pointers; float32 where the operators make such tensors."""
    float32 = {"cos", "sin", "gain", "weights", "parts"} | (
        {"out"} if sizes.get("SPLIT") else set()
    )
    types, aligned = {}, {}
    for i, name in enumerate(kernel.arg_names):
        if name in sizes:
            types[name] = "constexpr"
        elif name in ("eps", "scale"):
            types[name] = "fp32"
        elif name in COUNTS:
            types[name] = "i32"
        else:
            types[name] = "*u8" if name == "hidden" else "*fp32" if name in float32 else "*bf16"
            aligned[(i,)] = [["tt.divisibility", 16]]
    return ASTSource(kernel, types, sizes, aligned)


# A torch without CUDA knows no views of fake CUDA tensors.
DEVICE = "cuda" if torch.version.cuda else "cpu"

COUNTS = {"width", "table_rows", "queries", "own", "past", "hidden_stride", "chunks"}


def trace(variant: str, depth: int, steps: int) -> Counter[str]:
    """Kernel -> calls in the graph that dynamo makes of a frame on fake tensors."""
    c = replace(PI05 if variant == "pi05" else Pi0Config(), depth=depth, vision_depth=1)
    c = replace(c, num_steps=steps)
    ops, calls = Cuda(), Counter()
    ops.kernels = frozenset(KERNELS)

    def count(module: torch.fx.GraphModule, example: Any) -> Any:
        for node in module.graph.nodes:
            if node.op == "call_function" and "pi0_ros" in str(node.target):
                calls[str(node.target).split(".")[1]] += 1
        return module.forward

    torch.set_default_dtype(torch.bfloat16)
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    tokens = 2 * c.tokens_per_image + c.prompt_length
    with fake, torch.device(DEVICE):
        model = Pi0(c, ops).eval().requires_grad_(False)
    # Of real tensors, since values decide whether there are masks.
    valid = torch.ones(1, tokens, dtype=torch.bool)
    made = None if c.pi05 else model.layout(valid, always_masked=True)
    with fake, torch.device(DEVICE):
        images = torch.empty(1, 2, 3, c.image_size, c.image_size)
        state, noise = torch.empty(1, c.max_state_dim), torch.empty(1, c.horizon, c.max_action_dim)
        if made is None:
            norms = 2 * depth + 1
            rows = norms * 2 * c.expert_width + sum(x.weight.shape[1] for x in model._readers())
            table = torch.empty(steps, rows, dtype=torch.bfloat16)
            prompt = torch.zeros(1, c.prompt_length, dtype=torch.int64)
            rope = ops.rope_tables(torch.arange(tokens)[None], c, torch.bfloat16)
            layout = (*rope, torch.ones(1, dtype=torch.int32))
        else:
            table = torch.empty(steps, c.expert_width, dtype=torch.bfloat16)
            prompt = torch.empty(1, c.prompt_length, c.prefix_width, dtype=torch.bfloat16)
            layout = [torch.empty(t.shape, dtype=t.dtype) for t in flatten_layout(made)]
    with fake, torch.no_grad():  # without a default device, which every traced call would ask for
        frame = torch.compile(Frame(model), backend=count, fullgraph=True, dynamic=False)
        actions = frame(images, prompt, state, noise, table, *layout)
    assert actions.shape == noise.shape and actions.device.type == DEVICE
    return calls


if __name__ == "__main__":
    if sys.argv[1] == "compile":
        print(json.dumps(compile_for(int(sys.argv[2]), int(sys.argv[3]))))
    else:
        print(json.dumps(trace(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
