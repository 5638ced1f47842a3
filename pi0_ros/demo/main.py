"""The command pi0_demo: a simulated arm, the node and its policy; ask, and it touches."""

from __future__ import annotations

import argparse
import importlib
import json
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from tqdm import tqdm

from pi0_ros.demo.picture import require_pillow
from pi0_ros.replay.replay import ROS_MODULES
from pi0_ros.ros.process import NodeError
from pi0_ros.sim.stage import load_mujoco
from pi0_ros.sim.task import TOUCH_CHECKPOINT, VARIANTS

SEED = 5
SIGNALS = (signal.SIGINT, signal.SIGTERM)

DESCRIPTION = """\
Starts a simulated SO-101 arm (pi0_sim) and the node with the small pi0 that was trained for it
(pi0_node), tells it to touch the three objects of the scene one after the other on the topic
instruction, and shows what came of it. Needs no display; everything stays on the loopback."""

EPILOG = """\
OUT/bag is a recording of it all for pi0_replay, ros2 bag and Foxglove; OUT/demo.gif shows the front
camera with the path that the newest chunk predicts, OUT/demo.png one frame per instruction;
OUT/sim.log and OUT/node.log have the output of the two processes.

exit status: 0 when all three objects were right; 1 when one was not, or something failed; 2 for
wrong arguments; 130 after Ctrl-C.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the command; returns its exit status."""
    parser = _parser()
    args = parser.parse_args(argv)
    # Found out before the run, not after. OUT and the folders above it will be made.
    if args.json is not None:
        folder, out = args.json.parent, args.out.absolute()
        if not folder.is_dir() and folder.absolute() not in (out, *out.parents):
            parser.error(f"--json: the folder {folder} does not exist")
    # Ctrl-C and SIGTERM leave a mark that the run looks for: an exception raised wherever the
    # signal hits could come up inside rclpy's C++ calls, which turn it into an error of their own.
    caught: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        caught.append(number)

    before = {number: signal.signal(number, interrupt) for number in SIGNALS}
    try:
        status = _demo(args, lambda: bool(caught))
    except KeyboardInterrupt:
        status = 130
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if caught:
        print("pi0_demo: interrupted", file=sys.stderr)
        status = 130
    return status


def _demo(args: argparse.Namespace, interrupted: Callable[[], bool]) -> int:
    try:
        _check(args)
        from pi0_ros.demo.figures import figures, table
        from pi0_ros.demo.run import Plan, run
        from pi0_ros.demo.show import write_pictures

        _make_room(args.out, args.overwrite)
        plan = Plan(args.seed, args.variant, args.checkpoint, args.out, args.speed, args.window)
        record = run(plan, interrupted)
        found = figures(record)
        # The figures first: a file that cannot be written must not cost them.
        print(table(found))
        if args.json is not None:
            asked = {
                "seed": args.seed,
                "variant": args.variant,
                "checkpoint": str(args.checkpoint),
                "speed": args.speed,
            }
            document = {**asked, **found.document()}
            args.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        write_pictures(record, args.out, lambda frames: tqdm(frames, desc="Drawing", unit=""))
    except (NodeError, ValueError, OSError, ImportError, RuntimeError) as error:
        print(f"pi0_demo: {error}", file=sys.stderr)
        return 1
    names = ("bag", "demo.gif", "demo.png", "sim.log", "node.log")
    print(f"results: {', '.join(str(args.out / name) for name in names)}")
    return 0 if found.successes == len(found.instructions) else 1


def _check(args: argparse.Namespace) -> None:
    """Find out what is missing before processes are started."""
    for module, remedy in ROS_MODULES.items():
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise NodeError(f"{module} cannot be imported ({error}): {remedy}") from error
    load_mujoco()
    require_pillow()
    if not (args.checkpoint / "config.json").is_file():
        raise FileNotFoundError(
            f"{args.checkpoint}: no checkpoint is there (no config.json); give another "
            "--checkpoint, or make one: `pi0_train DIR`"
        )


def _make_room(out: Path, overwrite: bool) -> None:
    """Make the directory, and remove the results of an earlier run from it."""
    bag = out / "bag"
    if bag.exists():
        if not overwrite:
            raise FileExistsError(
                f"{bag} is there already: choose another --out, or --overwrite it"
            )
        if not (bag / "metadata.yaml").exists():
            raise FileExistsError(f"{bag} is no recording: remove it, or choose another --out")
        shutil.rmtree(bag)
    out.mkdir(parents=True, exist_ok=True)
    for name in ("demo.gif", "demo.png"):
        (out / name).unlink(missing_ok=True)


def _speed(text: str) -> float:
    speed = float(text)
    if not 0 < speed < float("inf"):
        raise argparse.ArgumentTypeError(f"must be above 0, got {text}")
    return speed


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pi0_demo",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--seed", type=int, default=SEED, metavar="N", help=f"of the scene (default {SEED})")
    add("--variant", choices=VARIANTS, default="touch", help="of the task (default touch)")
    add(
        "--checkpoint",
        type=Path,
        default=TOUCH_CHECKPOINT,
        metavar="DIR",
        help="policy (default: the one that ships)",
    )
    add(
        "--out",
        type=Path,
        default=Path("build/demo"),
        metavar="DIR",
        help="directory of the results (default build/demo)",
    )
    add("--overwrite", action="store_true", help="replace the results of an earlier run in OUT")
    add(
        "--speed",
        type=_speed,
        default=1.0,
        metavar="F",
        help="simulated per real time (default 1); less for a machine that cannot keep up",
    )
    add("--window", action="store_true", help="show the simulation; needs a display")
    add("--json", type=Path, metavar="FILE", help="write the table's figures here too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
