"""`pi0_compile`: compile a checkpoint's graphs ahead of time, and measure what they give."""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch

from pi0_ros.model.ops.ascend import ATTENTION_KERNELS
from pi0_ros.policy.compile import FORMS, GRAPHS, GraphOptions, choose, write_measurement
from pi0_ros.policy.device import resolve_device
from pi0_ros.policy.policy import DTYPES, Policy
from pi0_ros.profile.run import load_to_measure, plausible_observation

INFERENCES = 5


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="pi0_compile",
        description="Compile the graphs of a checkpoint into a cache directory, so that the node "
        "(parameter graph_cache) starts without compiling, and print the time of an inference. "
        "With --graph auto on a CPU, eager and inductor are both measured, and the node's `auto` "
        "follows the result.",
    )
    add = parser.add_argument
    add("--checkpoint", type=Path, required=True, metavar="DIR", help="pi0 checkpoint directory")
    add("--cache", type=Path, required=True, metavar="DIR", help="where compiled graphs are kept")
    add("--device", default="auto", help="auto, cpu, npu:0 (default: auto)")
    add("--dtype", choices=DTYPES, default="float32", help="default: float32")
    add("--graph", choices=GRAPHS, default="auto", help="default: auto")
    add("--form", choices=FORMS, default="frame", help="default: frame")
    add("--attention", choices=ATTENTION_KERNELS, default="fia", help="on an NPU (default: fia)")
    add("--weights", choices=("nd", "nz"), default="nd", help="on an NPU (default: nd)")
    add("--cameras", nargs="+", metavar="NAME", help="default: all of the checkpoint's")
    add("--threads", type=int, default=0, help="CPU threads, as the node's; 0: all cores")
    add("--tokenizer", type=Path, metavar="PATH", help="where the checkpoint brings none")
    add("--json", type=Path, metavar="FILE", help="also write the figures as JSON")
    args = parser.parse_args(argv)
    # Found out before minutes of compiling, not after.
    if args.json is not None and not args.json.parent.is_dir():
        parser.error(f"--json: the folder {args.json.parent} does not exist")
    return args


def measure(args: argparse.Namespace, graph: str) -> tuple[Policy, float, float]:
    """Load with a compiler: the policy, seconds of loading and compiling, seconds per inference."""
    start = time.perf_counter()
    policy = load_to_measure(
        args.checkpoint,
        device=args.device,
        dtype=args.dtype,
        cameras=args.cameras,
        tokenizer=args.tokenizer,
        graph=GraphOptions(graph, args.form, args.cache, args.attention, args.weights == "nz"),
    )
    loaded = time.perf_counter() - start
    observation = plausible_observation(policy.cameras, policy.num_joints)
    times = [policy.infer(observation).inference_time for _ in range(INFERENCES)]
    return policy, loaded, statistics.median(times)


def main(argv: list[str] | None = None) -> int:
    """Entry point of the command; returns its exit status."""
    args = parse_args(argv)
    try:
        compile_graphs(args)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        print(f"pi0_compile: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("pi0_compile: interrupted", file=sys.stderr)
        return 130
    return 0


def compile_graphs(args: argparse.Namespace) -> None:
    """Compile, measure, print, and keep what `auto` needs."""
    if args.threads:
        torch.set_num_threads(args.threads)
    device = resolve_device(args.device)
    compares = args.graph == "auto" and device.type == "cpu"
    load_s, inference_s = {}, {}
    for graph in ("eager", "inductor") if compares else (args.graph,):
        policy, load, inference = measure(args, graph)
        name = policy.graphs.options.graph
        load_s[name], inference_s[name] = load, inference
        print(f"{name:<12} ready in {load:7.1f} s, inference {inference * 1e3:9.2f} ms", flush=True)
    if compares:
        write_measurement(args.cache, policy.graphs.key, inference_s)
    chosen = choose(inference_s) if compares else next(iter(inference_s))
    print(f"graph auto will be {chosen}" if compares else f"compiled: {chosen}", end="")
    print(f"; cache: {args.cache / policy.graphs.key}")
    if args.json:
        figures = {
            "device": str(device),
            "dtype": args.dtype,
            "form": args.form,
            "load_s": load_s,
            "inference_s": inference_s,
            "chosen": chosen,
            "cache": str(args.cache),
            "key": policy.graphs.key,
        }
        args.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
