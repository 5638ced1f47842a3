"""pi0 convert: write a checkpoint with its weights in another dtype.

LeRobot writes float32 by default: run in bfloat16, such a checkpoint has twice the bytes that are
needed, which every start reads and converts. The new directory holds all files of the checkpoint; a
model that computes in the new dtype is the same from both, bit for bit. It is written tensor by
tensor: no more memory is needed than the largest tensor takes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pi0_ros import console
from pi0_ros.errors import UserError

JSON_KEYS = {
    "checkpoint, out, dtype": "what was written, from what",
    "size_before, size": "bytes of the weights",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    console.add_checkpoint(parser)
    parser.add_argument(
        "--out", metavar="DIR", type=Path, required=True, help="directory of the new checkpoint"
    )
    console.add_overwrite(parser)
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        default="bfloat16",
        help="that the weights get (default: bfloat16)",
    )
    console.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Convert, and say how much smaller it became."""
    import torch

    from pi0_ros.checkpoint.convert import convert
    from pi0_ros.checkpoint.formats import read_checkpoint
    from pi0_ros.checkpoint.tensors import WEIGHTS

    read_checkpoint(args.checkpoint)  # a broken one must not cost what is in --out
    source, out = args.checkpoint.resolve(), args.out.resolve()
    if source == out or source in out.parents or out in source.parents:
        raise UserError(f"{args.out} and the checkpoint lie in each other: choose another --out")
    console.claim_folder(args.out, [path.name for path in source.iterdir()], args.overwrite)
    size = convert(args.checkpoint, args.out, getattr(torch, args.dtype))
    figures = {
        "checkpoint": str(args.checkpoint),
        "out": str(args.out),
        "dtype": args.dtype,
        "size_before": (args.checkpoint / WEIGHTS).stat().st_size,
        "size": size,
    }
    print(f"{args.out}: weights in {args.dtype}")
    print(f"{figures['size_before'] / 1e6:.1f} MB before, {size / 1e6:.1f} MB now")
    console.write_json(args.json, figures)
    return console.DONE
