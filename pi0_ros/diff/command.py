"""pi0_replay diff: two replays compared, with an exit status for scripts."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from pi0_ros.bags.bag import BagError
from pi0_ros.bags.results import Results, read_results
from pi0_ros.diff.compare import Difference, DiffError, Thresholds, compare, failures
from pi0_ros.diff.report import difference_json, format_difference
from pi0_ros.motion.urdf import UrdfError
from pi0_ros.replay.replay import plotter
from pi0_ros.viz.kinematics import read_arm

EPILOG = """\
A and B are OUT of pi0_replay, over DDS or deterministic, or any recording with the node's
~/action_chunk. Chunks are compared if their observations have the same stamp.

exit status: 0 within the thresholds, 1 beyond one, 2 for wrong arguments or input that cannot be
compared.

example: pi0_replay diff before after --urdf so101.urdf --tool gripper_frame_link --plot diff.png
"""
NO_PLOT = "--plot: matplotlib is not installed (pip install matplotlib)"


def add_thresholds(parser: argparse.ArgumentParser, joint: float = Thresholds.joint) -> None:
    """The options of `thresholds`."""
    add = parser.add_argument
    add("--max-joint", metavar="RAD", type=float, help=f"of any joint (default: {joint:g})")
    add(
        "--max-position",
        metavar="M",
        type=float,
        help=f"at the tool, with --urdf (default: {Thresholds.position:g})",
    )
    add(
        "--max-angle",
        metavar="RAD",
        type=float,
        help=f"at the tool, with --urdf (default: {Thresholds.angle:g})",
    )
    add(
        "--max-unmatched",
        metavar="N",
        type=int,
        help=f"chunks without a partner (default: {Thresholds.unmatched})",
    )
    add("--urdf", metavar="FILE", type=Path, help="the robot: compare where its tool goes too")
    add("--tool", metavar="LINK", default="", help="the tool's link (default: the last one)")


def thresholds(
    parser: argparse.ArgumentParser, args: argparse.Namespace, joint: float = Thresholds.joint
) -> Thresholds:
    """The thresholds of a command line; ends the program where one is no number from 0."""
    given = {
        "joint": joint if args.max_joint is None else args.max_joint,
        "position": args.max_position,
        "angle": args.max_angle,
        "unmatched": args.max_unmatched,
    }
    for name, value in given.items():
        if value is not None and not 0 <= value < math.inf:
            parser.error(f"--max-{name}: must be a number from 0, got {value}")
    if args.urdf is None and (args.tool or args.max_position or args.max_angle):
        parser.error("--tool, --max-position and --max-angle need --urdf")
    return Thresholds(**{name: value for name, value in given.items() if value is not None})


def compare_results(a: Results, b: Results, urdf: Path | None, tool: str) -> Difference:
    """Compares two results, at the tool too where a URDF is given.

    Raises:
        DiffError: they cannot be compared.
        UrdfError: the URDF does not fit the chunks, or pinocchio is missing; lists everything.
    """
    poses = None if urdf is None else read_arm(urdf, a.joint_names, tool).tool_poses
    return compare(a, b, poses)


def main(argv: Sequence[str]) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="pi0_replay diff",
        description="Compares the chunks of two replays: per joint, and at the tool.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("a", metavar="A", type=Path, help="results of a replay")
    add("b", metavar="B", type=Path, help="results of another one")
    add("--json", metavar="FILE", type=Path, help="also write the figures as JSON")
    add("--plot", metavar="FILE", type=Path, help="also draw them, as PNG")
    add_thresholds(parser)
    args = parser.parse_args(argv)
    limits = thresholds(parser, args)
    if args.plot is not None and plotter() is None:
        parser.error(NO_PLOT)
    for name, file in (("--json", args.json), ("--plot", args.plot)):
        if file is not None and not file.absolute().parent.is_dir():
            parser.error(f"{name}: the folder {file.parent} does not exist")
    try:
        a, b = read_results(args.a), read_results(args.b)
        difference = compare_results(a, b, args.urdf, args.tool)
        # The figures first: a file that cannot be written must not cost them.
        print(format_difference(difference, limits))
        if args.json is not None:
            args.json.write_text(json.dumps(difference_json(difference, limits), indent=2) + "\n")
        if args.plot is not None:
            from pi0_ros.diff.plot import plot_difference

            plot_difference(args.plot, difference, limits)
    except (BagError, DiffError, UrdfError, OSError) as error:
        print(f"pi0_replay diff: {error}", file=sys.stderr)
        return 2
    return 1 if failures(difference, limits) else 0
