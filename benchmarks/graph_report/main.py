"""`pi0_graph_report`: what the model becomes on Ascend, found out on any machine.

Lowers pi0 to GE graphs with the real torchair of the torch_npu wheel, on a pretend NPU (see
`ascend_stubs`), and counts what a device would run. No NPU, no CANN and no checkpoint are needed,
and nothing is computed: times are a roofline estimate from data sheets.
"""

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.graph_report import stand_ins as ascend_stubs
from pi0_ros.model.config import TINY, Pi0Config

if TYPE_CHECKING:
    from benchmarks.graph_report.cost import Summary

CONFIGS = {"tiny": TINY, "full": Pi0Config()}


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
        estimate_ms: by chip, the sum over kernels of the larger of compute and memory time. An
            estimate: launches, waiting and imperfect kernels come on top.
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
    estimate_ms: dict[str, float]


def main() -> None:
    args = _arguments()
    config = CONFIGS[args.config]
    if args.layers is not None:
        depth = {"depth": args.layers, "vision_depth": args.layers}
        config = replace(config, **depth)
    if args.steps is not None:
        config = replace(config, num_steps=args.steps)
    try:
        ascend_stubs.load(args.stand_ins)
    except ascend_stubs.StandInsError as error:
        sys.exit(f"pi0_graph_report: {error}")

    try:  # not before: these import torch_npu
        from benchmarks.graph_report import cost
        from benchmarks.graph_report.lower import eager_calls, lower
    except ImportError as error:
        versions = {name: metadata.version(name) for name in ("torch", "torch_npu")}
        sys.exit(
            f"pi0_graph_report: torch_npu cannot be imported: {error}. It must be of torch's "
            f"version; installed are {versions}"
        )

    start = time.monotonic()
    _progress(f"lowering {args.config}, {config.num_steps} steps, as {args.form} ...")
    graphs = lower(config, args.form, args.op)
    failed = [name for graph in graphs for name in graph.unsupported]
    summary = cost.summarize(
        node
        for graph in graphs
        if graph.ge is not None and graph.fx is not None
        for node in cost.nodes(graph.ge, graph.fx, graph.repeats)
    )
    _progress(f"lowered in {time.monotonic() - start:.0f} s; counting calls without a graph ...")
    report = Report(
        graphs=len(graphs),
        ge_nodes=summary.ge_nodes,
        kernel_nodes=summary.kernel_nodes,
        by_type=summary.by_type,
        launches=sum(graph.repeats for graph in graphs),
        unsupported=failed + summary.doubles,
        aten_calls=sum(eager_calls(config, args.op).values()),
        flops=summary.flops,
        bytes=summary.bytes,
        estimate_ms=summary.estimate_ms,
    )
    print(text(config, args.form, report, summary))
    if args.json:
        args.json.write_text(json.dumps(asdict(report), indent=2) + "\n")
    if args.png:
        from benchmarks.graph_report.plot import plot

        plot(summary, args.png)
    if report.unsupported:
        sys.exit(1)


def text(config: Pi0Config, form: str, report: Report, summary: "Summary") -> str:
    """The report as lines for a terminal."""
    from benchmarks.graph_report import cost

    lines = [
        f"pi0, {config.vision_depth}+{config.depth}+{config.depth}x{config.num_steps} layers, two "
        f"cameras, {config.prompt_length} prompt tokens, bfloat16, {form} form",
        "lowered to GE with torchair on a pretend NPU; nothing was run",
        "",
        f"  graphs                {report.graphs:8}",
        f"  launches per inference{report.launches:8}",
        f"  GE nodes              {report.ge_nodes:8}",
        f"  kernel nodes          {report.kernel_nodes:8}",
        f"  eager operator calls  {report.aten_calls:8}",
        f"  unsupported           {', '.join(report.unsupported) or 'none':>8}",
        "",
        f"  {'part':26}{'nodes':>6}{'MB':>11}",
    ]
    for part, count in summary.by_part.items():
        lines.append(f"  {part:26}{count:6}{summary.part_bytes[part] / 1e6:11.1f}")
    lines += ["", f"  {'kernel':26}{'nodes':>6}{'MB':>11}{'GFLOP':>10}"]
    for kind, count in report.by_type.items():
        if kind not in cost.NO_KERNEL:
            flops = report.flops.get(kind, 0)
            product = f"{flops / 1e9:10.2f}" if flops else ""
            lines.append(f"  {kind:26}{count:6}{report.bytes[kind] / 1e6:11.1f}{product}")
    lines += ["", "  roofline ESTIMATE per inference, from data sheets:"]
    lines += [f"    {name:8}{ms:8.2f} ms" for name, ms in report.estimate_ms.items()]
    launch = report.kernel_nodes * cost.LAUNCH_SECONDS * 1e3
    lines.append(
        f"    plus about {launch:.1f} ms if every kernel cost "
        f"{cost.LAUNCH_SECONDS * 1e6:.1f} us beside its work, as others measured on a 910B4"
    )
    return "\n".join(lines)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="pi0_graph_report", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--config", choices=CONFIGS, default="full", help="size of the model")
    parser.add_argument("--layers", type=_count, help="layers of each stack, for a quick look")
    parser.add_argument("--steps", type=_count, help="denoise steps (the configuration's: 10)")
    parser.add_argument(
        "--form",
        choices=("frame", "two-graph"),
        default="frame",
        help="one graph for the whole inference, or one for the prefix and one per step",
    )
    parser.add_argument(
        "--op",
        choices=("fia", "pfa"),
        default="fia",
        help="attention: npu_fused_infer_attention_score or npu_prompt_flash_attention",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    parser.add_argument("--png", type=Path, metavar="FILE", help="draw where nodes and bytes are")
    parser.add_argument(
        "--stand-ins",
        type=Path,
        metavar="DIR",
        help="keep the compiled stand-ins for CANN there; saves seconds of the next run",
    )
    return parser.parse_args()


def _count(value: str) -> int:
    number = int(value)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
