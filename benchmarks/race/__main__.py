"""Inference side by side with LeRobot 0.4.4's and 0.3.3's pi0, and what the machine allows.

Same random weights, inputs, noise, dtype and threads, by turns, each in a process of its own.
Prints CPU time by stage, memory, loading, operator calls, how far the actions agree, and each as a
ratio to what the machine's rate of matrix products allows, measured in the same run. Full size
takes 7 GB of disk and up to 14 GB of memory.
"""

import argparse
import json
import os
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.race import load
from benchmarks.race.case import SIZES, Case, products, weight_bytes, write_case, write_inputs
from benchmarks.race.compile import measure_compiled
from benchmarks.race.machine import bound, by_shape, in_int8, measure_machine
from benchmarks.race.race import Entry, ours, peers, peers_installed, race
from benchmarks.race.report import Group, Report, figures, text
from benchmarks.race.scaling import scaling
from benchmarks.race.targets import judge, markdown, table
from pi0_ros.cli import call
from pi0_ros.console import DONE, add_json, count, output_file, write_json

PROGRAM = "python -m benchmarks.race"
PEERS = Path("build/reference")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    add = parser.add_argument
    add("--size", choices=SIZES, default="full", help="of the model (default: full)")
    add("--cameras", type=int, choices=(1, 2, 3), default=2, help="default: 2")
    add("--steps", type=int, choices=range(1, 11), default=10, metavar="1-10", help="default: 10")
    add(
        "--prompt", type=count(1), nargs="+", default=[48], metavar="N", help="tokens (default: 48)"
    )
    add("--dtype", nargs="+", choices=("bfloat16", "float32"), default=["bfloat16"])
    add("--threads", type=count(1), default=1, help="of each contestant (default: 1)")
    add("--runs", type=count(2), default=6, help="inferences that count (default: 6)")
    add("--graph", choices=("eager", "inductor"), default="eager", help="inductor: that as well")
    add("--form", choices=("frame", "two-graph"), default="two-graph", help="of inductor's graphs")
    add("--peers", type=Path, default=PEERS, metavar="DIR", help=f"LeRobot (default: {PEERS})")
    add("--dir", type=Path, metavar="DIR", help="keep checkpoints there (default: not kept)")
    add(
        "--everything",
        action="store_true",
        help="what the targets are about: both dtypes, both prompts, int8, the compiler, loading, "
        "the node, growth",
    )
    add(
        "--overhead",
        type=Path,
        metavar="FILE",
        help="what benchmarks.overhead --json wrote, for the page",
    )
    add_json(parser)
    add("--plot", type=output_file, metavar="FILE", help="draw the stages as bars")
    add(
        "--write",
        type=output_file,
        metavar="FILE",
        help="write docs/performance.md",
    )


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """What options alone cannot say."""
    for value in args.prompt:
        if not 1 <= value <= SIZES[args.size].prompt_length:
            parser.error(f"--prompt {value}: 1 to {SIZES[args.size].prompt_length} tokens")


def run(args: argparse.Namespace) -> int:
    """The command."""
    with tempfile.TemporaryDirectory() as scratch:
        report = measure(args, args.dir or Path(scratch), Path(scratch))
    show(args, report)
    return DONE


def measure(args: argparse.Namespace, directory: Path, scratch: Path) -> Report:
    """All that was asked for."""
    torch.set_num_threads(args.threads)
    report = Report()
    if args.overhead is not None:
        report.overhead = json.loads(args.overhead.read_text())
    checkpoint = write_case(directory, args.size, args.cameras)
    if not peers_installed(args.peers):
        report.missing.append(
            f"LeRobot is not in {args.peers}: run without it. `make reference` installs it."
        )
    for case in cases(args):
        report.groups.append(run_case(args, case, checkpoint, scratch))
        print(text(Report([report.groups[-1]])) + "\n", file=sys.stderr, flush=True)
    if args.everything:
        _others(args, report, checkpoint, directory, scratch)
    return report


def cases(args: argparse.Namespace) -> list[Case]:
    """Every prompt in every dtype; with --everything those that targets are about."""
    pairs = [(dtype, prompt) for dtype in args.dtype for prompt in args.prompt]
    if args.everything:
        pairs = [("bfloat16", 48), ("bfloat16", 12), ("float32", 48)]
    sizes = (args.size, args.cameras, args.steps)
    return [Case(*sizes, prompt, dtype, args.threads) for dtype, prompt in pairs]


def run_case(args: argparse.Namespace, case: Case, checkpoint: Path, scratch: Path) -> Group:
    """One case: the machine's rates, then the contestants."""
    dtype = getattr(torch, case.dtype)
    found = list(products(case.config, case.cameras, case.prompt))
    machine = measure_machine(dtype)
    shapes = by_shape(found, dtype)
    entries: list[Entry] = [ours()]
    if args.graph != "eager":
        entries.append(ours(args.graph, args.form, scratch / "graphs"))
    if peers_installed(args.peers):
        entries += peers(args.peers.resolve(), case.dtype, case.config.variant)
    results = race(
        entries,
        case,
        _job(case, checkpoint, scratch),
        scratch,
        args.runs,
        together=not case.size.startswith("full"),
    )
    needed = weight_bytes(case.config, dtype.itemsize)
    limits = bound(found, machine, dtype.itemsize)
    return Group(case, tuple(results), machine, limits, shapes, needed)


def _job(case: Case, checkpoint: Path, scratch: Path) -> dict[str, Any]:
    inputs = scratch / "inputs.safetensors"
    write_inputs(inputs, case)
    return {
        "checkpoint": str(checkpoint.resolve()),
        "inputs": str(inputs),
        "dtype": case.dtype,
        "steps": case.steps,
        "prompt": case.prompt,
        "cameras": case.cameras,
        "threads": case.threads,
        "sizes": asdict(case.config),
    }


def _others(
    args: argparse.Namespace, report: Report, checkpoint: Path, directory: Path, scratch: Path
) -> None:
    """int8, the compiler, loading, images, the node's start, and growth, in bfloat16."""
    case = report.groups[0].case
    report.int8_s = in_int8(list(products(case.config, case.cameras, case.prompt)), torch.bfloat16)
    needed = weight_bytes(case.config, torch.bfloat16.itemsize)
    report.load = load.measure_load(ours(), _job(case, checkpoint, scratch), needed)
    report.image_s = load.image_seconds()
    report.start = load.measure_start(scratch)
    medium = write_case(directory, "medium", args.cameras)
    for size, path in {"medium": medium, args.size: checkpoint}.items():
        job = _job(replace(case, size=size), path, scratch)
        report.compiled.append(measure_compiled(size, job, scratch / f"graphs-{size}"))
    report.scaling = scaling(medium, measure_machine(torch.bfloat16), torch.bfloat16)


def show(args: argparse.Namespace, report: Report) -> None:
    """Print, and write the files that were asked for."""
    print(text(report))
    if args.everything:
        print("\n" + table(judge(report)))
    write_json(args.json, figures(report))
    if args.plot is not None:
        from benchmarks.race.plot import plot

        plot(report.groups, args.plot)
    if args.write is not None:
        command = " ".join([PROGRAM, *sys.argv[1:]])
        drawn = None
        if args.plot is not None:
            drawn = os.path.relpath(args.plot, args.write.parent)
        args.write.write_text(markdown(report, command, drawn))


def main(argv: list[str] | None = None) -> int:
    """Run it as a command; returns its exit status."""
    return call(PROGRAM, sys.modules[__name__], sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
