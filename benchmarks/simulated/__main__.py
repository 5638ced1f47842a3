"""python -m benchmarks.simulated: how often the arm touches what it is told to, how smoothly.

A policy touches objects over fresh scenes, through the node's executor and an emulated joint
trajectory controller, in simulated time and in one process: the same arguments give the same
figures, but for wall times. With --dds over DDS, as on a robot. Needs mujoco; needs no display.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.link import Link, relay
from benchmarks.simulated.ablations import ABLATIONS, NONE
from benchmarks.simulated.drive import CONTROLLERS
from pi0_ros import cli, console
from pi0_ros.plain_yaml import read_yaml
from pi0_ros.sim.task import TOUCH_CHECKPOINT, VARIANTS

EPILOG = "\n".join(["ablations:", *(f"  {n:<18} {a.fault}" for n, a in ABLATIONS.items())])
_IN_PROCESS = ("expert", "no_stitch", "workers", "ablation", "ambiguous")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    add = parser.add_argument
    add("--scenes", type=console.count(1), default=100, metavar="N", help="default: 100")
    add("--seed", type=console.count(), default=0, metavar="N", help="which scenes (default: 0)")
    add("--variant", choices=VARIANTS, default="touch", help="of the task (default: touch)")
    add("--rate", type=float, metavar="HZ", help="ticks per second (default: touch.yaml's)")
    add(
        "--delay",
        type=_at_least(0),
        default=0.0,
        metavar="MS",
        help="simulated milliseconds from an observation to its trajectory (default: 0)",
    )
    add(
        "--checkpoint",
        type=Path,
        default=TOUCH_CHECKPOINT,
        metavar="DIR",
        help="policy (default: the one that ships)",
    )
    add(
        "--ambiguous",
        action="store_true",
        help='instructions that several objects satisfy: "touch a cube", "touch anything"',
    )
    add("--expert", action="store_true", help="the scripted expert instead of a policy")
    add("--ablation", choices=ABLATIONS, default=NONE, help="a deliberate fault", metavar="NAME")
    add(
        "--controller",
        choices=CONTROLLERS,
        default="jazzy",
        help="version of joint_trajectory_controller; from-desired: jazzy with "
        "interpolate_from_desired_state (default: jazzy)",
    )
    add(
        "--link",
        nargs=4,
        type=_at_least(0),
        metavar=("MS", "PERCENT", "S", "PERIOD"),
        help="to a policy elsewhere: delay one way, segments lost, and outages of S seconds, one "
        "every PERIOD (0: none). In simulated time it is arithmetic; with --dds a relay stands "
        "before policy_url. See benchmarks/link.py",
    )
    add("--no-stitch", action="store_true", help="send chunks as they are, without the executor")
    add("--seconds", type=_at_least(0.1), default=8.0, metavar="S", help="per scene (default: 8)")
    add(
        "-p",
        "--parameter",
        type=_parameter,
        action="append",
        default=[],
        metavar="NAME:=VALUE",
        help="a parameter of the node, instead of touch.yaml's",
    )
    add(
        "--dds",
        action="store_true",
        help="pi0_sim and pi0_node as processes, in real time; depends on this machine. --delay "
        "is added to the time of an inference",
    )
    add("--speed", type=float, metavar="F", help="with --dds: simulated time, F times as fast")
    add("--workers", type=console.count(1), default=1, metavar="N", help="processes (default: 1)")
    console.add_json(parser)


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """End where options exclude each other."""
    for name in _IN_PROCESS:
        if args.dds and getattr(args, name) != parser.get_default(name):
            parser.error(f"--{name.replace('_', '-')} is not for --dds")
    if args.ambiguous and (args.expert or args.variant != VARIANTS[0]):
        parser.error(f"--ambiguous is for a policy and the variant {VARIANTS[0]}")
    if args.speed is not None and not args.dds:
        parser.error("--speed is for --dds: in process nothing waits for time to pass")
    if args.dds and args.link and "policy_url" not in dict(args.parameter):
        parser.error("--link with --dds needs -p policy_url:=ws://127.0.0.1:PORT")


def run(args: argparse.Namespace) -> int:
    """Run the scenes and print the figures."""
    from benchmarks.simulated.evaluation import (
        Evaluation,
        evaluate,
        evaluate_over_dds,
        scene_seeds,
    )
    from benchmarks.simulated.rollout import Loop
    from benchmarks.simulated.score import score, table
    from benchmarks.simulated.setup import read_setup
    from pi0_ros.node.preflight import PreflightError, preflight

    rate = {} if args.rate is None else {"rate_hz": args.rate}
    given = {"checkpoint": str(args.checkpoint), **rate, **dict(args.parameter)}
    setup = read_setup(**given)
    if not args.expert and (problems := preflight(setup.parameters, None)):
        raise PreflightError(problems)
    link = None
    if args.link is not None:
        delay, loss, outage, every = args.link
        link = Link(delay / 1e3, loss / 1e2, outage, every)
    loop = Loop(
        setup,
        link=link,
        delay=args.delay / 1e3,
        seconds=args.seconds,
        controller=args.controller,
        stitched=not args.no_stitch,
        ablation=args.ablation,
        ambiguous=args.ambiguous,
    )
    evaluation = Evaluation(loop, args.variant, args.expert)
    seeds = scene_seeds(args.scenes, args.seed)
    if args.dds:
        with ExitStack() as stack:
            if link is not None:
                port = int(setup.parameters.policy_url.rpartition(":")[2])
                given["policy_url"] = stack.enter_context(relay(port, link))
            episodes = evaluate_over_dds(evaluation, seeds, speed=args.speed, given=given)
    else:
        episodes = evaluate(evaluation, seeds, workers=args.workers)
    figures = score(episodes)
    print(table(figures))
    names = ("variant", "seed", "controller", "ablation", "ambiguous", "dds", "speed")
    asked = {
        "policy": "expert" if args.expert else str(args.checkpoint),
        **{name: getattr(args, name) for name in names},
        "rate_hz": setup.parameters.rate_hz,
        "delay_ms": args.delay,
        "link": args.link,
        "stitched": not args.no_stitch,
        "parameters": dict(args.parameter),
    }
    console.write_json(args.json, {**asked, **figures.document()})
    return console.DONE


def _parameter(text: str) -> tuple[str, object]:
    name, assigned, value = text.partition(":=")
    if not (name and assigned):
        raise argparse.ArgumentTypeError(f"expected NAME:=VALUE, got {text!r}")
    return name, read_yaml(value)


def _at_least(least: float) -> Callable[[str], float]:
    """An argparse type: a finite number that is at least `least`."""

    def number(text: str) -> float:
        value = float(text)
        if not least <= value < math.inf:
            raise argparse.ArgumentTypeError(f"must be at least {least:g}, got {text}")
        return value

    return number


def main(argv: Sequence[str] | None = None) -> int:
    """Run it as a command; returns the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    return cli.call("python -m benchmarks.simulated", sys.modules[__name__], argv)


if __name__ == "__main__":
    sys.exit(main())
