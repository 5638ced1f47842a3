"""pi0_eval: a policy's predictions against what the robot of a recording really did."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pi0_ros.bags.bag import parse_remaps
from pi0_ros.eval.many import EvalError, evaluate_all
from pi0_ros.eval.recording import Evaluated, Job
from pi0_ros.eval.report import evaluation_json, format_evaluation
from pi0_ros.node.arguments import ArgumentsError
from pi0_ros.node.interface import read_interface
from pi0_ros.replay.replay import node_arguments, plotter

EPILOG = """\
Each recording is stepped through as pi0_replay --deterministic does it; needs no ROS. Step i of a
chunk is held against the joint (i + 1) * action_dt after the observation. A policy that is good in
closed loop may still differ from what one person did; one that is worse than standing still has
learned nothing.

exit status: 0 when every recording was evaluated; 1 when one could not be or something failed; 2
for wrong arguments; 130 after Ctrl-C.

examples:
  pi0_eval demo_bag --checkpoint demo_checkpoint --params demo.yaml --html eval.html
  pi0_eval day1 day2 --checkpoint my_pi0 --params my_arm.yaml --jobs 4 \\
      --remap /camera/color/image_raw:=/front/image_raw --target /leader/joint_states
"""


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """Reads the command line; everything after --ros-args is as for the node."""
    parser = argparse.ArgumentParser(
        prog="pi0_eval",
        description="Holds a policy's chunks against what the robot of rosbag2 recordings did:"
        " error per joint and per step ahead, smoothness, times.",
        usage="%(prog)s BAG ... --checkpoint DIR [options] [--ros-args ARG ...]",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("bags", metavar="BAG", nargs="+", type=Path, help="rosbag2 directory, sqlite3 or MCAP")
    add("--checkpoint", metavar="DIR", type=Path, required=True, help="pi0 checkpoint directory")
    add("--params", metavar="FILE", type=Path, help="the node's parameters (ROS YAML)")
    add(
        "--remap",
        metavar="FROM:=TO",
        action="append",
        default=[],
        help="take the recorded topic FROM for the node's topic TO; may be given again",
    )
    add(
        "--target",
        metavar="TOPIC",
        default="",
        help="compare with commands recorded on TOPIC (JointTrajectory or JointState), not with"
        " the joint states",
    )
    add("--json", metavar="FILE", type=Path, help="also write the figures as JSON")
    add("--html", metavar="FILE", type=Path, help="also write a page with pictures")
    add(
        "--jobs",
        metavar="N",
        type=int,
        default=1,
        help="processes; each loads the policy (default: 1)",
    )
    add(
        "--threads",
        metavar="N",
        type=int,
        help="of each inference on a CPU (default: the parameter `threads`; where that is 0, all"
        " cores for one recording, 1 for several)",
    )
    add(
        "--ray",
        metavar="ADDRESS",
        default="",
        help="evaluate as Ray tasks: host:port, auto, or local for one on this machine",
    )
    add(
        "--ros-args",
        metavar="ARG",
        nargs=argparse.REMAINDER,
        default=[],
        help="as for the node, such as -p instruction:='pick up the cube'",
    )
    args = parser.parse_args(argv)
    try:
        args.remap = parse_remaps(args.remap)
    except ValueError as error:
        parser.error(str(error))
    for name, value in (("--jobs", args.jobs), ("--threads", args.threads)):
        if value is not None and value < 1:
            parser.error(f"{name}: must be at least 1, got {value}")
    if args.ray and args.jobs > 1:
        parser.error("--jobs and --ray: one of the two")
    # Found out before hours of inference, not after.
    for name, file in (("--json", args.json), ("--html", args.html)):
        if file is not None and not file.absolute().parent.is_dir():
            parser.error(f"{name}: the folder {file.parent} does not exist")
    if args.html is not None and plotter() is None:
        parser.error("--html: matplotlib is not installed (pip install matplotlib)")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the command; returns its exit status."""
    args = parse_args(sys.argv[1:] if argv is None else argv)
    try:
        return _run(args)
    except (EvalError, ArgumentsError, OSError) as error:
        print(f"pi0_eval: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("pi0_eval: interrupted", file=sys.stderr)
        return 130


def make_jobs(args: argparse.Namespace) -> list[Job]:
    """One job per recording.

    Raises:
        ArgumentsError: parameters that the node would not take.
        OSError: there is no checkpoint or parameter file.
    """
    for path in (args.checkpoint, *([args.params] if args.params else [])):
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file or directory")
    arguments = node_arguments(args.checkpoint, args.params, args.ros_args)
    parameters = read_interface(arguments).parameters
    several = len(args.bags) > 1
    threads = args.threads or parameters.threads or (1 if several else os.cpu_count() or 1)
    return [
        Job(
            bag=str(bag.resolve()),
            name=str(bag),
            ros_args=tuple(arguments),
            remaps=tuple(args.remap.items()),
            target=args.target,
            threads=threads,
            pictures=args.html is not None,
        )
        for bag in args.bags
    ]


def _run(args: argparse.Namespace) -> int:
    results = evaluate_all(make_jobs(args), args.jobs, args.ray)
    document = evaluation_json(results)
    print(format_evaluation(document))
    if args.json is not None:
        args.json.write_text(json.dumps(document, indent=2) + "\n")
    if args.html is not None:
        args.html.write_text(_page(args, document, results), encoding="utf-8")
        print(f"page: {args.html}")
    return 1 if document["failed"] else 0


def _page(args: argparse.Namespace, document: dict, results: Sequence[Evaluated]) -> str:
    from pi0_ros.eval.page import page

    notes = [
        f"Checkpoint {args.checkpoint}, parameters {args.params or 'of --ros-args'}; compared with"
        f" {args.target or 'the joint states after each observation'}."
    ]
    return page(document, results, "pi0 against recordings", notes)


if __name__ == "__main__":
    sys.exit(main())
