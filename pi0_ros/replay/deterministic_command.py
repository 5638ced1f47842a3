"""pi0_replay --deterministic, --record-golden and --check."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pi0_ros.bags.results import read_results
from pi0_ros.diff.command import add_thresholds, compare_results, thresholds
from pi0_ros.diff.compare import DiffError, Thresholds, failures
from pi0_ros.diff.report import difference_json, format_difference
from pi0_ros.node.preflight import contract_problems, load_policy
from pi0_ros.replay.deterministic import FIGURES, Options, replay_steps
from pi0_ros.replay.golden import (
    GOLDEN,
    JOINT,
    changes,
    ingredients,
    read_golden,
    write_golden,
)
from pi0_ros.replay.offline import Check, Load, load, open_offline
from pi0_ros.replay.replay import node_arguments, plotter
from pi0_ros.replay.report import format_table, report_json
from pi0_ros.ros.process import NodeError


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of deterministic replays."""
    group = parser.add_argument_group(
        "without DDS and ROS, step by step, the same results to the byte"
    )
    add = group.add_argument
    add("--deterministic", action="store_true", help="step through the recording in this process")
    add(
        "--latency",
        metavar="S",
        type=float,
        default=0.0,
        help="seconds of the recording that an inference takes (default: 0)",
    )
    add(
        "--again",
        metavar="RESULTS",
        type=Path,
        help="compute the chunks of RESULTS again, each from its own observation and noise",
    )
    add("--record-golden", metavar="DIR", type=Path, help="keep the results to compare with later")
    add("--check", metavar="DIR", type=Path, help="compare with the results kept in DIR")
    add_thresholds(
        parser.add_argument_group("what may differ from the results in DIR (--check)"), JOINT
    )


def wanted(args: argparse.Namespace) -> bool:
    """Whether a deterministic replay is asked for."""
    return bool(args.deterministic or args.record_golden or args.check)


def check_options(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Ends the program where options do not go together; sets `args.limits`."""
    args.limits = thresholds(parser, args, JOINT)
    if not wanted(args):
        if args.latency or args.again:
            parser.error("--latency and --again go with --deterministic")
        return
    if not 0 <= args.latency < 60:
        parser.error(f"--latency: must be in [0, 60) seconds, got {args.latency:g}")
    if args.rate != 1.0:
        parser.error("--rate: a deterministic replay has no pace; it is as fast as it can be")
    if args.record_golden and args.check:
        parser.error("--record-golden and --check: one at a time")
    if args.record_golden and args.out is not None:
        parser.error("--record-golden keeps everything in its DIR; leave --out out")


def run(
    args: argparse.Namespace,
    interrupted: Callable[[], bool],
    load_as: Load = load_policy,
    check: Check = contract_problems,
) -> int:
    """Replays, keeps or compares; returns the exit status.

    Raises:
        BagError, ArgumentsError, ContractError, LoadError, NodeError, OSError, UrdfError,
        GoldenError: one clear message each.
    """
    golden = read_golden(args.check) if args.check else None
    out: Path = args.record_golden or args.out
    if args.check and out.resolve() == args.check.resolve():
        raise NodeError(f"--out {out} is the golden replay to compare with: choose another one")
    for path in (args.checkpoint, *([args.params] if args.params else [])):
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file or directory")
    again = read_results(args.again) if args.again else None
    options = Options(args.enable, args.latency, again)
    arguments = node_arguments(args.checkpoint, args.params, args.ros_args, args.enable)
    offline = open_offline(args.bag, arguments, args.remap, check)
    policy = load(offline.parameters, load_as)
    if args.record_golden and args.overwrite:
        (out / GOLDEN).unlink(missing_ok=True)  # until the new results are complete
    outcome = replay_steps(
        offline,
        policy,
        out,
        options,
        recording=str(args.bag),
        overwrite=args.overwrite,
        interrupted=interrupted,
    )
    print(format_table(outcome.report))
    figures = report_json(outcome.report)
    status = 0
    if not outcome.report.chunks:
        print(
            "pi0_replay: no chunk came. The table above says what was refused, and why.",
            file=sys.stderr,
        )
        status = 1
    made_of = ingredients(offline.parameters, options, outcome.messages)
    if args.record_golden and not status:
        write_golden(out, made_of)
    if golden is not None and not status:
        status, figures["check"] = _check(args, golden, made_of, out)
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")
    names = ("bag", FIGURES, "chunks.png", "diff.png", GOLDEN)
    print(f"results: {', '.join(str(out / name) for name in names if (out / name).exists())}")
    return status


def _check(
    args: argparse.Namespace, golden: dict[str, Any], made_of: dict[str, Any], out: Path
) -> tuple[int, dict[str, Any]]:
    """Compares with the golden results; returns the exit status and the figures."""
    limits: Thresholds = args.limits
    inputs, versions = changes(golden, made_of)
    figures: dict[str, Any] = {"changed": inputs, "versions": versions}
    try:
        a, b = read_results(args.check), read_results(out)
        difference = compare_results(a, b, args.urdf, args.tool)
    except DiffError as error:  # an input that changed may well be why
        print(f"beyond: {error}")
        problems = [str(error)]
        figures |= {"failures": problems, "passed": False}
    else:
        print(format_difference(difference, limits))
        problems = failures(difference, limits)
        figures |= difference_json(difference, limits)
        if plotter() is not None:
            from pi0_ros.diff.plot import plot_difference

            plot_difference(out / "diff.png", difference, limits)
    for change in versions:
        print(f"note: {change}")
    for change in inputs:
        print(f"changed: {change}")
    if inputs:
        print(
            "The golden replay was made of something else: if that is meant, record it anew"
            " (--record-golden DIR --overwrite)."
        )
    return int(bool(inputs or problems)), figures
