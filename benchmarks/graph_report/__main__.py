"""What the model becomes on Ascend, found out on any machine.

Lowers pi0 to GE graphs with the real torchair of the torch_npu wheel, on a pretend NPU (see
`stand_ins`), and counts what a device would run. No NPU, no CANN and no checkpoint are needed, and
nothing is computed: times are a roofline estimate from data sheets.
"""

import argparse
import sys
import time
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.graph_report import stand_ins
from pi0_ros.cli import call
from pi0_ros.console import DONE, FAILED, add_json, count, output_file, table, warn, write_json
from pi0_ros.errors import UserError
from pi0_ros.model.config import PI05, TINY, TINY_PI05, Pi0Config

if TYPE_CHECKING:
    from benchmarks.graph_report.cost import Summary

CONFIGS = {
    "pi0": {"tiny": TINY, "full": Pi0Config()},
    "pi05": {"tiny": TINY_PI05, "full": PI05},
}
FORMS = ("frame", "two-graph")
ATTENTION_KERNELS = ("fia", "pfa")


@dataclass(frozen=True)
class Report:
    """Figures of one inference with two cameras and a full prompt.

    Attributes:
        graphs: number of compiled graphs.
        ge_nodes: nodes of the graphs, each as often as an inference runs it.
        kernel_nodes: those of them that a kernel runs for: all but inputs, constants, outputs and
            changes of shape only.
        by_type: `ge_nodes` by operator.
        launches: graphs launched.
        unsupported: operators that torchair cannot convert, and nodes in float64, which Ascend's
            cores do not compute.
        aten_calls: operators that the host would call without a graph, views included.
        flops: floating-point operations by operator, of products and attention.
        bytes: bytes read and written by operator, as if nothing stayed in a cache.
        scoped: kernel nodes within a super-kernel scope.
        estimate_ms: by chip, from and to. From: the sum over kernels of the larger of compute and
            memory time. To: with what others measured a kernel and a call of attention to cost.
    """

    graphs: int
    ge_nodes: int
    kernel_nodes: int
    by_type: dict[str, int]
    launches: int
    unsupported: list[str]
    aten_calls: int
    flops: dict[str, int]
    bytes: dict[str, int]
    scoped: int
    estimate_ms: dict[str, tuple[float, float]]


def measure(args: argparse.Namespace, config: Pi0Config) -> tuple[Report, "Summary"]:
    """Lower the model and count.

    Raises:
        UserError: torch_npu or the C compiler is missing.
    """
    stand_ins.load(args.stand_ins)
    try:  # not before: these import torch_npu
        from benchmarks.graph_report import cost
        from benchmarks.graph_report.lower import eager_calls, lower
        from pi0_ros.policy.compile import GraphOptions
    except ImportError as error:
        versions = {name: metadata.version(name) for name in ("torch", "torch_npu")}
        raise UserError(
            f"torch_npu cannot be imported: {error}. It must be of torch's version; installed are "
            f"{versions}"
        ) from error

    start = time.monotonic()
    warn(f"lowering {args.model} {args.config}, {config.num_steps} steps, as {args.form} ...")
    options = GraphOptions(
        "torchair",
        args.form,
        attention=args.op,
        rotary=args.rotary,
        padded_masks=args.masks == "padded",
        super_kernel=args.super_kernel,
        rtc=args.rtc,
        precision=args.precision,
    )
    graphs = lower(config, options)
    failed = [name for graph in graphs for name in graph.unsupported]
    summary = cost.summarize(
        node
        for graph in graphs
        if graph.ge is not None and graph.fx is not None
        for node in cost.nodes(graph.ge, graph.fx, graph.repeats)
    )
    warn(f"lowered in {time.monotonic() - start:.0f} s; counting calls without a graph ...")
    report = Report(
        graphs=len(graphs),
        ge_nodes=summary.ge_nodes,
        kernel_nodes=summary.kernel_nodes,
        by_type=summary.by_type,
        launches=sum(graph.repeats for graph in graphs),
        unsupported=failed + summary.doubles,
        aten_calls=sum(eager_calls(config, options).values()),
        flops=summary.flops,
        bytes=summary.bytes,
        scoped=summary.scoped,
        estimate_ms=summary.estimate_ms,
    )
    return report, summary


