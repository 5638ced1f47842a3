"""pi0 compile: compile a checkpoint's graphs ahead of time, and measure what they give.

Compiles the graphs of a checkpoint into a cache directory, so that the node (parameter graph_cache)
starts without compiling, and prints the time of an inference. With --graph auto it measures eager
and inductor on a CPU, cudagraph and inductor_cudagraph on a GPU of NVIDIA, and the node's
`graph: auto` follows the result for this processor or card; without that, `auto` is eager on a CPU
and cudagraph on a GPU. Form, attention, weights, threads and cameras are part of what a graph is
compiled for: give the node's.

With --precision int8 or float8 and --calibrate a recording's observations say what eight bits do to
the actions: the cosine of the raw actions with those in --dtype is printed beside the time, and has
to be at least 0.99. The scales of float8 come from there, too; they are kept in the cache.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pi0_ros import console
from pi0_ros.profile.load_options import add_load_options, graph_options

if TYPE_CHECKING:
    from pi0_ros.policy.policy import Policy

INFERENCES = 5

JSON_KEYS = {
    "device, chip, dtype, form": "what was compiled for",
    "load_s": "compiler -> seconds of loading, compiling and warming up",
    "inference_s": "compiler -> median seconds of an inference",
    "chosen": "the faster compiler, or the one asked for",
    "precision, cosine": "of vision and prefix; with --calibrate `observations`, and the `least` "
    "and `mean` cosine of their raw actions",
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
    text = "recording to find the scales of float8 with, and to try int8 or float8 on"
    add("--calibrate", type=Path, metavar="BAG", help=text)
    console.add_params(parser)
    console.add_json(parser)
    console.add_ros_args(parser)


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Ends the program where options do not go together."""
    if args.calibrate and args.precision == "full":
        parser.error("--calibrate is for --precision int8 and float8")
    if (args.params or args.ros_args) and not args.calibrate:
        parser.error("--params and --ros-args say which topics --calibrate reads")


def run(args: argparse.Namespace) -> int:
    """Compile, measure, print, and keep what `auto` needs."""
    import torch

    from pi0_ros.policy.compile import CONTESTANTS
    from pi0_ros.policy.device import check_precision, chip_name, resolve_device
    from pi0_ros.policy.graph_cache import choose, write_measurement
    from pi0_ros.policy.policy import DTYPES

    if args.threads:
        torch.set_num_threads(args.threads)
    device = resolve_device(args.device)
    check_precision(device, DTYPES[args.dtype], args.precision)
    compares = args.graph == "auto" and device.type in CONTESTANTS
    print(f"{device}: {chip_name(device)}")
    alike: dict[str, float] = {}
    if args.calibrate:
        from pi0_ros.compile.calibrate import GATE, calibrate

        alike = calibrate(args)
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
    passed = not alike or alike["least"] >= GATE
    if alike:
        verdict = "met" if passed else "MISSED"
        print(
            f"{args.precision} beside {args.dtype}, {alike['observations']:.0f} observations: "
            f"cosine of the raw actions {alike['mean']:.5f}, least {alike['least']:.5f} "
            f"(at least {GATE}: {verdict})"
        )
    figures = {
        "device": str(device),
        "chip": chip_name(device),
        "dtype": args.dtype,
        "form": args.form,
        "precision": args.precision,
        "cosine": alike,
        "load_s": load_s,
        "inference_s": inference_s,
        "chosen": chosen,
        "cache": str(args.cache),
        "key": policy.graphs.key,
    }
    console.write_json(args.json, figures)
    return console.DONE if passed else console.FAILED


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
