"""python -m benchmarks.remote: what it costs to have the policy elsewhere.

Asks one policy in this process, in a process of its own, and on a server over the loopback, in turn
and with the same observations of two 640 x 480 cameras: overhead is an answer's wall time less the
policy's own. With --link a relay stands between node and server that passes bytes on as late as a
slow link does that loses packets (benchmarks/link.py). No ROS. Needs the loopback only; a small
checkpoint with random weights is made.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.link import Link, relay
from pi0_ros import cli, console

if TYPE_CHECKING:
    from pi0_ros.serve.remote import RemotePolicy

JSON_KEYS = {
    "rows": "where, and milliseconds: `p50`, `p99`, `max` of the overhead, `answers`",
    "fleet": "`arms`, `hz` of all together, `p50`, `p99` of an answer in milliseconds",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    add = parser.add_argument
    add("--rounds", type=console.count(10), default=100, help="answers of each (default: 100)")
    add("--link", action="store_true", help="also over a link of --delay and --loss")
    add("--delay", type=float, default=20.0, metavar="MS", help="one way (default: 20)")
    add("--loss", type=float, default=1.0, metavar="PERCENT", help="of segments (default: 1)")
    add("--arms", nargs="*", type=console.count(1), default=[], help="then so many on one server")
    add("--seconds", type=float, default=5.0, help="of each number of arms (default: 5)")
    console.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    from benchmarks.page import machine, versions
    from pi0_ros.checkpoint.random import CAMERAS, JOINTS, write_random_checkpoint
    from pi0_ros.model.config import TINY
    from pi0_ros.node.loading import load_arguments, load_policy
    from pi0_ros.node.parameters import read_parameters
    from pi0_ros.node.remote import in_process, on_server
    from pi0_ros.policy.types import Observation

    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (480, 640, 3), np.uint8) for _ in range(8)]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pi0_remote_")))
        write_random_checkpoint(folder / "checkpoint", TINY)
        given = {"checkpoint": str(folder / "checkpoint"), "threads": 1}
        given |= {"cameras": list(CAMERAS), "joints": list(JOINTS)}
        parameters = read_parameters(given)
        url = stack.enter_context(server(folder / "checkpoint", folder / "log"))
        policies = {"in the node": load_policy(parameters)}
        policies["process"] = in_process(parameters, load_arguments(parameters))
        at = {"server": url}
        if args.link:
            link = Link(args.delay / 1e3, args.loss / 100)
            relayed = relay(int(url.rpartition(":")[2]), link)
            at[f"server, {args.delay:g} ms, {args.loss:g} %"] = stack.enter_context(relayed)
        for name, address in at.items():
            for form in ("fitted", "jpeg", "raw"):
                there = replace(parameters, policy_url=address, policy_images=form)
                policies[f"{name}, {form}"] = on_server(there)
        times: dict[str, list[float]] = {name: [] for name in policies}
        for number in console.progress(range(args.rounds + 5)):
            for name, policy in policies.items():
                pair = images[number % 8], images[(number + 1) % 8][..., ::-1]
                seen = dict(zip(CAMERAS, pair, strict=True))
                observation = Observation(seen, np.zeros(len(JOINTS)), "go", number)
                time.sleep(0.02)  # as between ticks: caches and processors have cooled down
                begun = time.perf_counter()
                chunk = policy.infer(observation)
                spent = time.perf_counter() - begun
                own = sum(s for stage, s in chunk.stage_times.items() if stage != "link")
                if number >= 5:
                    times[name].append((spent - own) * 1e3)
        for policy in policies.values():
            if hasattr(policy, "close"):
                policy.close()
        there = replace(parameters, policy_url=url)
        fleet = [
            {"arms": n, **ask_together([on_server(there) for _ in range(n)], seen, args.seconds)}
            for n in args.arms
        ]
    rows = []
    for name, values in times.items():
        figures = console.percentiles(values, (50, 99), largest=True)
        rows.append({"where": name, **figures, "answers": len(values)})
    print(f"{machine()}; {versions()}.\noverhead of an answer, ms:")
    cells = [[r["where"], *(f"{r[k]:.2f}" for k in ("p50", "p99", "max"))] for r in rows]
    print(console.table(cells, ("policy", "p50", "p99", "max"), "<>>>"))
    if fleet:
        print("arms that ask 10 times a second, one server:")
        cells = [
            [row["arms"], f"{row['hz']:.1f}", *(f"{row[k]:.1f}" for k in ("p50", "p99"))]
            for row in fleet
        ]
        print(console.table(cells, ("arms", "answers/s", "p50, ms", "p99, ms"), ">>>>"))
    console.write_json(args.json, {"rows": rows, "fleet": fleet})
    return console.DONE


def ask_together(
    policies: Sequence[RemotePolicy], images: Mapping[str, np.ndarray], seconds: float
) -> dict[str, float]:
    """Arms that ask at 10 Hz each, as nodes do: answers per second, and how long one takes."""
    from pi0_ros.policy.types import Observation

    times: list[float] = []
    end = time.monotonic() + seconds

    def drive(policy: RemotePolicy, phase: float) -> None:
        time.sleep(phase)
        number = 0
        while time.monotonic() < end:
            begun = time.monotonic()
            policy.infer(Observation(images, np.zeros(6), "go", number))
            spent = time.monotonic() - begun
            times.append(spent * 1e3)
            number += 1
            time.sleep(max(0.0, 0.1 - spent))
        policy.close()

    threads = [
        threading.Thread(target=drive, args=(policy, 0.1 * number / len(policies)))
        for number, policy in enumerate(policies)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"hz": len(times) / seconds, **console.percentiles(times, (50, 99))}


@contextmanager
def server(checkpoint: Path, log: Path) -> Iterator[str]:
    """`pi0 serve` as a process; yields its URL."""
    command = [sys.executable, "-m", "pi0_ros.cli", "serve", "--checkpoint", str(checkpoint)]
    command += ["--port", "0", "--threads", "1", "--device", "cpu"]
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            while "serving on" not in log.read_text():
                if process.poll() is not None:
                    raise RuntimeError(f"pi0 serve ended:\n{log.read_text()}")
                time.sleep(0.05)
            yield log.read_text().split("serving on ")[1].split()[0]
        finally:
            process.terminate()


def main(argv: Sequence[str] | None = None) -> int:
    """Run it as a command; returns the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    return cli.call("python -m benchmarks.remote", sys.modules[__name__], argv)


if __name__ == "__main__":
    sys.exit(main())
