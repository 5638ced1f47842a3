"""What the nodes of a GE graph cost: floating-point operations, bytes, and a roofline estimate."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch

# Nodes that no kernel runs for: inputs, constants, and changes of shape only.
NO_KERNEL = {"Data", "ConstPlaceHolder", "Const", "NetOutput"}
NO_KERNEL |= {"Reshape", "Squeeze", "Unsqueeze", "Flatten", "FlattenV2"}
INT8_PRODUCTS = {"QuantBatchMatmulV3"}
PRODUCTS = {"MatMul", "MatMulV2", "BatchMatMul", "BatchMatMulV2", *INT8_PRODUCTS}
ATTENTION = {"FusedInferAttentionScore", "PromptFlashAttention"}
PARTS = ("vision", "prefix", "denoise")


@dataclass(frozen=True)
class Soc:
    """Peak rates of a chip: dense float16 operations per second, of which int8 makes twice as many,
    and bytes per second of memory.
    """

    flops: float
    bandwidth: float


# Data sheets and public measurements of Ascend chips; bfloat16 runs at the rate of float16, and on
# the 310P3, which has no bfloat16, the same graph would be float16.
SOCS = {
    "910B2": Soc(354e12, 1.6e12),
    "910B3": Soc(295e12, 1.6e12),
    "910B4": Soc(246e12, 0.8e12),
    "310P3": Soc(70e12, 0.204e12),
}
# Measured by others on a 910B4 with pi0.5 (FlashRT): what one kernel costs beside its work.
LAUNCH_SECONDS = 4.5e-6
# Measured by others on a 910B2 (pto-isa's benchmark, 128 queries, 1024 keys): a call of attention.
ATTENTION_SECONDS = 70e-6
ANCHORS = (
    ("pi0, the published note, Atlas A2", "71.6 ms computing + 4.58 ms idle"),
    ("pi0.5, FlashRT, 910B4, bfloat16, 2,207 kernels", "44.31 ms"),
    ("pi0.5, FlashRT, 910B4, int8 encoder", "38.46 ms"),
)
"""Measured by others, by November 2026."""


@dataclass(frozen=True)
class Node:
    """One node of a graph.

    Attributes:
        part: which of `PARTS` of the model it belongs to, if that is known.
        runs: how often one inference runs it.
        flops: of one run, of products and attention; other kernels count by their bytes.
        bytes: of one run, read and written, as if nothing stayed in a cache.
        is_double: whether a float64 tensor goes in or out.
        is_scoped: whether it is within a super-kernel scope.
    """

    type: str
    part: str
    runs: int
    flops: int
    bytes: int
    is_double: bool
    is_scoped: bool

    @property
    def is_kernel(self) -> bool:
        return self.type not in NO_KERNEL

    def seconds(self, soc: Soc) -> tuple[float, float]:
        """By the chip's peak rates alone, and with what a call was measured to cost beside them."""
        rate = soc.flops * (2 if self.type in INT8_PRODUCTS else 1)
        least = max(self.flops / rate, self.bytes / soc.bandwidth)
        measured = ATTENTION_SECONDS if self.type in ATTENTION else least + LAUNCH_SECONDS
        return self.runs * least, self.runs * max(least, measured)


def nodes(ge: Any, fx: torch.fx.Graph, runs: int) -> Iterator[Node]:
    """The nodes of a graph in torchair's protobuf form.

    Args:
        fx: the graph of PyTorch operators that it was made from; knows the source of each node.
        runs: how often one inference runs the graph.
    """
    parts = {node.name: _part(node) for node in fx.nodes}
    produced = {
        f"{op.name}:{i}": _Value.of(desc) for op in ge.op for i, desc in enumerate(op.output_desc)
    }
    for op in ge.op:
        named = list(zip(op.input, op.input_desc, strict=False))
        inputs = {desc.name: _Value.of(desc) or produced.get(name) for name, desc in named if name}
        read = {name: produced.get(name) or _Value.of(desc) for name, desc in named if name}
        written = [produced[f"{op.name}:{i}"] for i in range(len(op.output_desc))]
        if op.type == "GatherV2":  # of its table it reads what it writes
            read[next(iter(read))] = written[0]
        values = [value for value in [*read.values(), *written] if value is not None]
        kernel = op.type not in NO_KERNEL
        sources = [d.attr["_fx_tensor_name"].s.decode() for d in op.output_desc]
        yield Node(
            type=op.type,
            part=next((parts[s.split("-")[0]] for s in sources if s.split("-")[0] in parts), ""),
            runs=runs,
            flops=_flops(op.type, inputs, written) if kernel else 0,
            bytes=sum(value.bytes for value in values) if kernel else 0,
            is_double=any(_is_double(desc) for desc in [*op.input_desc, *op.output_desc]),
            is_scoped="_super_kernel_scope" in op.attr,
        )


