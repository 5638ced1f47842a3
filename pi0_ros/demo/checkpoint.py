"""pi0 demo checkpoint: a checkpoint with random weights and a small tokenizer, to try things with.

It has the format of LeRobot 0.4 and is for an SO-101 arm with a front and a wrist camera. Its
actions mean nothing.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pi0_ros import console
from pi0_ros.model.config import VARIANTS

JSON_KEYS = {
    "path, model, size, dtype, seed": "what was written",
    "size_bytes": "of all files together",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", type=Path, help="directory of the checkpoint")
    console.add_choice(parser, "--model", VARIANTS, "which")
    sizes = "tiny (3 MB), or the published model of 3.5 billion parameters"
    console.add_choice(parser, "--size", ("tiny", "full"), sizes)
    console.add_choice(parser, "--dtype", ("float32", "bfloat16"), "of the weights")
    console.add_number(parser, "--seed", "N", int, 0, "of the weights")
    console.add_overwrite(parser)
    console.add_json(parser)


def run(args: argparse.Namespace) -> int:
    import torch

    from pi0_ros.checkpoint.directory import CONFIG
    from pi0_ros.checkpoint.random import JOINTS, write_random_checkpoint
    from pi0_ros.checkpoint.tensors import WEIGHTS
    from pi0_ros.model.config import PI05, TINY, TINY_PI05, Pi0Config

    folder = console.claim_folder(args.directory, [CONFIG, WEIGHTS], args.overwrite)
    config = {
        "pi0": {"tiny": TINY, "full": Pi0Config()},
        "pi05": {"tiny": TINY_PI05, "full": PI05},
    }[args.model][args.size]
    # The gripper of `pi0 demo bag` is turned; the doctor compares the bag with these statistics.
    joints = {**JOINTS, "wrist_roll": (-1.6, 0.3)}
    dtype = getattr(torch, args.dtype)
    write_random_checkpoint(folder, config, seed=args.seed, dtype=dtype, joints=joints)
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{folder}: {args.model} {args.size}, {args.dtype}, {size / 1e6:.1f} MB, random weights")
    given = {name: getattr(args, name) for name in ("model", "size", "dtype", "seed")}
    console.write_json(args.json, {"path": str(folder), **given, "size_bytes": size})
    return console.DONE
