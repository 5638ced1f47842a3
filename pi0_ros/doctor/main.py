"""pi0_doctor: the contract check against a live robot or a bag of it, before the arm moves."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pi0_ros.doctor.findings import Finding, findings_json, format_table, passed

if TYPE_CHECKING:
    from pi0_ros.doctor.samples import Collected, Settings

LISTEN = 5.0
"""Seconds that a live graph is listened to by default."""

EPILOG = """\
Give the node's own arguments: parameter files, -p and -r, so that the doctor looks at what the
node would get. Nothing is published, and the node need not run.

exit status: 0 when nothing failed, 1 when something did, 2 for wrong arguments, 130 after Ctrl-C.

examples:
  pi0_doctor --params-file my_arm.yaml --ros-args -p checkpoint:=/data/pi0
  pi0_doctor --bag demo_bag --params-file my_arm.yaml --ros-args -p checkpoint:=/data/pi0 \\
      -r front/image_raw:=/camera/color/image_raw
"""


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """Read the command line; everything after --ros-args is as for the node."""
    parser = argparse.ArgumentParser(
        prog="pi0_doctor",
        description="Checks whether a robot, or a bag of it, is what the pi0 node and its"
        " checkpoint expect: topics, types, rates, pictures, clock, joint order, units, limits,"
        " device. Prints a table.",
        usage="%(prog)s [--params-file FILE] [--bag BAG] [--seconds S] [--json FILE]"
        " [--ros-args ARG ...]",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "--params-file",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help="the node's parameters (ROS YAML); may be given again",
    )
    add("--bag", metavar="BAG", type=Path, help="look at a rosbag2 recording, not at a live graph")
    add(
        "--seconds",
        metavar="S",
        type=float,
        help=f"how long to listen (default: {LISTEN:g}); of a bag: how much to read (default: all)",
    )
    add("--json", metavar="FILE", type=Path, help="also write the findings as JSON")
    add(
        "--ros-args",
        metavar="ARG",
        nargs=argparse.REMAINDER,
        default=[],
        help="as for the node, such as -p checkpoint:=/data/pi0",
    )
    args = parser.parse_args(argv)
    if args.seconds is not None and not 0 < args.seconds < math.inf:
        parser.error(f"--seconds: must be above 0 and finite, got {args.seconds:g}")
    # Found out before anything is listened to, not after.
    if args.json is not None and not args.json.absolute().parent.is_dir():
        parser.error(f"--json: the folder {args.json.parent} does not exist")
    return args


def judge(settings: Settings, collected: Collected) -> list[Finding]:
    """Every finding about a robot and this machine, in the order of the table."""
    from pi0_ros.doctor.commands import judge_commands
    from pi0_ros.doctor.graph import judge_graph
    from pi0_ros.doctor.host import judge_contract, judge_host
    from pi0_ros.doctor.pictures import judge_pictures
    from pi0_ros.doctor.state import judge_joints
    from pi0_ros.doctor.streams import judge_streams

    contract, checkpoint = judge_contract(settings.parameters)
    return [
        *contract,
        *judge_graph(settings, collected),
        *judge_streams(settings, collected),
        *judge_pictures(settings, collected),
        *judge_joints(settings, collected, checkpoint),
        *judge_commands(settings, collected),
        *judge_host(settings.parameters, checkpoint),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the command; returns its exit status."""
    args = parse_args(sys.argv[1:] if argv is None else argv)
    try:
        return _run(args)
    except KeyboardInterrupt:
        print("pi0_doctor: interrupted", file=sys.stderr)
        return 130


def _run(args: argparse.Namespace) -> int:
    from pi0_ros.bags.bag import BagError
    from pi0_ros.doctor.bag import collect_bag
    from pi0_ros.doctor.live import collect_live, read_settings
    from pi0_ros.node.arguments import ArgumentsError

    files = [text for file in args.params_file for text in ("--params-file", str(file))]
    try:
        settings = read_settings([*files, *args.ros_args])
    except ArgumentsError as error:
        print(f"pi0_doctor: {error}", file=sys.stderr)
        return 2
    try:
        if args.bag is None:
            seconds = args.seconds or LISTEN
            print(f"pi0_doctor: listening for {seconds:g} s", file=sys.stderr)
            collected, source = collect_live(settings, seconds), "live graph"
        else:
            collected, source = collect_bag(settings, args.bag, args.seconds), str(args.bag)
        findings = judge(settings, collected)
        # The findings first: a file that cannot be written must not cost them.
        print(format_table(findings))
        if args.json:
            args.json.write_text(json.dumps(findings_json(findings, source), indent=2) + "\n")
    except (BagError, OSError) as error:
        print(f"pi0_doctor: {error}", file=sys.stderr)
        return 1
    return 0 if passed(findings) else 1


if __name__ == "__main__":
    sys.exit(main())
