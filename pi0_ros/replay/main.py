"""pi0_replay: plays a recording to the node and shows what the node makes of it."""

import argparse
import json
import math
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from pi0_ros.bags.bag import BagError, parse_remaps
from pi0_ros.diff import command as diff_command
from pi0_ros.motion.urdf import UrdfError
from pi0_ros.node.arguments import ArgumentsError
from pi0_ros.node.preflight import ContractError, LoadError
from pi0_ros.replay import deterministic_command
from pi0_ros.replay.golden import GoldenError
from pi0_ros.replay.replay import NODE_COMMAND, replay
from pi0_ros.replay.report import format_table, report_json
from pi0_ros.ros.process import NodeError

SIGNALS = (signal.SIGINT, signal.SIGTERM)

EPILOG = """\
The node runs as a process of its own with use_sim_time, in a ROS domain of its own on the loopback
(unless ROS_DOMAIN_ID is set). It gets /clock and the topics that its parameters name, nothing else.
OUT/bag holds what it published, OUT/chunks.png shows the predicted joint paths, OUT/node.log has
its output.

With --deterministic there is neither a node nor DDS: the recording is stepped through in this
process, and the same inputs give the same files to the byte. "pi0_replay diff A B" compares the
results of two replays; --record-golden and --check do so in a test.

exit status: 0 when at least one chunk came, and with --check none differed; 1 when none came, one
differed or something failed; 2 for wrong arguments or a DIR that holds no golden replay; 130 after
Ctrl-C.

example: pi0_replay demo_bag --checkpoint demo_checkpoint --params pi0.yaml --json figures.json
"""


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """Reads the command line; everything after --ros-args is the node's."""
    parser = argparse.ArgumentParser(
        prog="pi0_replay",
        description="Plays a rosbag2 recording to the pi0 node over DDS, records the action chunks "
        "it publishes, and prints how many there are, how old and how fast.",
        usage="%(prog)s BAG --checkpoint DIR [options] [--ros-args ARG ...]\n"
        "       %(prog)s diff A B [options]",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("bag", metavar="BAG", type=Path, help="rosbag2 directory, sqlite3 or MCAP")
    add("--checkpoint", metavar="DIR", type=Path, required=True, help="pi0 checkpoint directory")
    add("--params", metavar="FILE", type=Path, help="the node's parameters (ROS YAML)")
    add("--rate", metavar="R", type=float, default=1.0, help="pace; 1 is as recorded (default)")
    add("--out", metavar="DIR", type=Path, help="directory of the results (default: BAG_replay)")
    add(
        "--enable",
        action="store_true",
        help="let the node publish trajectories, which needs joint_limits; else chunks only",
    )
    add("--overwrite", action="store_true", help="replace the results of an earlier replay in OUT")
    add("--json", metavar="FILE", type=Path, help="also write the table's figures as JSON")
    add(
        "--remap",
        metavar="FROM:=TO",
        action="append",
        default=[],
        help="play the recorded topic FROM on the topic TO; may be given again",
    )
    add(
        "--startup-limit",
        metavar="S",
        type=float,
        default=300.0,
        help="seconds the node may take to load the checkpoint (default: 300)",
    )
    deterministic_command.add_options(parser)
    add(
        "--ros-args",
        metavar="ARG",
        nargs=argparse.REMAINDER,
        default=[],
        help="everything after it goes to the node, such as -p instruction:='pick up the cube'",
    )
    args = parser.parse_args(argv)
    if not 0 < args.rate < math.inf:
        parser.error(f"--rate: must be above 0 and finite, got {args.rate:g}")
    deterministic_command.check_options(parser, args)
    try:
        args.remap = parse_remaps(args.remap)
    except ValueError as error:
        parser.error(str(error))
    if args.out is None:
        # A plain name, not a path beside BAG: recordings often lie where one cannot write.
        args.out = Path(f"{args.bag.resolve().name}_replay")
    # Found out before minutes of replay, not after. OUT and the folders above it will be made.
    if args.json is not None:
        folder, out = args.json.parent, (args.record_golden or args.out).absolute()
        if not folder.is_dir() and folder.absolute() not in (out, *out.parents):
            parser.error(f"--json: the folder {folder} does not exist")
    return args


def main(argv: Sequence[str] | None = None, node_command: Sequence[str] = NODE_COMMAND) -> int:
    """Entry point of the command; returns its exit status."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["diff"]:
        return diff_command.main(argv[1:])
    args = parse_args(argv)
    # SIGTERM ends a replay as Ctrl-C does: the node must not stay behind. Both only leave a mark
    # that the replay looks for: an exception raised wherever the signal hits could come up inside
    # rclpy's C++ calls, which turn it into an error of their own. A list and no threading.Event,
    # whose lock a second signal would find taken.
    caught: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        caught.append(number)

    before = {number: signal.signal(number, interrupt) for number in SIGNALS}
    try:
        if deterministic_command.wanted(args):
            status = _run_steps(args, lambda: bool(caught))
        else:
            status = _run(args, node_command, lambda: bool(caught))
    except KeyboardInterrupt:
        status = 130
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if caught:
        print("pi0_replay: interrupted", file=sys.stderr)
        status = 130
    return status


def _run(
    args: argparse.Namespace, node_command: Sequence[str], interrupted: Callable[[], bool]
) -> int:
    try:
        report = replay(
            args.bag,
            args.checkpoint,
            args.out,
            rate=args.rate,
            params=args.params,
            ros_args=args.ros_args,
            remaps=args.remap,
            enable=args.enable,
            overwrite=args.overwrite,
            startup_limit=args.startup_limit,
            node_command=node_command,
            interrupted=interrupted,
        )
        # The figures first: a file that cannot be written must not cost them.
        print(format_table(report))
        if args.json:
            args.json.write_text(json.dumps(report_json(report), indent=2) + "\n")
    except (BagError, ArgumentsError, NodeError, OSError) as error:
        print(f"pi0_replay: {error}", file=sys.stderr)
        return 1
    results = [args.out / name for name in ("bag", "node.log", "chunks.png")]
    print(f"results: {', '.join(str(path) for path in results if path.exists())}")
    if not report.chunks:
        print(
            f"pi0_replay: no chunk came. {args.out / 'node.log'} says what the node did; the table "
            "above, what it refused.",
            file=sys.stderr,
        )
        return 1
    return 0


def _run_steps(args: argparse.Namespace, interrupted: Callable[[], bool]) -> int:
    try:
        return deterministic_command.run(args, interrupted)
    except (BagError, ArgumentsError, ContractError, LoadError, NodeError, OSError) as error:
        print(f"pi0_replay: {error}", file=sys.stderr)
        return 1
    except (GoldenError, UrdfError) as error:
        print(f"pi0_replay --check: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
