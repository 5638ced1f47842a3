"""`pi0_sim_eval`: how often does the simulated arm touch what it is told to, and how smoothly."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import yaml

from benchmarks.simulated.bench import Evaluation, evaluate, evaluate_over_dds, scene_seeds
from pi0_ros.node.preflight import ContractError, contract_problems
from pi0_ros.sim.ablate import ABLATIONS, NONE
from pi0_ros.sim.drive import CONTROLLERS
from pi0_ros.sim.node_setup import read_setup
from pi0_ros.sim.rollout import Loop
from pi0_ros.sim.score import score, table
from pi0_ros.sim.task import TOUCH_CHECKPOINT, VARIANTS

_DESCRIPTION = """\
Let a policy touch what it is told to in the simulation, over fresh scenes, through
the node's own planning and a joint trajectory controller, in simulated time and in
one process: the same arguments give the same figures, but for wall times. With --dds
over DDS, as on a robot. Needs mujoco; needs no display."""


def _given(args: argparse.Namespace) -> dict[str, object]:
    """The node's parameters besides those of config/touch.yaml."""
    rate = {} if args.rate is None else {"rate_hz": args.rate}
    return {"checkpoint": str(args.checkpoint), **rate, **dict(args.parameter)}


def _evaluation(args: argparse.Namespace) -> Evaluation:
    """What the arguments ask for, checked.

    Raises:
        ValueError: parameters, checkpoint and limits do not fit each other.
    """
    setup = read_setup(**_given(args))
    if not args.expert and (problems := contract_problems(setup.parameters, None)):
        raise ContractError(problems)
    loop = Loop(
        setup,
        delay=args.delay / 1e3,
        seconds=args.seconds,
        controller=args.controller,
        stitched=not args.no_stitch,
        ablation=args.ablation,
    )
    return Evaluation(loop, args.variant, args.expert)


def main(argv: list[str] | None = None) -> int:
    """The command `pi0_sim_eval`. Returns the exit status."""
    parser = _parser()
    args = parser.parse_args(argv)
    # Found out before the scenes are run, not after.
    if args.json is not None and not args.json.parent.is_dir():
        parser.error(f"--json: the folder {args.json.parent} does not exist")
    try:
        seeds = scene_seeds(args.scenes, args.seed)
    except ValueError as error:
        parser.error(str(error))
    for name in ("expert", "no_stitch", "workers", "ablation"):
        if args.dds and getattr(args, name) != parser.get_default(name):
            parser.error(f"--{name.replace('_', '-')} is not for --dds")
    if args.speed is not None and not args.dds:
        parser.error("--speed is for --dds: in process nothing waits for time to pass")
    try:
        evaluation = _evaluation(args)
        if args.dds:
            given = _given(args)
            episodes = evaluate_over_dds(
                evaluation, seeds, speed=args.speed, given=given, progress=True
            )
        else:
            episodes = evaluate(evaluation, seeds, workers=args.workers, progress=True)
        figures = score(episodes)
        print(table(figures))
        if args.json is not None:
            document = {**_asked(args, evaluation), **figures.document()}
            args.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        print(f"pi0_sim_eval: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("pi0_sim_eval: interrupted", file=sys.stderr)
        return 130
    return 0


def _asked(args: argparse.Namespace, evaluation: Evaluation) -> dict[str, object]:
    return {
        "policy": "expert" if args.expert else str(args.checkpoint),
        "variant": args.variant,
        "seed": args.seed,
        "rate_hz": evaluation.loop.setup.parameters.rate_hz,
        "delay_ms": args.delay,
        "controller": args.controller,
        "stitched": not args.no_stitch,
        "ablation": args.ablation,
        "dds": args.dds,
        "speed": args.speed,
        "parameters": dict(args.parameter),
    }


def _parameter(text: str) -> tuple[str, object]:
    name, assigned, value = text.partition(":=")
    if not (name and assigned):
        raise argparse.ArgumentTypeError(f"expected NAME:=VALUE, got {text!r}")
    return name, yaml.safe_load(value)


def _from(least: float, kind: type = float) -> object:
    """An argparse type: a finite number that is at least `least`."""

    def number(text: str) -> float:
        value = kind(text)
        if not least <= value < float("inf"):
            raise argparse.ArgumentTypeError(f"must be at least {least:g}, got {text}")
        return value

    number.__name__ = "number"
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pi0_sim_eval",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=_DESCRIPTION,
        epilog="\n".join(["ablations:", *(f"  {n:<18} {a.fault}" for n, a in ABLATIONS.items())]),
    )
    add = parser.add_argument
    add("--scenes", type=int, default=100, metavar="N", help="how many (default 100)")
    add("--seed", type=int, default=0, metavar="N", help="which scenes (default 0)")
    add("--variant", choices=VARIANTS, default="touch", help="of the task (default touch)")
    add("--rate", type=float, metavar="HZ", help="ticks per second (default: touch.yaml's)")
    add(
        "--delay",
        type=_from(0),
        default=0.0,
        metavar="MS",
        help="simulated milliseconds from an observation to its trajectory (default 0)",
    )
    add(
        "--checkpoint",
        type=Path,
        default=TOUCH_CHECKPOINT,
        metavar="DIR",
        help="policy (default: the one that ships)",
    )
    add("--expert", action="store_true", help="the scripted expert instead of a policy")
    add("--ablation", choices=ABLATIONS, default=NONE, help="a deliberate fault", metavar="NAME")
    add(
        "--controller",
        choices=CONTROLLERS,
        default="jtc",
        help="jtc: joint_trajectory_controller up to Kilted; from-desired: with "
        "interpolate_from_desired_state; splice: master's replacement (default jtc)",
    )
    add("--no-stitch", action="store_true", help="send chunks as they are, without the node's plan")
    add("--seconds", type=_from(0.1), default=8.0, metavar="S", help="per scene (default 8)")
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
    add("--workers", type=_from(1, int), default=1, metavar="N", help="processes (default 1)")
    add("--json", type=Path, metavar="FILE", help="write the figures here too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
