"""Try the faults on the node for as long as asked, and write down what came of it.

First what needs a node of its own: life cycles, checkpoints, a full disk, signals, the policy's own
process, its server, /clock. Then one node runs for DURATION: half of it or another share is
undisturbed, the rest goes through all faults in an order drawn by the seed, again and again.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import random
import re
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from pi0_ros.console import write_json
from support.faults import table
from support.faults.checkpoints import (
    SMALLEST,
    can_make_a_disk,
    try_checkpoint,
    try_full_disk,
    write_checkpoint,
)
from support.faults.faults import CLOCK, ON_WALL_TIME, PROCESS, SERVER
from support.faults.growth import Sample, as_dicts, judge_growth, run_quietly
from support.faults.scenarios import (
    in_two_processes,
    on_a_server,
    on_sim_time,
    on_wall_time,
    try_all,
)
from support.faults.shutdowns import try_shutdowns
from support.faults.testbed import Testbed
from support.faults.trial import Result, try_fault
from support.waiting import NotWithin

DDS_BUFFERS = 60.0
"""MB by which rounds of all faults may differ.

Fast DDS keeps the buffers of a topic's messages, each as large as the largest message that it ever
held (PREALLOCATED_WITH_REALLOC): 24 MB with 4K images, one to three of them, as messages overlap.
"""

ALONE = ((in_two_processes, PROCESS), (on_a_server, SERVER), (on_sim_time, CLOCK))
"""Nodes, and the faults that each goes through."""

SWEEPS = 5.0
"""Seconds in which the robot's images fall twice at every moment between two ticks."""