@dataclass(frozen=True)
class Summary:
    """Figures of one inference; see `graph_report`."""

    ge_nodes: int
    kernel_nodes: int
    scoped: int
    by_type: dict[str, int]
    by_part: dict[str, int]
    flops: dict[str, int]
    bytes: dict[str, int]
    part_bytes: dict[str, int]
    estimate_ms: dict[str, tuple[float, float]]
    doubles: list[str]


def summarize(all_nodes: Iterable[Node]) -> Summary:
    """Figures of one inference, kernels sorted by count."""
    listed = list(all_nodes)
    kernels = [node for node in listed if node.is_kernel]

    def total(key: Callable[[Node], str], value: Callable[[Node], int]) -> dict[str, int]:
        sums: dict[str, int] = defaultdict(int)
        for node in kernels:
            sums[key(node)] += node.runs * value(node)
        return dict(sorted(sums.items(), key=lambda item: -item[1]))

    types = Counter[str]()
    for node in listed:
        types[node.type] += node.runs
    return Summary(
        ge_nodes=types.total(),
        kernel_nodes=sum(node.runs for node in kernels),
        scoped=sum(node.runs for node in kernels if node.is_scoped),
        by_type=dict(types.most_common()),
        by_part=total(lambda n: n.part or "other", lambda n: 1),
        flops={k: v for k, v in total(lambda n: n.type, lambda n: n.flops).items() if v},
        bytes=total(lambda n: n.type, lambda n: n.bytes),
        part_bytes=total(lambda n: n.part or "other", lambda n: n.bytes),
        estimate_ms={
            name: tuple(1e3 * sum(node.seconds(soc)[end] for node in kernels) for end in (0, 1))
            for name, soc in SOCS.items()
        },
        doubles=sorted({f"float64 in {node.type}" for node in listed if node.is_double}),
    )


@dataclass(frozen=True)
class _Value:
    dtype: str
    shape: tuple[int, ...]

    @staticmethod
    def of(desc: Any) -> "_Value | None":
        text = desc.attr["_meta"].s.decode() if "_meta" in desc.attr else ""
        match = re.search(r"dtype=torch\.(\w+), shape=torch\.Size\(\[([\d, ]*)\]", text)
        if match is None:
            return None
        return _Value(match[1], tuple(int(n) for n in match[2].split(",") if n.strip()))

    @property
    def bytes(self) -> int:
        return prod(self.shape) * getattr(torch, self.dtype).itemsize


def _is_double(desc: Any) -> bool:
    kinds = desc.DESCRIPTOR.fields_by_name["dtype"].enum_type.values_by_number
    return bool(kinds[desc.dtype].name == "DT_DOUBLE")


def _flops(kind: str, inputs: Mapping[str, "_Value | None"], outputs: list["_Value | None"]) -> int:
    if kind in PRODUCTS:
        weight, out = inputs["x2"], outputs[0]
        assert weight is not None and out is not None
        return 2 * prod(out.shape) * weight.shape[-2]
    if kind in ATTENTION:
        query, key = inputs["query"], inputs.get("key0") or inputs.get("key")
        shared = inputs.get("key_shared_prefix")
        assert query is not None and key is not None
        keys = key.shape[1] + (shared.shape[1] if shared else 0)
        return 2 * 2 * prod(query.shape) * keys
    return 0


def _part(node: torch.fx.Node) -> str:
    """Which part of the model a traced operator comes from, by the functions that called it."""
    functions = set(re.findall(r"in (\w+)$", node.meta.get("stack_trace") or "", re.M))
    modules = " ".join(name for name, _ in (node.meta.get("nn_module_stack") or {}).values())
    if "velocity" in functions or "denoise_step" in functions:
        return "denoise"
    if ".vision" in modules:
        return "vision"
    return "prefix" if "context" in functions else ""
