"""pi0 doctor: compare a robot, or a bag of it, with what the node and its checkpoint expect.

Topics, types, rates, ages, images, clock, joint order and units, limits, device; on a live graph
also the controllers: their joints and parameters, and how long a message takes. Prints a table.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pi0_ros import console
from pi0_ros.doctor.findings import Finding, findings_json, format_table, passed

if TYPE_CHECKING:
    from pi0_ros.doctor.samples import Collected
    from pi0_ros.node.interface import Interface

LISTEN = 5.0
"""Seconds that a live graph is listened to by default."""

EPILOG = """\
Give the node's own arguments, so that the doctor checks what the node would get: --params files,
and -p and -r after --ros-args. Nothing is published, and the node need not run. A bag needs no ROS.

With --write it writes a parameter file for a robot that has none yet: topics, joints, units,
controllers and limits, each with the reason, and what has to be looked at marked GUESS.

The exit status is 1 when something failed.

examples:
  pi0 doctor --checkpoint /data/pi0 --write my_arm.yaml
  pi0 doctor --checkpoint /data/pi0 --params my_arm.yaml
  pi0 doctor --bag recording --checkpoint /data/pi0 --params my_arm.yaml \\
      --ros-args -r front/image_raw:=/camera/color/image_raw
"""

JSON_KEYS = {
    "source": "`live graph`, or the bag",
    "passed": "whether nothing failed",
    "counts": "level (`PASS`, `WARN`, `FAIL`) -> number of findings",
    "findings": "`level`, `check`, `text`, `advice` (empty: nothing to do)",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    console.add_checkpoint(parser, required=False)
    console.add_params(parser)
    add = parser.add_argument
    add("--bag", metavar="BAG", type=Path, help="check a rosbag2 recording, not a live graph")
    text = f"how long to listen (default: {LISTEN:g}); of a bag: how much to read (default: all)"
    add("--seconds", metavar="S", type=float, help=text)
    text = (
        "write a parameter file for this robot instead: from the checkpoint, the live graph or the"
        " bag, and its URDF; guesses are marked"
    )
    add("--write", metavar="FILE", type=console.output_file, help=text)
    text = "with --write: not that of robot_description"
    add("--urdf", metavar="FILE", type=Path, help=text)
    console.add_overwrite(parser)
    console.add_json(parser)
    console.add_ros_args(parser)


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    if args.seconds is not None and not 0 < args.seconds < math.inf:
        parser.error(f"--seconds: must be above 0 and finite, got {args.seconds:g}")
    if args.write is None and (args.urdf is not None or args.overwrite):
        parser.error("--urdf and --overwrite go with --write")
    if args.write is not None and args.checkpoint is None:
        parser.error("--write: give the --checkpoint that the parameters are for")
    if args.write is not None and (args.params or args.ros_args or args.json):
        parser.error("--write: --params, --json and --ros-args are for judging what there is")


def run(args: argparse.Namespace) -> int:
    if args.write is not None:
        return _write(args)
    from pi0_ros.node.arguments import write_arguments
    from pi0_ros.node.interface import read_interface

    given = {} if args.checkpoint is None else {"checkpoint": str(args.checkpoint)}
    interface = read_interface([*write_arguments(args.params, given), *args.ros_args])
    if args.bag is None:
        from pi0_ros.doctor.live import collect_live

        seconds = args.seconds or LISTEN
        print(f"pi0 doctor: listening for {seconds:g} s", file=sys.stderr)
        collected, source = collect_live(interface, seconds), "live graph"
    else:
        from pi0_ros.doctor.bag import collect_bag

        collected, source = collect_bag(interface, args.bag, args.seconds), str(args.bag)
    findings = judge(interface, collected)
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    print(format_table(findings, colour=colour))
    console.write_json(args.json, findings_json(findings, source))
    return console.DONE if passed(findings) else console.FAILED


def _write(args: argparse.Namespace) -> int:
    from pi0_ros.doctor.write import write

    seconds = args.seconds
    if args.bag is None:
        console.require("rclpy", "pi0_ros.msg")
        seconds = seconds or LISTEN
        print(f"pi0 doctor: listening for {seconds:g} s", file=sys.stderr)
    print(write(args.write, args.checkpoint, args.bag, args.urdf, seconds, args.overwrite))
    return console.DONE


def judge(interface: Interface, collected: Collected) -> list[Finding]:
    """Every finding about a robot and this machine, in the order of the table."""
    from pi0_ros.doctor.controllers import judge_controllers
    from pi0_ros.doctor.graph import judge_graph
    from pi0_ros.doctor.host import judge_host
    from pi0_ros.doctor.images import judge_images
    from pi0_ros.doctor.joints import judge_joints
    from pi0_ros.doctor.operator import judge_operator
    from pi0_ros.doctor.policy import judge_parameters, judge_policy
    from pi0_ros.doctor.streams import judge_streams

    policy, checkpoint = judge_policy(interface.parameters)
    return [
        *judge_parameters(interface, checkpoint),
        *policy,
        *judge_graph(interface, collected),
        *judge_streams(interface, collected),
        *judge_images(interface, collected),
        *judge_joints(interface, collected, checkpoint),
        *judge_operator(interface, collected),
        *judge_controllers(interface, collected),
        *judge_host(interface.parameters, checkpoint),
    ]
