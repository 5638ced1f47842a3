"""pi0 compile: compile a checkpoint's graphs ahead of time, and measure what they give.

Compiles the graphs of a checkpoint into a cache directory, so that the node (parameter graph_cache)
starts without compiling, and prints the time of an inference. With --graph auto it measures eager
and inductor on a CPU, cudagraph and inductor_cudagraph on a GPU of NVIDIA, and the node's
`graph: auto` follows the result for this processor or card; without that, `auto` is eager on a CPU
and cudagraph on a GPU. Form, attention, weights, threads and cameras are part of what a graph is
compiled for: give the node's.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pi0_ros import console

if TYPE_CHECKING:
    from pi0_ros.policy.compile import GraphOptions
    from pi0_ros.policy.policy import Policy

INFERENCES = 5

JSON_KEYS = {
    "device, chip, dtype, form": "what was compiled for",
    "load_s": "compiler -> seconds of loading, compiling and warming up",
    "inference_s": "compiler -> median seconds of an inference",
    "chosen": "the faster compiler, or the one asked for",
    "cache, key": "the cache, and the folder of these graphs in it",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    console.add_checkpoint(parser)
    add = parser.add_argument
    add("--cache", type=Path, required=True, metavar="DIR", help="where compiled graphs are kept")
    add_load_options(parser)
    text = "CPU threads, as the node's; 0: all cores"
    add("--threads", type=console.count(), default=0, metavar="N", help=text)
    console.add_json(parser)


def add_load_options(parser: argparse.ArgumentParser) -> None:
    """What `pi0 compile` and `pi0 profile run` load a checkpoint with."""
    add, choice = parser.add_argument, partial(console.add_choice, parser)
    graphs = ("auto", "eager", "inductor", "cudagraph", "inductor_cudagraph")
    graphs += ("torchair", "npugraph_ex")
    forms = "one graph, or one for the context and one for a step"
    kernels = "this package's on a GPU of NVIDIA: those that win, all, none"
    add("--device", default="auto", help="auto, cpu, cuda, npu, with :N or not (default: auto)")
    choice("--dtype", ("float32", "bfloat16"), "to compute in")
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
    )


def run(args: argparse.Namespace) -> int:
    """Compile, measure, print, and keep what `auto` needs."""
    import torch

    from pi0_ros.policy.compile import CONTESTANTS
    from pi0_ros.policy.device import chip_name, resolve_device
    from pi0_ros.policy.graph_cache import choose, write_measurement

    if args.threads:
        torch.set_num_threads(args.threads)
    device = resolve_device(args.device)
    compares = args.graph == "auto" and device.type in CONTESTANTS
    print(f"{device}: {chip_name(device)}")
    load_s, inference_s = {}, {}
    for graph in CONTESTANTS[device.type] if compares else (args.graph,):
        policy = None  # its memory goes back before the next one is loaded
        policy, load, inference = measure(args, graph)
        name = policy.graphs.options.graph
        load_s[name], inference_s[name] = load, inference
        print(f"{name:<18} ready in {load:7.1f} s, inference {inference * 1e3:9.2f} ms", flush=True)
    if compares:
        write_measurement(args.cache, policy.graphs.key, inference_s)
    chosen = choose(inference_s) if compares else next(iter(inference_s))
    print(f"graph auto will be {chosen}" if compares else f"compiled: {chosen}", end="")
    print(f"; cache: {args.cache / policy.graphs.key}")
    figures = {
        "device": str(device),
        "chip": chip_name(device),
        "dtype": args.dtype,
        "form": args.form,
        "load_s": load_s,
        "inference_s": inference_s,
        "chosen": chosen,
        "cache": str(args.cache),
        "key": policy.graphs.key,
    }
    console.write_json(args.json, figures)
    return console.DONE


def measure(args: argparse.Namespace, graph: str) -> tuple[Policy, float, float]:
    """Load with a compiler: the policy, seconds of loading and compiling, seconds per inference."""
    import statistics
    import time

    from pi0_ros.profile.run import load_to_measure, plausible_observation

    start = time.perf_counter()
    policy = load_to_measure(args, graph_options(args, graph, args.cache))
    loaded = time.perf_counter() - start
    observation = plausible_observation(policy.cameras, policy.num_joints)
    times = [policy.infer(observation).inference_time for _ in range(INFERENCES)]
    return policy, loaded, statistics.median(times)
