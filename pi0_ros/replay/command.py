"""pi0 replay: plays a rosbag2 recording to the pi0 node over DDS, records the action chunks that it
publishes, and prints how many there are, how old and how fast.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any

from pi0_ros import console
from pi0_ros.diff.command import add_thresholds, check_thresholds
from pi0_ros.errors import UserError

EPILOG = """\
The node runs as a process of its own with use_sim_time, in a ROS domain of its own on the loopback
(unless ROS_DOMAIN_ID is set). It gets /clock and the topics that its parameters name, nothing else.
DIR/bag holds what it published, DIR/chunks.png shows the predicted joint paths, DIR/node.log has
its output.

With --deterministic there is neither a node nor DDS nor ROS: the recording is stepped through in
this process, and the same inputs give the same files to the byte. `pi0 diff A B` compares the
results of two replays; --record-golden and --check do so in a test.

Exit status 1 also when no chunk came, or when one differs from those of --check.

example: pi0 replay demo_bag --checkpoint demo_checkpoint --params pi0.yaml --json figures.json
"""

JSON_KEYS = {
    "recording, rate, duration_s": "what was played, its pace (null: deterministic), its length",
    "frames, frames_per_camera": "images played, together and by topic in the recording",
    "chunks, trajectories": "messages on ~/action_chunk that were not rejected, and"
    " trajectories sent to the controllers, which need `--enable`",
    "points_per_chunk, points_per_chunk_max": "least and most steps of a chunk",
    "age_ms": "`p50`, `p95`: from the newest image's stamp to publication, in the bag's time, of"
    " the chunks that came before its end",
    "inference_ms": "`p50`, `p95`: wall time of the policy, all stages",
    "ticks, busy_ticks": "timer ticks, and those that found the previous inference running",
    "refused": "reason -> observations refused",
    "refused_after_first_second": "the same without the first second, in which streams begin",
    "max_lateness_ms": "how late the player sent a message at most",
    "warnings": "sentences about the recording or this machine",
    "check": "with `--check`: the keys of `pi0 diff`, and the two below",
    "check.changed": "sentences: inputs that are not those of the golden replay",
    "check.versions": "sentences: versions, processor or threads that are not",
}

GOLDEN_JOINT = 1e-3
"""Radians by which a joint may differ from the golden replay: rounding on another machine differs
by some 1e-5 rad, a real change by more."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("bag", metavar="BAG", type=Path, help=RECORDING_HELP)
    console.add_checkpoint(parser)
    console.add_params(parser)
    console.add_out(parser, "BAG_replay")
    console.add_json(parser)
    add_remap(parser)
    add_episodes(parser)
    add("--rate", metavar="R", type=float, default=1.0, help="pace; 1 is as recorded (default)")
    text = "publish trajectories, which needs joint_limits or urdf; else chunks only"
    add("--enable", action="store_true", help=text)
    text = "seconds the node may take to load the checkpoint"
    console.add_number(parser, "--startup-limit", "S", float, 300.0, text)
    group = parser.add_argument_group("without ROS, step by step, the same results to the byte")
    add = group.add_argument
    add("--deterministic", action="store_true", help="step through the recording in this process")
    text = "seconds of the recording that an inference takes"
    console.add_number(group, "--latency", "S", float, 0.0, text)
    text = "compute the chunks of RESULTS again, each from its own observation and noise"
    add("--again", metavar="RESULTS", type=Path, help=text)
    add("--record-golden", metavar="DIR", type=Path, help="keep the results to compare with later")
    add("--check", metavar="DIR", type=Path, help="compare with the results kept in DIR")
    limits = parser.add_argument_group("what may differ from the results in DIR (--check)")
    add_thresholds(limits, GOLDEN_JOINT)
    console.add_ros_args(parser)


RECORDING_HELP = "rosbag2 directory (sqlite3 or MCAP), its file, or a LeRobot data set"