def run(args: argparse.Namespace) -> int:
    """The command; FAILED also where something is wrong with the graph."""
    config = CONFIGS[args.model][args.config]
    if args.layers is not None:
        config = replace(config, depth=args.layers, vision_depth=args.layers)
    if args.steps is not None:
        config = replace(config, num_steps=args.steps)
    report, summary = measure(args, config)
    print(text(config, args.form, report, summary))
    write_json(args.json, asdict(report))
    if args.png:
        from benchmarks.graph_report.plot import plot

        plot(summary, args.png)
    return FAILED if report.unsupported else DONE


def text(config: Pi0Config, form: str, report: Report, summary: "Summary") -> str:
    """The report as lines for a terminal."""
    from benchmarks.graph_report import cost

    counts = {
        "graphs": report.graphs,
        "launches per inference": report.launches,
        "GE nodes": report.ge_nodes,
        "kernel nodes": report.kernel_nodes,
        "of them in super-kernel scopes": report.scoped,
        "eager operator calls": report.aten_calls,
        "unsupported": ", ".join(report.unsupported) or "none",
    }
    parts = [(part, n, _mega(summary.part_bytes[part])) for part, n in summary.by_part.items()]
    kernels = [
        (kind, n, _mega(report.bytes[kind]), _giga(report.flops.get(kind, 0)))
        for kind, n in report.by_type.items()
        if kind not in cost.NO_KERNEL
    ]
    estimates = [
        (name, f"{low:.1f} to {high:.1f} ms") for name, (low, high) in report.estimate_ms.items()
    ]
    return "\n".join(
        (
            f"{config.variant}, {config.vision_depth}+{config.depth}+{config.depth}x"
            f"{config.num_steps} layers, two cameras, {config.prompt_length} prompt tokens, "
            f"bfloat16, {form} form",
            "lowered to GE with torchair on a pretend NPU; nothing was run\n",
            table(counts.items(), align="<>") + "\n",
            table(parts, ("part", "nodes", "MB"), "<>>") + "\n",
            table(kernels, ("kernel", "nodes", "MB", "GFLOP"), "<>>>") + "\n",
            "ESTIMATE per inference: from the peak rates of data sheets, to what it is if a kernel "
            f"costs {cost.LAUNCH_SECONDS * 1e6:.1f} us on top\nof its work and a call of attention "
            f"{cost.ATTENTION_SECONDS * 1e6:.0f} us, as others measured:",
            table(estimates, align="<>"),
            "beside it, measured by others:",
            table(cost.ANCHORS),
        )
    )


def _mega(number: int) -> str:
    return f"{number / 1e6:.1f}"


def _giga(number: int) -> str:
    return f"{number / 1e9:.2f}" if number else ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    add = parser.add_argument
    add("--model", choices=CONFIGS, default="pi0", help="which (default: pi0)")
    add(
        "--config", choices=CONFIGS["pi0"], default="full", help="size of the model (default: full)"
    )
    add("--layers", type=count(1), metavar="N", help="of each stack, for a quick look")
    add("--steps", type=count(1), metavar="N", help="denoise steps (default: 10)")
    add(
        "--form",
        choices=FORMS,
        default="frame",
        help="one graph for the whole inference, or one for the prefix and one per step",
    )
    add(
        "--op",
        choices=ATTENTION_KERNELS,
        default="fia",
        help="attention: npu_fused_infer_attention_score or npu_prompt_flash_attention",
    )
    add("--rotary", choices=("per-head", "broadcast"), default="per-head", help="RoPE tables")
    add("--masks", choices=("tight", "padded"), default="tight", help="width of masks")
    add("--rtc", choices=("off", "guided", "trained"), default="off", help="real-time chunking")
    add("--precision", choices=("full", "int8"), default="full", help="of vision and prefix")
    add("--super-kernel", action="store_true", help="each denoise step in a super-kernel scope")
    add_json(parser)
    add("--png", type=output_file, metavar="FILE", help="draw where nodes and bytes are")
    add("--stand-ins", type=Path, metavar="DIR", help="keep the compiled stand-ins for CANN there")


if __name__ == "__main__":
    sys.exit(call("python -m benchmarks.graph_report", sys.modules[__name__], sys.argv[1:]))
