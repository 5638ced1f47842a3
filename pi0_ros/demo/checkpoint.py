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
    """The options of the command."""
    add = parser.add_argument
    add("directory", metavar="DIR", type=Path, help="directory of the checkpoint")
    add("--model", choices=VARIANTS, default="pi0", help="which (default: pi0)")
    add(
        "--size",
        choices=("tiny", "full"),
        default="tiny",
        help="tiny (3 MB), or the published model of 3.5 billion parameters (default: tiny)",
    )
    add(
        "--dtype",
        choices=("float32", "bfloat16"),
        default="float32",
        help="of the weights (default: float32)",
    )
    add("--seed", type=int, default=0, metavar="N", help="of the weights (default: 0)")
    console.add_overwrite(parser)
    console.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Write it."""
    import torch

    from pi0_ros.checkpoint.directory import CONFIG
    from pi0_ros.checkpoint.random import write_random_checkpoint
    from pi0_ros.checkpoint.tensors import WEIGHTS
    from pi0_ros.model.config import PI05, TINY, TINY_PI05, Pi0Config

    folder = console.claim_folder(args.directory, [CONFIG, WEIGHTS], args.overwrite)
    config = {
        "pi0": {"tiny": TINY, "full": Pi0Config()},
        "pi05": {"tiny": TINY_PI05, "full": PI05},
    }[args.model][args.size]
    write_random_checkpoint(folder, config, seed=args.seed, dtype=getattr(torch, args.dtype))
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{folder}: {args.model} {args.size}, {args.dtype}, {size / 1e6:.1f} MB, random weights")
    figures = {
        "path": str(folder),
        "model": args.model,
        "size": args.size,
        "dtype": args.dtype,
        "seed": args.seed,
    }
    console.write_json(args.json, {**figures, "size_bytes": size})
    return console.DONE
