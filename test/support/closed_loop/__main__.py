"""Play many episodes of every family, and write what came of them as a table.

PYTHONPATH=.:test python -m support.closed_loop --episodes 100 --write docs/reliability.md
"""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path

from benchmarks.page import machine, write_between
from pi0_ros import console
from support.closed_loop.episode import Outcome, play
from support.closed_loop.families import FAMILIES

MARK = "closed loop"


def row(family: str, outcomes: Sequence[Outcome]) -> str:
    """A line of the table."""
    verdicts = [outcome.verdict for outcome in outcomes]
    steps = max(verdict.step for verdict in verdicts) * 1e3
    most = max(verdict.acceleration for verdict in verdicts)
    outside = max(verdict.outside for verdict in verdicts) * 1e3
    latched = sum(bool(outcome.latches) for outcome in outcomes)
    recovered = [outcome.recovered for outcome in outcomes if outcome.recovered is not None]
    failed = sum(bool(outcome.problems) for outcome in outcomes)
    wanted = outcomes[0].conditions
    cells = (
        family,
        str(len(outcomes)),
        f"{steps:.1f}",
        f"{most:.2f}" if most < 10 else f"{most:.0f}",
        f"{outside:.1f}",
        f"{latched}{' (wanted)' if wanted.latch != 'never' else ''}",
        f"{sum(recovered)} of {len(recovered)}" if recovered else "",
        wanted.free or str(failed),
    )
    return "| " + " | ".join(cells) + " |"


def markdown(outcomes: dict[str, list[Outcome]]) -> str:
    """The table of docs/reliability.md."""
    head = (
        "condition",
        "episodes",
        "worst step beyond the limit, mrad",
        "worst acceleration, times the limit",
        "beyond a position limit, mrad",
        "latched",
        "moves again",
        "failed, or why that is not judged",
    )
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return "\n".join([*lines, *(row(family, played) for family, played in outcomes.items())])


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0 if all is as it should be, else 1."""
    parser = argparse.ArgumentParser(prog="support.closed_loop", description=__doc__)
    add = parser.add_argument
    add("--episodes", type=console.count(1), default=100, metavar="N", help="of each family")
    add("--first", type=int, default=0, metavar="SEED", help="of the episodes (default: 0)")
    add("--only", default="", metavar="WORD", help="families whose name contains this")
    add("--workers", type=console.count(1), default=1, metavar="N", help="processes (default: 1)")
    add("--write", type=Path, metavar="FILE", help="put the table between the marks of this file")
    args = parser.parse_args(argv)
    families = [family for family in FAMILIES if args.only in family]
    seeds = range(args.first, args.first + args.episodes)
    outcomes: dict[str, list[Outcome]] = {}
    with ProcessPoolExecutor(args.workers) as pool:
        for family in families:
            outcomes[family] = list(pool.map(play, repeat(family), seeds, chunksize=5))
            print(row(family, outcomes[family]), flush=True)
            for seed, outcome in zip(seeds, outcomes[family], strict=True):
                for problem in outcome.problems:
                    print(f"    seed {seed}, {outcome.conditions.form.name}: {problem}", flush=True)
    if args.write:
        total = sum(len(played) for played in outcomes.values())
        said = f"{datetime.date.today().isoformat()}, {total:,} episodes; {machine()}."
        write_between(args.write, MARK, f"{said}\n\n{markdown(outcomes)}")
    return int(any(outcome.problems for played in outcomes.values() for outcome in played))


if __name__ == "__main__":
    sys.exit(main())
