"""python -m benchmarks.overhead: what the node adds to an inference, measured over DDS.

Ticks lost, the time from a tick to the published trajectory, the age of the images. The node and a
robot run as processes of their own, in a ROS domain of their own on the loopback (unless
ROS_DOMAIN_ID is set). The robot publishes images of every camera at 30 Hz, a little more or less so
that they come at every moment between two ticks, and joint states at 100 Hz. The limits are so wide
that trajectories go out. Without --checkpoint it is a small one with random weights, one thread.
"""

from __future__ import annotations

import argparse
import datetime
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.page import has_marks, machine, versions, write_between
from pi0_ros import cli, console

if TYPE_CHECKING:
    from benchmarks.overhead.figures import Figures

PROGRAM = "python -m benchmarks.overhead"
PAGE = "overhead"
"""Name of the marks between which `--write` puts the table."""

SIZES = ((640, 480), (1280, 720))
STARVED = 0.9
"""Share of its rates that a robot must get out for the figures to be of use."""

EPILOG = f"""\
overhead: from the tick to the published trajectory, less the policy's own time; decoding the
images, and the transfer to the policy's process and back, are part of it. A tick is lost if it does
not come, finds the last inference running (busy), or is refused.

The exit status is 1 when the p99 of a run's overhead is above 5 ms, when a tick was lost, or when
the p99 from an emergency stop to the stopping trajectory is above 20 ms.

examples:
  {PROGRAM} --json overhead.json
  {PROGRAM} 20 --size 640x480 --policy node --stops 200
  {PROGRAM} 60 --size 1280x720 --checkpoint /data/pi0 --params my_arm.yaml --rate 2
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    add = parser.add_argument
    add(
        "seconds",
        metavar="SECONDS",
        type=_number(3.0),
        nargs="?",
        default=30.0,
        help="how long each run is measured (default: 30)",
    )
    sizes = " and ".join(f"{width}x{height}" for width, height in SIZES)
    add(
        "--size",
        metavar="WxH",
        type=_size,
        action="append",
        help=f"of the images; may be given again (default: {sizes})",
    )
    add(
        "--policy",
        choices=("node", "process", "server"),
        action="append",
        help="where the policy runs; may be given again (default: node and process)",
    )
    add(
        "--rate",
        metavar="HZ",
        type=_number(0.1, 100.0),
        default=10.0,
        help="ticks per second (default: 10)",
    )
    console.add_checkpoint(parser, required=False)
    console.add_params(parser)
    add(
        "--warm-up",
        metavar="S",
        type=_number(0.0),
        default=5.0,
        help="seconds of trajectories that do not count (default: 5)",
    )
    add(
        "--startup-limit",
        metavar="S",
        type=_number(0.0),
        default=300.0,
        help="seconds the node may take to load the checkpoint (default: 300)",
    )
    add(
        "--stops",
        metavar="N",
        type=int,
        default=0,
        help="emergency stops after each run, at random moments: the time from the message to the"
        " stopping trajectory (default: 0)",
    )
    console.add_json(parser)
    add("--write", metavar="FILE", type=Path, help="put the table into a page that has its marks")


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """End where options do not fit each other."""
    if (args.checkpoint is None) != (not args.params):
        parser.error("--checkpoint and --params belong together: cameras and joints are in FILE")
    for path in filter(None, (args.checkpoint, *args.params)):
        if not path.exists():
            parser.error(f"{path}: no such file or directory")
    if args.write is not None and not (args.write.is_file() and has_marks(args.write, PAGE)):
        parser.error(f"--write: {args.write} is no page with the marks that the table goes between")


def run(args: argparse.Namespace) -> int:
    """Measure and print; 1 where a run missed the target."""
    from benchmarks.overhead.table import markdown, text

    command = f"{PROGRAM} {shlex.join(sys.argv[1:])}".strip()
    about = [f"{datetime.date.today().isoformat()}, `{command}`:", f"{machine()}; {versions()}."]
    runs = measure(args)
    print(text(runs))
    for warning in warnings(runs):
        print(f"warning: {warning}", file=sys.stderr)
    document = {"about": about, "runs": [run.to_json() for run in runs], "warnings": warnings(runs)}
    console.write_json(args.json, document)
    if args.write:
        write_between(args.write, PAGE, markdown(runs, about))
    return console.DONE if all(run.met for run in runs) else console.FAILED


def measure(args: argparse.Namespace) -> list[Figures]:
    """All runs, one after the other."""
    from benchmarks.overhead.figures import Case
    from benchmarks.overhead.setup import case_arguments, demo_arguments
    from pi0_ros.node.arguments import write_arguments
    from pi0_ros.ros.environment import environment, private_graph

    cases = [
        Case(width, height, policy, args.rate)
        for width, height in args.size or SIZES
        for policy in args.policy or ("node", "process")
    ]
    total = (args.warm_up + args.seconds) * len(cases)
    layout = "{desc} {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s"
    runs = []
    # The surroundings must be in place before this process first uses ROS.
    with (
        environment(private_graph(os.environ)),
        tempfile.TemporaryDirectory(prefix="pi0_overhead_") as made,
    ):
        from benchmarks.overhead.run import run_case
        from pi0_ros.node.interface import read_interface

        folder = Path(made)
        if args.checkpoint:
            common = write_arguments(args.params, {"checkpoint": str(args.checkpoint.resolve())})
        else:
            common = demo_arguments(folder)
        joints = read_interface(common).parameters.joint_names
        with console.progress(total=total, bar_format=layout, mininterval=0.5) as bar:
            for k, case in enumerate(cases):
                bar.set_description(str(case))
                place = folder / str(k)
                place.mkdir()
                arguments = [*common, *case_arguments(case, joints, place)]
                runs.append(
                    run_case(
                        case,
                        read_interface(arguments),
                        arguments,
                        place,
                        args.seconds,
                        args.warm_up,
                        args.startup_limit,
                        lambda seconds: bar.update(min(seconds, total - bar.n)),
                        args.stops,
                    )
                )
    return runs


def warnings(runs: Sequence[Figures]) -> list[str]:
    """Why the figures may depend on this machine more than on the node."""
    from benchmarks.overhead.figures import CAMERA_HZ, JOINT_HZ

    found = []
    for run in runs:
        wanted = [CAMERA_HZ] * (len(run.robot_hz) - 1) + [JOINT_HZ]
        for (topic, hz), rate in zip(run.robot_hz.items(), wanted, strict=True):
            if hz < STARVED * rate:
                found.append(
                    f"{run.case}: the robot got out {hz:.1f} of {rate:g} messages per second on"
                    f" {topic}: this machine is too busy or too slow for it"
                )
        # One may be in flight at either end.
        chunks = run.lost.due - run.lost.all
        if run.trajectories < chunks - 1:
            found.append(f"{run.case}: {run.trajectories} of {chunks} trajectories arrived")
    return found


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if not found:
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT such as 640x480, got {text}")
    return int(found[1]), int(found[2])


def _number(least: float, most: float = sys.float_info.max) -> Callable[[str], float]:
    """An argparse type: a finite number within bounds."""

    def number(text: str) -> float:
        value = float(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"must be from {least:g} to {most:g}, got {text}")
        return value

    return number


def main(argv: Sequence[str] | None = None) -> int:
    """Run it as a command; returns its exit status."""
    return cli.call(PROGRAM, sys.modules[__name__], sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
