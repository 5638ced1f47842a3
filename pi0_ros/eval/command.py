"""pi0 eval: holds a policy's chunks against what the robot of rosbag2 recordings did: error per
joint and per step ahead, smoothness, times.
"""

from __future__ import annotations

import argparse
import os
import platform
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from pi0_ros import console
from pi0_ros.replay.command import RECORDING_HELP, add_episodes, add_remap, add_target, episodes_of

if TYPE_CHECKING:
    from pi0_ros.eval.evaluate import Job

EPILOG = """\
Each recording is stepped through as `pi0 replay --deterministic` does it; needs no ROS. Step i of a
chunk is held against the joint (i + 1) * action_dt after the observation. A policy that is good in
closed loop may still differ from what one person did; one that is worse than standing still has
learned nothing.

A LeRobot data set (v2.1, v3) is evaluated by episodes. Its cameras are those of the same names, the
unit of its state is the checkpoint's (joint.<name>.scale, .offset). `--target action` compares with
the recorded actions, of which one is due a period after its frame.

Exit status 1 also when a recording could not be evaluated.

examples:
  pi0 eval demo_bag --checkpoint demo_checkpoint --params demo.yaml --html eval.html
  pi0 eval day1 day2 --checkpoint my_pi0 --params my_arm.yaml --jobs 4 \\
      --remap /camera/color/image_raw:=/front/image_raw --target /leader/joint_states
  pi0 eval my_data_set --episodes 0,3-5 --checkpoint my_pi0 --params my_arm.yaml --target action
"""


JSON_KEYS = {
    "recordings": "for each: `recording`, and `problem` if it could not be evaluated, or the keys"
    " below",
    "duration_s, compared_with, instructions": "seconds played, the topic compared with, the tasks",
    "refused, refused_after_first_second": "reason -> observations",
    "all": "the keys below, of all recordings together",
    "chunks, steps_compared": "chunks; joint positions that the recordings tell",
    "mean_abs, rms, holding_mean_abs": "error, the last of standing still; null where joints have"
    " several units",
    "units": "unit (`rad`, `m`) -> the same of its joints",
    "joints": "joint -> the same, `max` and `unit`",
    "horizon": "`seconds` ahead of each step, `mean_abs` and `holding_mean_abs` there, and"
    " `joints`: joint -> mean error of each step",
    "smoothness": "joint -> `jerk_rms` and `recorded_jerk_rms`, unit/s^3; `boundary_step`: `p50`,"
    " `p95`, `max` from a chunk's beginning to where its predecessor wants to be then",
    "wall": "`inference_ms`: `p50`, `p95`, `max`; the one thing that differs from run to run",
    "failed": "recordings that could not be evaluated",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("bags", metavar="BAG", nargs="+", type=Path, help=RECORDING_HELP)
    console.add_checkpoint(parser)
    console.add_params(parser)
    add_remap(parser)
    add_episodes(parser)
    add_target(parser)
    console.add_json(parser)
    add("--html", metavar="FILE", type=console.output_file, help="also write a page with plots")
    text = "processes; each loads the policy"
    console.add_number(parser, "--jobs", "N", console.count(1), 1, text)
    text = (
        "of each inference on a CPU (default: the parameter `threads`; where that is 0, all cores"
        " for one recording, 1 for several)"
    )
    add("--threads", metavar="N", type=console.count(1), help=text)
    text = "evaluate as Ray tasks: host:port, auto, or local for one on this machine"
    add("--ray", metavar="ADDRESS", default="", help=text)
    console.add_ros_args(parser)


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    if args.ray and args.jobs > 1:
        parser.error("--jobs and --ray: one of the two")


def make_jobs(args: argparse.Namespace) -> list[Job]:
    """One job per recording, or episode of a data set.

    Raises:
        ArgumentsError: parameters that the node would not take.
        OSError: there is no checkpoint or parameter file.
    """
    from pi0_ros.eval.evaluate import Job
    from pi0_ros.node.interface import read_interface
    from pi0_ros.replay.case import node_arguments

    arguments = node_arguments(args.checkpoint, args.params, args.ros_args)
    parameters = read_interface(arguments).parameters
    # A bag is one part without a number.
    parts = [(b, n) for b in args.bags for n in episodes_of(b, args.episodes) or [None]]
    several = len(parts) > 1
    threads = args.threads or parameters.threads or (1 if several else os.cpu_count() or 1)
    return [
        Job(
            bag=str(bag.resolve()),
            name=str(bag) if number is None else f"{bag}, episode {number}",
            episode=number,
            ros_args=tuple(arguments),
            remaps=tuple(args.remap.items()),
            target=args.target,
            threads=threads,
            drawn=args.html is not None,
        )
        for bag, number in parts
    ]


def _versions() -> str:
    names = [name for name in ("pi0_ros", "torch", "numpy") if console.is_installed(name)]
    shown = [f"{name} {metadata.version(name)}" for name in names]
    return f"{', '.join(shown)}, Python {platform.python_version()} on {platform.machine()}"


def run(args: argparse.Namespace) -> int:
    from pi0_ros.eval.many import evaluate_all
    from pi0_ros.eval.report import evaluation_json, format_evaluation

    if args.html is not None:
        console.require("matplotlib")  # found out before hours of inference, not after
    results = evaluate_all(make_jobs(args), args.jobs, args.ray)
    document = evaluation_json(results)
    print(format_evaluation(document))
    console.write_json(args.json, document)
    if args.html is not None:
        from pi0_ros.eval.page import page

        params = ", ".join(map(str, args.params)) or "of --ros-args"
        target = args.target or "the joint states after each observation"
        note = f"Checkpoint {args.checkpoint}, parameters {params}; compared with {target}."
        made = f"Made on {datetime.now().astimezone():%Y-%m-%d %H:%M %Z} by {_versions()}."
        args.html.parent.mkdir(parents=True, exist_ok=True)
        text = page(document, results, "pi0 against recordings", [note, made])
        console.write_text(args.html, text)
        print(f"page: {args.html}")
    return console.FAILED if document["failed"] else console.DONE
