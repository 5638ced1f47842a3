"""pi0 convert: write a checkpoint of any format as one directory that holds all a robot needs; or
bags as a LeRobot data set to train with.

Of a checkpoint: the new directory has the weights in the dtype that is computed in, with an
adapter (LoRA) merged into them; statistics, cameras and rules of the original format as plain
numbers; the tokenizer; and, with --params, the joints' names and units, the pace and the meaning of
the actions. A model
that computes in that dtype is the same from both directories, bit for bit. Weights are written
tensor by tensor: no more memory is needed than the largest tensor takes.

Of bags: a data set of version 3.0. Its frames are what the node would observe, in the checkpoint's
units (joint.<name>.scale, .offset), at the pace of `action_dt`. An episode ends with its bag, with
another instruction, and where an observation is missing, stale or otherwise refused.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pi0_ros import console
from pi0_ros.errors import UserError
from pi0_ros.replay.command import add_remap, add_target
from pi0_ros.share import user_path

if TYPE_CHECKING:
    from pi0_ros.checkpoint.checkpoint import Checkpoint
    from pi0_ros.checkpoint.metadata import Declared
    from pi0_ros.node.parameters import NodeParameters

EPILOG = """\
examples:
  pi0 convert my_pi0 my_pi0_bf16
  pi0 convert lora robot_pi0 --base-checkpoint pi0_base --tokenizer paligemma --params my_arm.yaml
  pi0 convert day1 day2 my_data_set --params my_arm.yaml --target /leader/joint_states
"""

JSON_KEYS = {
    "checkpoint, out, dtype": "what was written, from what",
    "made_from": "format of the checkpoint",
    "size_before, size": "bytes of the weights",
    "tokenizer": "whether the directory has one",
    "data_set, fps, frames, episodes": "of bags: what was written; episodes as (bag, task, frames)",
    "short": "of bags: episodes that were left out because they are too short",
    "refused": "of bags: reason -> frames left out",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "paths",
        metavar="PATH",
        type=Path,
        nargs="*",
        help="CHECKPOINT OUT, or BAG ... DATASET: what is converted, and the directory to write",
    )
    console.add_checkpoint(parser, required=False)
    console.add_out(parser)
    dtypes = ("float32", "bfloat16", "float16")
    console.add_choice(parser, "--dtype", dtypes, "that the weights get", "bfloat16")
    add("--base-checkpoint", metavar="DIR", type=Path, help="what an adapter was trained on")
    text = "openpi: which statistics, where there are several"
    add("--asset", metavar="ID", default="", help=text)
    text = "openpi without config.json"
    add("--horizon", metavar="N", type=console.count(1), default=0, help=text)
    add("--tokenizer", metavar="PATH", type=Path, help="where the checkpoint brings none")
    console.add_params(parser)
    console.add_json(parser)
    group = parser.add_argument_group("of bags")
    add = group.add_argument
    add_remap(group)
    add_target(group)
    add("--fps", metavar="N", type=console.count(1), help="frames a second (default: 1/action_dt)")
    console.add_number(group, "--least", "S", float, 1.0, "seconds that an episode must have")
    add("--robot", metavar="NAME", default="", help="kind of the robot, as LeRobot calls it")
    console.add_ros_args(parser)


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Sources and result are needed, each given once."""
    paths = list(args.paths)
    if args.out is None and paths:
        args.out = paths.pop()
    if args.checkpoint is not None:
        paths.append(args.checkpoint)
    if args.out is None or not paths or (args.checkpoint is not None and len(paths) > 1):
        parser.error("give CHECKPOINT and OUT, or --checkpoint and --out; or BAG ... and DATASET")
    args.sources = paths


def run(args: argparse.Namespace) -> int:
    from pi0_ros.convert.bags import are_bags

    if are_bags(args.sources):
        return _run_bags(args)
    if len(args.sources) > 1:
        names = ", ".join(map(str, args.sources))
        raise UserError(f"{names}: no rosbag2 recordings; a checkpoint is converted alone")
    args.checkpoint = args.sources[0]
    return _run_checkpoint(args)


