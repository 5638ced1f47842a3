"""pi0 convert: write a checkpoint of any format as one directory that holds all a robot needs.

The new directory has the weights in the dtype that is computed in, with an adapter (LoRA) merged
into them; statistics, cameras and rules of the original format as plain numbers; the tokenizer;
and, with --params, the joints' names and units, the pace and the meaning of the actions. A model
that computes in that dtype is the same from both directories, bit for bit. Weights are written
tensor by tensor: no more memory is needed than the largest tensor takes.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pi0_ros import console
from pi0_ros.errors import UserError

if TYPE_CHECKING:
    from pi0_ros.checkpoint.checkpoint import Checkpoint
    from pi0_ros.checkpoint.native import Declarations
    from pi0_ros.node.parameters import NodeParameters

EPILOG = """\
examples:
  pi0 convert my_pi0 my_pi0_bf16
  pi0 convert lora robot_pi0 --base-checkpoint pi0_base --tokenizer paligemma --params my_arm.yaml
"""

JSON_KEYS = {
    "checkpoint, out, dtype": "what was written, from what",
    "made_from": "format of the checkpoint",
    "size_before, size": "bytes of the weights",
    "tokenizer": "whether the directory has one",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add = parser.add_argument
    add("source", metavar="CHECKPOINT", type=Path, nargs="?", help="checkpoint directory")
    add("target", metavar="OUT", type=Path, nargs="?", help="directory of the new checkpoint")
    console.add_checkpoint(parser, required=False)
    console.add_out(parser)
    add(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        default="bfloat16",
        help="that the weights get (default: bfloat16)",
    )
    add("--base-checkpoint", metavar="DIR", type=Path, help="what an adapter was trained on")
    add(
        "--asset",
        metavar="ID",
        default="",
        help="openpi: which statistics, where there are several",
    )
    add(
        "--horizon",
        metavar="N",
        type=console.count(1),
        default=0,
        help="openpi without config.json",
    )
    add("--tokenizer", metavar="PATH", type=Path, help="where the checkpoint brings none")
    console.add_params(parser)
    console.add_json(parser)


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Both directories are needed, each given once."""
    for place, option in (("source", "checkpoint"), ("target", "out")):
        given = [value for value in (getattr(args, place), getattr(args, option)) if value]
        if len(given) != 1:
            parser.error("give CHECKPOINT and OUT, or --checkpoint and --out")
        setattr(args, option, given[0])


def run(args: argparse.Namespace) -> int:
    """Convert, and say what became of it."""
    import torch

    from pi0_ros.checkpoint.convert import convert, tokenizer_files
    from pi0_ros.checkpoint.formats import ReadOptions, read_checkpoint

    parameters = _parameters(args)
    base = args.base_checkpoint or (parameters and parameters.base_checkpoint)
    options = ReadOptions(
        base=str(Path(base).expanduser()) if base else "",
        asset=args.asset or (parameters.asset if parameters else ""),
        horizon=args.horizon or (parameters.horizon if parameters else 0),
    )
    tokenizer = args.tokenizer or (parameters and parameters.tokenizer)
    # A broken one must not cost what is in --out.
    read = read_checkpoint(args.checkpoint, options=options)
    read, declared = _declared(read, parameters)
    places = [Path(tokenizer).expanduser()] if tokenizer else [read.path, read.path / "tokenizer"]
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


def _declared(
    read: Checkpoint, parameters: NodeParameters | None
) -> tuple[Checkpoint, Declarations]:
    """What is known about the robot: by the parameters, otherwise by the checkpoint's files."""
    from pi0_ros.checkpoint.metadata import read_declared
    from pi0_ros.checkpoint.native import Declarations

    found = read_declared(read.path, read.joints)
    if parameters is None:
        units = found.unit_scale, found.unit_offset
        return read, Declarations(found.joints, found.fps, *units)
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
    return read, Declarations(
        parameters.joint_names,
        1 / parameters.action_dt,
        tuple(joint.scale for joint in parameters.joints),
        tuple(joint.offset for joint in parameters.joints),
    )