def seconds_of(text: str) -> float:
    """Seconds in `90`, `90s`, `10m` or `1.5h`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration; write 90s, 10m or 1h")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]


def try_alone(testbed: Testbed, cycles: int, only: str) -> Iterator[Result]:
    """What needs a node of its own.

    Args:
        only: a part of the names of the faults to try; "": all, and what is no fault besides.
    """
    if not only:
        yield from try_shutdowns(testbed)
    for node, faults in ALONE:
        if chosen := [fault for fault in faults if only in fault.name]:
            with node(testbed):
                yield from try_all(testbed, chosen)
    if only:
        return
    good = testbed.folder / "good"
    write_checkpoint(good)
    yield from try_checkpoint(testbed, good, cycles)
    if can_make_a_disk():
        smallest = testbed.folder / "smallest"
        write_checkpoint(smallest, **SMALLEST)
        yield try_full_disk(testbed, smallest)
        testbed.end_node()
    else:
        tqdm.write("not tried: a full disk (this user may not mount one in a namespace)")


def run_long(
    testbed: Testbed,
    quiet: float,
    faulty: float,
    seed: int,
    results: list[Result],
    only: str,
) -> dict[str, list[Sample]]:
    """One node: undisturbed, and then through the faults; what came is put into `results`.

    Args:
        quiet, faulty: seconds of each.
        seed: of the order.
        only: a part of the names of the faults to try; "": all.
    """
    runs: dict[str, list[Sample]] = {}
    with on_wall_time(testbed):
        if quiet > 0:
            blamed = len(testbed.judge.violations)
            name = f"{quiet / 60:.0f} minutes undisturbed"
            runs[name] = run_quietly(testbed, quiet)
            result = judge_growth(name, runs[name], rss_mb=10.0, latency_ms=5.0)
            result.problems += testbed.judge.violations[blamed:]
            results.append(result)
        samples, order = [], random.Random(seed)
        end = time.monotonic() + faulty
        with tqdm(desc="faults", unit="fault") as bar:
            while not samples or time.monotonic() < end:
                faults = [fault for fault in ON_WALL_TIME if only in fault.name]
                order.shuffle(faults)
                for fault in faults:
                    bar.set_postfix_str(fault.name)
                    results.append(try_fault(testbed, fault))
                    bar.update()
                    if not results[-1].survived:
                        tqdm.write(f"NOT SURVIVED: {results[-1].name}: {results[-1].problems}")
                    if samples and time.monotonic() > end:
                        break
                samples += run_quietly(testbed, SWEEPS, SWEEPS)
        name = f"{len(samples)} rounds of {only or 'all faults'}, one process"
        runs[name] = samples
        results.append(judge_growth(name, samples, rss_mb=DDS_BUFFERS, latency_ms=10.0))
    return runs


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status: 0 if every trial was survived."""
    parser = argparse.ArgumentParser(prog="soak.py", description=__doc__)
    parser.add_argument("--duration", type=seconds_of, default=600.0, help="default: 10m")
    parser.add_argument(
        "--undisturbed", type=float, default=0.5, metavar="SHARE", help="of it (default: 0.5)"
    )
    parser.add_argument("--cycles", type=int, default=1000, help="life cycles (default: 1000)")
    parser.add_argument("--seed", type=int, default=0, help="of the order of the faults")
    parser.add_argument(
        "--only",
        default="",
        metavar="TEXT",
        help="faults whose name has it; those that need no node of their own again and again",
    )
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table into this file")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write results and figures")
    args = parser.parse_args(argv)
    faults = (*ON_WALL_TIME, *PROCESS, *SERVER, *CLOCK)
    if not any(args.only in fault.name for fault in faults):
        names = "; ".join(fault.name for fault in faults)
        parser.error(f"--only: no fault has {args.only!r} in its name: {names}")
    results: list[Result] = []
    runs: dict[str, list[Sample]] = {}
    begun = time.monotonic()
    # SIGTERM ends it as Ctrl-C does: the node and the robot must not stay behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="pi0_soak_") as folder:
        testbed = Testbed(Path(folder))
        try:
            for result in try_alone(testbed, args.cycles, args.only):
                results.append(result)
                tqdm.write(f"{'survived' if result.survived else 'NOT SURVIVED'}: {result.name}")
            quiet = 0.0 if args.only else args.duration * args.undisturbed
            faulty = args.duration - quiet
            if any(args.only in fault.name for fault in ON_WALL_TIME):
                runs = run_long(testbed, quiet, faulty, args.seed, results, args.only)
        except NotWithin as error:
            results.append(Result("the suite itself", problems=[str(error)]))
        finally:
            testbed.close()
        judged = testbed.judge
    for result in results:
        result.diagnosis = result.diagnosis.replace(folder, "DIR")  # a name that chance drew
    print(table.text(results))
    for result in results:
        for problem in result.problems:
            print(f"\nNOT SURVIVED: {result.name}: {problem}")
    taken = time.monotonic() - begun
    facts = {
        "date": datetime.date.today().isoformat(),
        "minutes": round(taken / 60, 1),
        "duration_s": args.duration,
        "cycles": args.cycles,
        "seed": args.seed,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "ros": os.environ.get("ROS_DISTRO", "ros-jazzy wheels"),
        "python": platform.python_version(),
        "trajectories_judged": judged.judged,
        "arm_steps_judged": judged.steps,
        "violations": len(judged.violations),
        "violation_texts": judged.violations,
    }
    samples = {name: as_dicts(run) for name, run in runs.items()}
    document = {**facts, "samples": samples, "results": [asdict(result) for result in results]}
    write_json(args.json, document)
    if args.write:
        table.write_markdown(args.write, f"{_sentence(facts)}\n\n{table.markdown(results)}")
    return 0 if all(result.survived for result in results) else 1


def _sentence(facts: dict[str, object]) -> str:
    return (
        f"Run on {facts['date']} in {facts['minutes']} minutes on {facts['machine']}, Python"
        f" {facts['python']}: {facts['trajectories_judged']:,} trajectories and"
        f" {facts['arm_steps_judged']:,} steps of the arm judged, {facts['violations']} unsafe."
    )


if __name__ == "__main__":
    sys.exit(main())
