"""pi0_overhead: what the node adds to an inference, measured over DDS on this machine."""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import re
import shlex
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from benchmarks.overhead.figures import CAMERA_HZ, JOINT_HZ, Case, OverheadError
from benchmarks.overhead.setup import case_arguments, demo_arguments, own_arguments
from benchmarks.overhead.table import has_marks, machine, markdown, text, versions, write_between

if TYPE_CHECKING:
    from benchmarks.overhead.figures import Figures

SIZES = ("640x480", "1280x720")
PROCESSES = {"both": (False, True), "true": (True,), "false": (False,)}
STARVED = 0.9
"""Share of its rates that a robot must get out for the figures to be of use."""

EPILOG = """\
The node and a robot run as processes of their own, in a ROS domain of their own on the loopback
(unless ROS_DOMAIN_ID is set). The robot publishes pictures of every camera at 30 Hz, a little more
or less so that they come at every moment between two ticks, and joint states at 100 Hz. The limits
are so wide that trajectories go out. Without --checkpoint it is a small one with random weights,
one thread.

overhead: from the tick to the published trajectory, less the policy's own time; decoding the
pictures, and bringing them to the policy's process and the chunk back, are part of it.
A tick is lost if it does not come, finds the last inference running (busy), or is refused.

exit status: 0 when the p99 of every run's overhead is at most 5 ms and no tick was lost; 1 when not
or something failed; 2 for wrong arguments; 130 after Ctrl-C.

examples:
  pi0_overhead --json overhead.json
  pi0_overhead 60 --size 1280x720 --checkpoint /data/pi0 --params my_arm.yaml --rate 2
"""


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="pi0_overhead",
        description="Measures what the pi0 node adds to an inference: ticks lost, time from a tick "
        "to the published trajectory, age of the pictures.",
        usage="%(prog)s [SECONDS] [options]",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "seconds",
        metavar="SECONDS",
        type=float,
        nargs="?",
        default=30.0,
        help="how long each run is measured (default: 30)",
    )
    add(
        "--size",
        metavar="WxH",
        action="append",
        help=f"of the pictures; may be given again (default: {' and '.join(SIZES)})",
    )
    add(
        "--policy-process",
        choices=PROCESSES,
        default="both",
        help="the node's parameter policy_process (default: both)",
    )
    add("--rate", metavar="HZ", type=float, default=10.0, help="ticks per second (default: 10)")
    add("--checkpoint", metavar="DIR", type=Path, help="of your own; with --params")
    add("--params", metavar="FILE", type=Path, help="the node's parameters for it (ROS YAML)")
    add(
        "--warm-up",
        metavar="S",
        type=float,
        default=5.0,
        help="seconds of trajectories that do not count (default: 5)",
    )
    add(
        "--startup-limit",
        metavar="S",
        type=float,
        default=300.0,
        help="seconds the node may take to load the checkpoint (default: 300)",
    )
    add("--json", metavar="FILE", type=Path, help="also write the figures as JSON")
    add("--write", metavar="FILE", type=Path, help="put the table into a page that has its marks")
    args = parser.parse_args(argv)
    for name, least in (("seconds", 3.0), ("warm_up", 0.0), ("startup_limit", 0.0)):
        value = getattr(args, name)
        if not least <= value < math.inf:
            parser.error(f"{name}: must be at least {least:g} and finite, got {value:g}")
    if not 0.1 <= args.rate <= 100:
        parser.error(f"--rate: must lie between 0.1 and 100, got {args.rate:g}")
    if (args.checkpoint is None) != (args.params is None):
        parser.error("--checkpoint and --params belong together: cameras and joints are in FILE")
    for path in filter(None, (args.checkpoint, args.params)):
        if not path.exists():
            parser.error(f"{path}: no such file or directory")
    sizes = [re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", size) for size in args.size or SIZES]
    if None in sizes:
        parser.error(f"--size: expected WIDTHxHEIGHT such as {SIZES[0]}, got {args.size}")
    args.sizes = [(int(size[1]), int(size[2])) for size in sizes]
    # Found out before minutes of measuring, not after.
    if args.json is not None and not args.json.absolute().parent.is_dir():
        parser.error(f"--json: the folder {args.json.parent} does not exist")
    if args.write is not None and not (args.write.is_file() and has_marks(args.write)):
        parser.error(f"--write: {args.write} is no page with the marks that the table goes between")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the command; returns its exit status."""
    argv = sys.argv[1:] if argv is None else argv
    args = parse_args(argv)
    # SIGTERM ends it as Ctrl-C does: the node and the robot must not stay behind.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _run(args, shlex.join(["pi0_overhead", *argv]))
    except KeyboardInterrupt:
        print("pi0_overhead: interrupted", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(args: argparse.Namespace, command: str) -> int:
    from pi0_ros.node.arguments import ArgumentsError
    from pi0_ros.ros.process import NodeError

    about = [
        f"{datetime.date.today().isoformat()}, `{command}`:",
        f"{machine()}; {versions()}.",
    ]
    try:
        runs = measure(args)
        # The figures first: a file that cannot be written must not cost them.
        print(text(runs))
        for warning in warnings(runs):
            print(f"pi0_overhead: {warning}", file=sys.stderr)
        if args.json:
            document = {"about": about, "runs": [run.to_json() for run in runs]}
            document["warnings"] = warnings(runs)
            args.json.write_text(json.dumps(document, indent=2) + "\n")
        if args.write:
            write_between(args.write, markdown(runs, about))
    except (ArgumentsError, NodeError, OverheadError, OSError) as error:
        print(f"pi0_overhead: {error}", file=sys.stderr)
        return 1
    return 0 if all(run.met for run in runs) else 1


def measure(args: argparse.Namespace) -> list[Figures]:
    """All runs, one after the other; `args` as `parse_args` returns them."""
    from pi0_ros.ros.environment import environment, private_graph

    cases = [
        Case(width, height, process, args.rate)
        for width, height in args.sizes
        for process in PROCESSES[args.policy_process]
    ]
    total = (args.warm_up + args.seconds) * len(cases)
    layout = "{desc} {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s"
    runs = []
    # The surroundings must be in place before this process first uses ROS.
    with (
        environment(private_graph(os.environ)),
        tempfile.TemporaryDirectory(prefix="pi0_overhead_") as made,
    ):
        from benchmarks.overhead.run import run
        from pi0_ros.doctor.live import read_settings

        folder = Path(made)
        if args.checkpoint:
            common = own_arguments(args.checkpoint, args.params)
        else:
            common = demo_arguments(folder)
        with tqdm(total=total, bar_format=layout, mininterval=0.5) as bar:
            for k, case in enumerate(cases):
                bar.set_description(str(case))
                place = folder / str(k)
                place.mkdir()
                joints = read_settings(common).parameters.joint_names
                arguments = [*common, *case_arguments(case, joints, place)]
                runs.append(
                    run(
                        case,
                        read_settings(arguments),
                        arguments,
                        place,
                        args.seconds,
                        args.warm_up,
                        args.startup_limit,
                        lambda seconds: bar.update(min(seconds, total - bar.n)),
                    )
                )
    return runs


def warnings(runs: Sequence[Figures]) -> list[str]:
    """Why figures may say more about this machine than about the node."""
    found = []
    for run in runs:
        wanted = [CAMERA_HZ] * (len(run.robot_hz) - 1) + [JOINT_HZ]
        for (topic, hz), rate in zip(run.robot_hz.items(), wanted, strict=True):
            if hz < STARVED * rate:
                found.append(
                    f"{run.case}: the robot got out {hz:.1f} of {rate:g} messages per second on"
                    f" {topic}: this machine is too busy or too slow for it"
                )
        # One may be on its way at either end.
        chunks = run.lost.due - run.lost.all
        if run.trajectories < chunks - 1:
            found.append(f"{run.case}: {run.trajectories} of {chunks} trajectories arrived")
    return found


if __name__ == "__main__":
    sys.exit(main())
