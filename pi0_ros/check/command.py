"""pi0 check: whether a device computes pi0 correctly here, and how fast.

For the owner of a card that this project has never seen: one command, one file to send back. It
compares each kernel, at the model's real shapes, and the whole model with float32 on the CPU, looks
for values that are not finite, and measures time and memory of each way to run the model. Rows are
printed as they come; those that do not fit into --budget are left out and named. Without
--checkpoint the weights are random; the size of real activations is then not tried.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pi0_ros import console
from pi0_ros.model.config import VARIANTS

if TYPE_CHECKING:
    from pi0_ros.check.runner import Row

EPILOG = """\
exit status: 1 if a kernel or the model is wrong or something could not be run, 0 otherwise, also
where rows were left out."""

JSON_KEYS = {
    "time, device, kind, dtype, model, size, cameras, checkpoint": "what was checked, and when",
    "facts": "versions, chip, memory",
    "budget_s": "seconds that it was given",
    "rows": "each `group`, `name`, `status` (ok, FAILED, measured, left out), `seconds`, `text`, "
    "and `figures`: differences, cosines; times in seconds, memory in bytes",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add, choice = parser.add_argument, partial(console.add_choice, parser)
    number = partial(console.add_number, parser)
    add("--device", default="auto", help="auto, cpu, cuda, npu, with :N or not (default: auto)")
    text = "to compute in (default: bfloat16, on a CPU float32)"
    add("--dtype", choices=("float32", "bfloat16"), help=text)
    console.add_checkpoint(parser, required=False)
    choice("--model", VARIANTS, "without --checkpoint")
    text = "without --checkpoint; full: 3.5 billion parameters, 16 GB of host memory for the "
    choice("--size", ("tiny", "full"), f"{text}comparison", "full")
    number("--cameras", "N", console.count(1), 2, "images")
    number("--budget", "SECONDS", console.count(1), 900, "time for all rows")
    text = "time only the first N ways to run the model (default: all)"
    add("--ways", type=console.count(), metavar="N", help=text)
    console.add_out(parser, "pi0_check")
    console.add_json(parser)


def _first_ways(rows: Iterable[Row], most: int | None) -> Iterator[Row]:
    """All rows but those of the ways beyond the first ones."""
    ways = 0
    for row in rows:
        ways += row.group == "speed"
        if most is None or row.group != "speed" or ways <= most:
            yield row


def run(args: argparse.Namespace) -> int:
    """Check, and tell the result."""
    import importlib
    import time

    from pi0_ros.check.runner import ARCHIVE, JSON, RAW, Runner, now
    from pi0_ros.check.subject import find_subject

    out = args.out or Path("pi0_check")
    folder = console.claim_folder(out, [JSON, ARCHIVE, RAW], args.overwrite)
    subject = find_subject(args, folder / RAW)
    rows = importlib.import_module(f"pi0_ros.check.{subject.kind}")
    facts = rows.describe(subject.device)
    print(console.table(facts.items()), flush=True)
    known = {"time": now(), **subject.described(), "facts": facts}
    runner = Runner(folder, known, args.budget, time.monotonic)
    try:
        runner.run(_first_ways(rows.rows(subject), args.ways))
    finally:
        runner.write()
        archive = runner.pack()
    console.write_json(args.json, runner.document)
    print()
    if runner.left_out:
        print(f"left out for want of time: {', '.join(runner.left_out)}")
    print(f"FAILED: {', '.join(runner.failed)}" if runner.failed else "nothing failed")
    print(f"results: {archive}")
    return console.FAILED if runner.failed else console.DONE
