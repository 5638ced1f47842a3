"""What `pi0 compile`, `pi0 profile run` and `pi0 serve` load a policy with."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pi0_ros import console

if TYPE_CHECKING:
    from pi0_ros.policy.compile import GraphOptions


def add_load_options(parser: argparse.ArgumentParser) -> None:
    """How a checkpoint is loaded."""
    add, choice = parser.add_argument, partial(console.add_choice, parser)
    graphs = ("auto", "eager", "inductor", "cudagraph", "inductor_cudagraph")
    graphs += ("torchair", "npugraph_ex")
    forms = "one graph, or one for the context and one for a step"
    kernels = "this package's on a GPU of NVIDIA: those that win, all, none"
    precision = "of the products of vision and prefix; full: --dtype"
    add("--device", default="auto", help="auto, cpu, cuda, npu, with :N or not (default: auto)")
    choice("--dtype", ("float32", "bfloat16"), "to compute in")
    choice("--precision", ("full", "int8", "float8"), precision)
    choice("--graph", graphs, "compiler, as the node's parameter")
    choice("--form", ("frame", "two-graph"), forms)
    choice("--attention", ("fia", "pfa"), "on an NPU")
    choice("--rtc", ("off", "guided", "trained"), "real-time chunking, as the node's parameter")
    choice("--weights", ("nd", "nz"), "layout on an NPU")
    choice("--rotary", ("per-head", "broadcast"), "tables of RotaryMul on an NPU")
    choice("--masks", ("tight", "padded"), "width of masks on an NPU")
    add("--super-kernel", action="store_true", help="one super kernel per step, on an NPU")
    choice("--kernels", ("auto", "triton", "none"), kernels)
    add("--cameras", nargs="+", metavar="NAME", help="default: all of the checkpoint's")
    add("--tokenizer", type=Path, metavar="PATH", help="where the checkpoint brings none")


def graph_options(args: argparse.Namespace, graph: str, cache: Path | None) -> GraphOptions:
    """What `add_load_options` was given."""
    from pi0_ros.policy.compile import GraphOptions

    return GraphOptions(
        graph,
        args.form,
        cache,
        attention=args.attention,
        weights_nz=args.weights == "nz",
        rotary=args.rotary,
        padded_masks=args.masks == "padded",
        super_kernel=args.super_kernel,
        rtc=args.rtc,
        kernels=args.kernels,
        precision=args.precision,
    )
