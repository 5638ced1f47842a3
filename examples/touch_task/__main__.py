"""python -m examples.touch_task: train a tiny pi0 or pi0.5 to touch the named object in simulation.

Demonstrations of a scripted expert, then flow matching on one thread. Writes a checkpoint in
LeRobot 0.4's format, its tokenizer, training.json and loss.png. Needs mujoco.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from pi0_ros import cli, console
from pi0_ros.errors import UserError

FIGURES, CURVE = "training.json", "loss.png"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    from examples.touch_task.train import Recipe
    from pi0_ros.model.config import VARIANTS

    def add(name: str, default: int, text: str) -> None:
        text = f"{text} (default: {default})"
        parser.add_argument(name, type=console.count(), default=default, metavar="N", help=text)

    recipe = Recipe()
    parser.add_argument("directory", metavar="DIR", type=Path, help="checkpoint to write")
    parser.add_argument(
        "--model", choices=VARIANTS, default=recipe.variant, help="which (default: pi0)"
    )
    parser.add_argument(
        "--from",
        dest="start",
        default=recipe.start,
        metavar="CHECKPOINT",
        help="go on from its weights (default: random ones)",
    )
    add("--seed", recipe.seed, "decides everything")
    add("--scenes", recipe.scenes, "to demonstrate in")
    add("--corrections", recipe.corrections, "scenes in which the policy of --from leads the arm")
    add("--pointing-steps", recipe.pointing_steps, "of the prefix alone")
    add("--steps", recipe.steps, "of the whole model")
    for name, default, text in (
        ("--rate", recipe.rate, "highest learning rate"),
        ("--pointing-weight", recipe.pointing_weight, "of the pointing losses"),
        ("--keep", recipe.keep, "share of the first weights in those that are saved"),
    ):
        parser.add_argument(
            name, type=float, default=default, metavar="F", help=f"{text} (default: {default})"
        )
    add("--max-delay", recipe.max_delay, "steps of a chunk that may be given as already sent")
    add("--workers", 1, "processes that make demonstrations")


def run(args: argparse.Namespace) -> int:
    """Demonstrate, train, and write down what came of it."""
    import torch

    from examples.touch_task.demonstrations import Demonstrations, demonstrate
    from examples.touch_task.plot import draw_losses
    from examples.touch_task.train import Recipe, train
    from pi0_ros.model.config import TINY

    names = ("seed", "scenes", "pointing_steps", "steps", "rate", "pointing_weight")
    names += ("max_delay", "start", "corrections", "keep")
    if args.corrections and not args.start:
        raise UserError("--corrections needs the policy that leads the arm: give --from")
    recipe = Recipe(args.model, **{name: getattr(args, name) for name in names})
    # One thread: the same seed gives the same weights, and more do not help matrices this small.
    torch.set_num_threads(1)
    began = time.perf_counter()
    args.directory.mkdir(parents=True, exist_ok=True)
    demonstrations = demonstrate(
        recipe.scenes,
        seed=recipe.seed,
        wrist_share=recipe.wrist_share,
        horizon=TINY.horizon,
        image_size=TINY.image_size,
        workers=args.workers,
    )
    if recipe.corrections:
        # Only here: it needs all that runs a policy.
        from examples.touch_task.corrections import correct

        more = correct(
            Path(recipe.start),
            recipe.corrections,
            seed=recipe.seed,
            image_size=TINY.image_size,
            workers=args.workers,
        )
        demonstrations = Demonstrations.join([demonstrations, more])
    curves = train(demonstrations, args.directory, recipe)
    figures = {
        "recipe": asdict(recipe),
        "observations": len(demonstrations),
        "flow_loss": _tail(curves.flow),
        "goal_loss": _tail(curves.goal),
        "patch_loss": _tail(curves.patches),
        "seconds": round(time.perf_counter() - began),
        "cpu_minutes": round(sum(os.times()[:4]) / 60, 1),  # also of processes it waited for
        "torch": torch.__version__,
    }
    console.write_json(args.directory / FIGURES, figures)
    draw_losses(args.directory / CURVE, curves)
    loss, minutes = figures["flow_loss"], figures["cpu_minutes"]
    print(f"{args.directory}: flow loss {loss}, {minutes} CPU minutes")
    return console.DONE


def _tail(curve: list[float]) -> float | None:
    """Mean of the last steps."""
    last = curve[-500:]
    return round(sum(last) / len(last), 4) if last else None


def main(argv: Sequence[str] | None = None) -> int:
    """Run it as a command; returns its exit status."""
    argv = sys.argv[1:] if argv is None else argv
    return cli.call("python -m examples.touch_task", sys.modules[__name__], argv)


if __name__ == "__main__":
    sys.exit(main())