def add_remap(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """`--remap FROM:=TO`, which may be given again: a dict of the topics."""
    text = (
        "take the recorded topic (or feature of a data set) FROM for the node's topic TO; may be"
        " given again"
    )
    parser.add_argument("--remap", metavar="FROM:=TO", action=_Remap, default={}, help=text)


def add_target(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """`--target TOPIC`: what the robot was told to do."""
    text = (
        "take commands recorded on TOPIC (JointTrajectory or JointState; `action` of a data set)"
        " for what was done, not the joint states"
    )
    parser.add_argument("--target", metavar="TOPIC", default="", help=text)


def add_episodes(parser: argparse.ArgumentParser) -> None:
    text = "of a LeRobot data set, such as 0,3-5 (default: all)"
    parser.add_argument("--episodes", metavar="LIST", default="", help=text)


def episodes_of(recording: Path, episodes: str) -> list[int] | None:
    """The episodes to take of a data set; None of a bag, which has none.

    Raises:
        BagError: no such episodes, or `--episodes` with a bag.
    """
    from pi0_ros.bags.bag import BagError
    from pi0_ros.datasets.layout import chosen_episodes, is_data_set, open_data_set

    if is_data_set(recording):
        return chosen_episodes(open_data_set(recording), episodes)
    if episodes:
        raise BagError(f"--episodes: {recording} is no LeRobot data set (no meta/info.json in it)")
    return None


class _Remap(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, values: Any, _: str | None = None) -> None:
        source, separator, target = values.partition(":=")
        if not separator or not source or not target.startswith("/"):
            parser.error(
                f"--remap {values}: expected FROM:=TO, a recorded topic and an absolute topic name,"
                " such as /camera/color/image_raw:=/front/image_raw"
            )
        namespace.remap = {**namespace.remap, source: target}


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    check_thresholds(parser, args)
    if not 0 < args.rate < math.inf:
        parser.error(f"--rate: must be above 0 and finite, got {args.rate:g}")
    if not is_deterministic(args):
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
    if args.check and not (args.check / "golden.json").is_file():
        parser.error(f"--check {args.check} holds no golden replay; make one with --record-golden")


def is_deterministic(args: argparse.Namespace) -> bool:
    return bool(args.deterministic or args.record_golden or args.check)


def run(args: argparse.Namespace) -> int:
    return run_deterministic(args) if is_deterministic(args) else run_live(args)


def run_live(args: argparse.Namespace) -> int:
    from pi0_ros.replay.live import replay
    from pi0_ros.replay.report import format_table

    if episodes_of(args.bag, args.episodes) is not None:
        raise UserError(f"{args.bag} is a LeRobot data set: replay it with --deterministic")
    out = _out(args)
    with console.deferred_signals() as interrupted:
        figures = replay(args, out, interrupted)
    # The figures first: a file that cannot be written must not cost them.
    print(format_table(figures))
    console.write_json(args.json, figures)
    _print_results(out)
    if figures["chunks"]:
        return console.DONE
    print(
        f"no chunk came. The table above lists what was refused; {out / 'node.log'} is the node's"
        " log.",
        file=sys.stderr,
    )
    return console.FAILED


def run_deterministic(args: argparse.Namespace) -> int:
    from pi0_ros.bags.results import read_results
    from pi0_ros.replay import golden
    from pi0_ros.replay.case import check_case, load, node_arguments, open_case
    from pi0_ros.replay.deterministic import Options, replay_steps
    from pi0_ros.replay.report import format_table

    kept = golden.read_golden(args.check) if args.check else None
    out = args.record_golden or _out(args)
    if args.check and out.resolve() == args.check.resolve():
        raise UserError(f"--out {out} is the golden replay to compare with: choose another one")
    again = read_results(args.again) if args.again else None
    options = Options(args.enable, args.latency, again)
    arguments = node_arguments(args.checkpoint, args.params, args.ros_args, args.enable)
    case = open_case(args.bag, arguments, args.remap, _one_episode(args))
    check_case(case)
    policy = load(case.parameters)
    figures, played = replay_steps(
        case, policy, out, options, recording=str(args.bag), overwrite=args.overwrite
    )
    print(format_table(figures))
    status = console.DONE
    made_of = golden.ingredients(case.parameters, options, played)
    if not figures["chunks"]:
        print("no chunk came. The table above lists what was refused, and why.", file=sys.stderr)
        status = console.FAILED
    elif args.record_golden:
        golden.write_golden(out, made_of)
    elif kept is not None:
        status, figures["check"] = _compare(args, kept, made_of, out)
    console.write_json(args.json, figures)
    _print_results(out)
    return status


def _one_episode(args: argparse.Namespace) -> int | None:
    """The episode to replay, of a data set."""
    episodes = episodes_of(args.bag, args.episodes)
    if episodes is None:
        return None
    if len(episodes) > 1:
        raise UserError(
            f"a replay is of one episode; {args.bag} has {len(episodes)}: give --episodes N"
        )
    return episodes[0]


def _compare(
    args: argparse.Namespace, kept: dict[str, Any], made_of: dict[str, Any], out: Path
) -> tuple[int, dict[str, Any]]:
    """Compares with the golden results; returns the exit status and the figures."""
    from pi0_ros.bags.results import read_results
    from pi0_ros.diff.command import compare_results, thresholds
    from pi0_ros.diff.compare import DiffError, failures
    from pi0_ros.diff.report import difference_json, format_difference
    from pi0_ros.replay.golden import changes
    from pi0_ros.replay.results import DIFFERENCE

    limits = thresholds(args, GOLDEN_JOINT)
    inputs, versions = changes(kept, made_of)
    figures: dict[str, Any] = {"changed": inputs, "versions": versions}
    try:
        difference = compare_results(read_results(args.check), read_results(out), args)
    except DiffError as error:  # an input that changed may well be why
        print(f"beyond: {error}")
        problems = [str(error)]
        figures |= {"failures": problems, "passed": False}
    else:
        print(format_difference(difference, limits))
        problems = failures(difference, limits)
        figures |= difference_json(difference, limits)
        if console.is_installed("matplotlib"):
            from pi0_ros.diff.plot import plot_difference

            plot_difference(out / DIFFERENCE, difference, limits)
    for change in versions:
        print(f"note: {change}")
    for change in inputs:
        print(f"changed: {change}")
    if inputs:
        print(
            "The golden replay was made of something else: if that is meant, record it anew"
            " (--record-golden DIR --overwrite)."
        )
    return console.FAILED if inputs or problems else console.DONE, figures


def _out(args: argparse.Namespace) -> Path:
    """A plain name, not a path beside BAG: recordings often lie where one cannot write."""
    return args.out or Path(f"{args.bag.resolve().name}_replay")


def _print_results(out: Path) -> None:
    from pi0_ros.bags.results import FIGURES
    from pi0_ros.replay.results import BAG, DIFFERENCE, GOLDEN, LOG, PLOT

    paths = [out / name for name in (BAG, FIGURES, LOG, PLOT, DIFFERENCE, GOLDEN)]
    print(f"results: {', '.join(str(path) for path in paths if path.exists())}")