def _run_bags(args: argparse.Namespace) -> int:
    from pi0_ros.convert.bags import check_pace, write_episodes
    from pi0_ros.datasets.writer import DataSetWriter
    from pi0_ros.node.arguments import write_arguments
    from pi0_ros.node.interface import read_interface
    from pi0_ros.replay.case import open_case

    if not args.params:
        raise UserError("bags are converted for a robot: give its parameter file as --params")
    # The node asks for a checkpoint, which is not read here.
    arguments = [*write_arguments(args.params), *args.ros_args]
    arguments += write_arguments(parameters={"checkpoint": "none", "recorded_arm": True})
    parameters = read_interface(arguments).parameters
    fps = check_pace(parameters.action_dt, args.fps)
    cases = [open_case(bag, arguments, args.remap) for bag in args.sources]
    console.claim_folder(args.out, ["data", "videos", "meta"], args.overwrite)
    writer = DataSetWriter(args.out, fps, parameters.joint_names, args.robot)
    least = max(1, round(args.least * fps))
    results = [
        write_episodes(case, writer, args.target, least)
        for case in console.progress(cases, desc="Converting")
    ]
    writer.close()
    rows = [(r.bag, task, frames) for r in results for task, frames in r.episodes]
    refused = sum((r.refused for r in results), Counter())
    figures = {
        "data_set": str(args.out),
        "fps": fps,
        "frames": sum(writer.lengths),
        "episodes": rows,
        "short": sum(r.short for r in results),
        "refused": dict(refused),
    }
    print(console.table(rows, ("bag", "task", "frames"), "<<>"))
    print(f"{args.out}: {len(rows)} episodes, {figures['frames']} frames at {fps} Hz")
    if figures["short"]:
        print(f"{figures['short']} episodes shorter than {args.least:g} s were left out")
    for reason, count in refused.most_common():
        print(f"{count} frames were left out: {reason}")
    console.write_json(args.json, figures)
    if rows:
        return console.DONE
    console.warn("no episode: `pi0 doctor --bag BAG --params FILE` says what is wrong with a bag")
    return console.FAILED


def _run_checkpoint(args: argparse.Namespace) -> int:
    import torch

    from pi0_ros.checkpoint.convert import convert, tokenizer_files
    from pi0_ros.checkpoint.formats import ReadOptions, read_checkpoint

    parameters = _parameters(args)
    base = args.base_checkpoint or (parameters and parameters.base_checkpoint)
    options = ReadOptions(
        base=str(user_path(base)) if base else "",
        asset=args.asset or (parameters.asset if parameters else ""),
        horizon=args.horizon or (parameters.horizon if parameters else 0),
    )
    tokenizer = args.tokenizer or (parameters and parameters.tokenizer)
    # A broken one must not cost what is in --out.
    read = read_checkpoint(args.checkpoint, options=options)
    read, declared = _declared(read, parameters)
    places = [user_path(tokenizer)] if tokenizer else [read.path, read.path / "tokenizer"]
    words = tokenizer_files(places)
    if tokenizer and not words:
        raise UserError(f"{tokenizer} has no tokenizer")
    out = args.out.resolve()
    for source in filter(None, (str(args.checkpoint), options.base)):
        folder = Path(source).resolve()
        if folder == out or folder in out.parents or out in folder.parents:
            raise UserError(f"{args.out} and {source} lie in each other: choose another --out")
    results = ["config.json", "model.safetensors", *(name for name, _ in words)]
    console.claim_folder(args.out, results, args.overwrite)
    size = convert(read, args.out, getattr(torch, args.dtype), declared, words)
    figures = {
        "checkpoint": str(args.checkpoint),
        "out": str(args.out),
        "dtype": args.dtype,
        "made_from": read.format,
        "size_before": read.tensors.nbytes,
        "size": size,
        "tokenizer": bool(words),
    }
    print(f"{args.out}: {read.format} checkpoint, weights in {args.dtype}")
    print(f"{figures['size_before'] / 1e6:.1f} MB before, {size / 1e6:.1f} MB now")
    if not words:
        console.warn("no tokenizer was found: give --tokenizer, or set the node's parameter")
    console.write_json(args.json, figures)
    return console.DONE


def _parameters(args: argparse.Namespace) -> NodeParameters | None:
    if not args.params:
        return None
    from pi0_ros.node.arguments import write_arguments
    from pi0_ros.node.interface import read_interface

    given = {"checkpoint": str(args.checkpoint)}
    if args.tokenizer:
        given["tokenizer"] = str(args.tokenizer)
    return read_interface(write_arguments(args.params, given)).parameters


def _declared(read: Checkpoint, parameters: NodeParameters | None) -> tuple[Checkpoint, Declared]:
    """What is known about the robot: by the parameters, otherwise by the checkpoint's files."""
    from pi0_ros.checkpoint.metadata import Declared, read_declared

    found = read_declared(read.path, read.joints)
    if parameters is None:
        return read, found
    from pi0_ros.node.preflight_checkpoint import checkpoint_problems, policy_arguments
    from pi0_ros.policy.compatibility import prompt_state

    arguments = policy_arguments(parameters)
    problems = checkpoint_problems(parameters, read, None)
    if problems:
        raise UserError("the parameters do not fit the checkpoint:\n  - " + "\n  - ".join(problems))
    if read.action_mode is None:
        mask = arguments["delta_mask"]
        read = replace(
            read,
            action_mode=arguments["action_mode"],
            delta_mask=None if mask is None else tuple(mask),
        )
    read = replace(read, prompt_state=prompt_state(read, arguments["discrete_state_input"]))
    return read, Declared(
        joints=parameters.joint_names,
        fps=1 / parameters.action_dt,
        unit_scale=tuple(joint.scale for joint in parameters.joints),
        unit_offset=tuple(joint.offset for joint in parameters.joints),
    )
