"""pi0 demo: a simulated arm follows instructions, through the node and its policy.

Starts a simulated SO-101 arm (pi0_sim) and the node with the small pi0 that was trained for it
(pi0_node), and has it touch the three objects of the scene one after the other. Needs no
display; everything stays on the loopback.

`pi0 demo bag DIR` writes a recording of such an arm instead, and `pi0 demo checkpoint DIR` a
checkpoint with random weights: input for the other commands. Neither needs ROS.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from pi0_ros import console
from pi0_ros.demo import checkpoint
from pi0_ros.errors import UserError
from pi0_ros.sim.versions import VERSIONS

SEED = 5
OUT = Path("build/demo")
RESULTS = ("bag", "demo.gif", "demo.png", "sim.log", "node.log")
VARIANTS = ("touch", "wrist")

EPILOG = """\
OUT/bag is a recording of it all for pi0 replay, ros2 bag and Foxglove; OUT/demo.gif shows the front
camera with the path that the newest chunk predicts, OUT/demo.png one frame per instruction;
OUT/sim.log and OUT/node.log have the output of the two processes.

The exit status is 1 when the arm touched a wrong object, or none, or when a command of the
controller stepped further than the velocity limit allows in a cycle.

examples:
  pi0 demo --speed 0.5
  pi0 demo bag recording --seconds 20
  pi0 demo checkpoint random_pi0 --size full --dtype bfloat16
"""

JSON_KEYS = {
    "seed, variant, speed, checkpoint": "what was run",
    "instructions": "`instruction`, `touched`, `right`, `seconds` of each",
    "successes": "how many of them were right",
    "chunks, trajectories": "published by the node; rejected chunks apart",
    "images_hz": "of the front camera",
    "age_ms": "`p50`, `p95`: of the newest image when a chunk is published",
    "inference_ms": "`p50`, `p95`: wall time of the policy",
    "overhead_ms": "`p50`, `p99`: what the node adds to it",
    "ticks, busy_ticks": "of the node's timer, and those that found the policy busy",
    "refused": "reason -> observations refused since the first instruction",
    "stops": "trajectories that stopped the arm because no chunk came",
    "resets": "calls of ~/reset, because a fault had latched",
    "commands": "`points` of the shortest and longest trajectory, largest `step` of a command in a"
    " cycle as a multiple of the velocity limit, `joint`",
    "warnings": "causes of failure other than the policy",
}

_BAG_EPILOG = """\
Topics /front/image_raw and /wrist/image_raw (640 x 480), /joint_states, /instruction. It renders
with MuJoCo, which colcon and rosdep do not install: `pip install mujoco` there first.

keys of --json: path, storage, seconds, messages (topic -> number), instructions, size_bytes,
write_seconds
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    console.add_number(parser, "--seed", "N", int, SEED, "of the scene")
    console.add_choice(parser, "--variant", VARIANTS, "of the task")
    console.add_checkpoint(parser, required=False)
    console.add_out(parser, str(OUT))
    text = "simulated per real time (default: 1); less for a machine that cannot keep up"
    add("--speed", type=_above_0, default=1.0, metavar="F", help=text)
    text = "version of joint_trajectory_controller that is simulated"
    console.add_choice(parser, "--controller", VERSIONS, text, "jazzy")
    add("--window", action="store_true", help="show the simulation; needs a display")
    console.add_json(parser)

    verbs = parser.add_subparsers(dest="what", metavar="[bag|checkpoint]")
    bag = console.add_verb(verbs, "bag", "write a recording of the simulated arm", _BAG_EPILOG)
    add = bag.add_argument
    add("folder", metavar="DIR", type=Path, help="folder of the bag")
    console.add_number(bag, "--seconds", "S", _above_0, 10.0, "recorded time")
    add("--camera-hz", type=_above_0, default=30.0, metavar="HZ", help="default: 30")
    add("--joint-hz", type=_above_0, default=100.0, metavar="HZ", help="default: 100")
    add("--storage", choices=("mcap", "sqlite3"), default="mcap", help="default: mcap")
    console.add_number(bag, "--seed", "N", int, 0, "of the scene")
    add("--compressed", action="store_true", help="JPEG on .../image_raw/compressed")
    console.add_overwrite(bag)
    console.add_json(bag)

    keys = f"keys of --json: {', '.join(checkpoint.JSON_KEYS)}"
    text = "write a checkpoint with random weights, whose actions mean nothing"
    checkpoint.add_arguments(console.add_verb(verbs, "checkpoint", text, keys))


def run(args: argparse.Namespace) -> int:
    return {"bag": _bag, "checkpoint": checkpoint.run, None: _demo}[args.what](args)


def _demo(args: argparse.Namespace) -> int:
    policy = _check(args.checkpoint)
    out = console.claim_folder(args.out or OUT, RESULTS, args.overwrite)

    from pi0_ros.demo.drawing import write_images
    from pi0_ros.demo.report import format_report, make_report
    from pi0_ros.demo.run import run
    from pi0_ros.motion.limits import read_limits
    from pi0_ros.sim.closed_loop import LIMITS, config_file
    from pi0_ros.sim.stage import JOINTS

    with console.deferred_signals() as interrupted:
        record = run(args, policy, out, interrupted)
    limits = read_limits([config_file(LIMITS)], JOINTS, math.inf)
    figures, passed = make_report(record, limits, args.controller)
    print(format_report(figures, record.attempts))
    asked = {name: getattr(args, name) for name in ("seed", "variant", "speed")}
    console.write_json(args.json, {**asked, "checkpoint": str(policy), **figures})
    write_images(record, out)
    print(f"results: {', '.join(str(out / name) for name in RESULTS)}")
    return console.DONE if passed else console.FAILED


def _check(given: Path | None) -> Path:
    """Find out what is missing before processes are started; returns the checkpoint."""
    console.require("rclpy", "pi0_ros.msg", "mujoco", "PIL")
    from pi0_ros.sim.stage import load_mujoco
    from pi0_ros.sim.task import TOUCH_CHECKPOINT

    load_mujoco()
    folder = given or TOUCH_CHECKPOINT
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder}: no checkpoint is there (no config.json)")
    return folder


def _bag(args: argparse.Namespace) -> int:
    from pi0_ros.demo.bag import write_demo_bag

    names = ("seconds", "camera_hz", "joint_hz", "storage", "seed", "compressed", "overwrite")
    figures = write_demo_bag(args.folder, **{name: getattr(args, name) for name in names})
    print(f"{args.folder} ({args.storage}, {figures['size_bytes'] / 1e6:.1f} MB)")
    print(console.table(sorted(figures["messages"].items()), ("topic", "messages"), "<>"))
    print(f"{args.seconds:g} s recorded in {figures['write_seconds']:.1f} s")
    console.write_json(args.json, figures)
    return console.DONE


def _above_0(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be above 0, got {text}")
    return value
