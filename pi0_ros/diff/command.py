"""pi0 diff: compares the chunks of two replays, per joint and at the tool."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from pi0_ros import console
from pi0_ros.share import user_path

if TYPE_CHECKING:
    from pi0_ros.bags.results import Results
    from pi0_ros.diff.compare import Difference, Thresholds
    from pi0_ros.node.parameters import NodeParameters

EPILOG = """\
A and B are the --out of `pi0 replay`, over DDS or deterministic, or any recording with the node's
~/action_chunk. Chunks are compared if their observations have the same stamp; those that the node
rejected are left out.

One of them may be a LeRobot data set, with --episodes and --params: each chunk of the replay of an
episode is compared with the actions that were recorded after its observation.

A joint's unit is what --params, --urdf or the replay itself say.

Exit status 1 also beyond a threshold.

examples:
  pi0 diff before after --urdf so101.urdf --tool gripper_frame_link --plot diff.png
  pi0 diff replay_of_3 my_data_set --episodes 3 --params my_arm.yaml --max-joint 0.2
"""

JSON_KEYS = {
    "a, b": "what was compared",
    "chunks": "of `a` and `b`",
    "matched, without_partner": "pairs with one stamp; the stamps in ns that only `a` or `b` has",
    "joints": "joint -> `max`, `mean` difference over all steps of all pairs, null where one is not"
    " finite, and its `unit`: `rad`, `m`, or `rad or m` where nothing tells",
    "tool_position_m, tool_angle_rad": "`max`, `mean` at the tool; null without `--urdf`",
    "other_instructions, other_pictures": "pairs with another instruction, or made of other images",
    "trajectories": "of `a` and `b`; `pairs` published at one time, the `max` difference of a"
    " point, and its `joint`",
    "first_difference, first_beyond": "the first pair that differs, and the first beyond a"
    " threshold: `number` from 0, `stamp` in ns, `seconds` after the first, and its largest"
    " difference: `joint`, `step`, `difference`; or null",
    "thresholds, failures, passed": "what was allowed, and sentences about what was not",
}

DEFAULTS = {"joint": 0.05, "position": 0.03, "angle": 0.2, "unmatched": 0}
"""What may differ at most: joints (rad or m), the tool (m, rad), chunks without a partner."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("a", metavar="A", type=Path, help="results of a replay")
    add("b", metavar="B", type=Path, help="results of another one")
    add("--episodes", metavar="N", default="", help="of a LeRobot data set: the episode")
    console.add_params(parser)
    console.add_json(parser)
    add("--plot", metavar="FILE", type=console.output_file, help="also draw the figures, as PNG")
    add_thresholds(parser)


def add_thresholds(
    parser: argparse.ArgumentParser | argparse._ArgumentGroup, joint: float = DEFAULTS["joint"]
) -> None:
    """The options of `thresholds`; `joint` is the default of the first one."""
    add = parser.add_argument
    text = f"of any joint, rad or m (default: {joint:g})"
    add("--max-joint", metavar="RAD", type=float, help=text)
    for name, unit in (("position", "M"), ("angle", "RAD")):
        text = f"at the tool, with --urdf (default: {DEFAULTS[name]:g})"
        add(f"--max-{name}", metavar=unit, type=float, help=text)
    text = f"chunks without a partner (default: {DEFAULTS['unmatched']})"
    add("--max-unmatched", metavar="N", type=int, help=text)
    add("--urdf", metavar="FILE", type=Path, help="the robot: compare where its tool goes too")
    add("--tool", metavar="LINK", default="", help="the tool's link (default: the last one)")


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    check_thresholds(parser, args)


def check_thresholds(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    for name in DEFAULTS:
        value = getattr(args, f"max_{name}")
        if value is not None and not 0 <= value < math.inf:
            parser.error(f"--max-{name}: must be a number from 0, got {value}")
    if args.urdf is None and (args.tool or args.max_position or args.max_angle):
        parser.error("--tool, --max-position and --max-angle need --urdf")


def thresholds(args: argparse.Namespace, joint: float = DEFAULTS["joint"]) -> Thresholds:
    from pi0_ros.diff.compare import Thresholds

    given = {name: getattr(args, f"max_{name}") for name in DEFAULTS}
    given = {name: value for name, value in given.items() if value is not None}
    return Thresholds(**{**DEFAULTS, "joint": joint, **given})


def compare_results(a: Results, b: Results, args: argparse.Namespace) -> Difference:
    """Compares two results, at the tool too where --urdf is given.

    Raises:
        DiffError: they cannot be compared.
        UrdfError: the URDF does not fit the chunks, or pinocchio is missing; lists everything.
    """
    from pi0_ros.collision.kinematics import read_arm
    from pi0_ros.diff.compare import compare
    from pi0_ros.node.preflight import units_of

    poses, units = None, {}
    if args.urdf is not None:
        arm = read_arm(user_path(args.urdf), a.joint_names, args.tool)
        poses, units = arm.tool_poses, arm.units
    if args.params and not (a.units or b.units):
        parameters = _parameters(args.params)
        units |= zip(parameters.joint_names, units_of(parameters), strict=True)
    return compare(a, b, poses, units)


def _parameters(params: list[Path]) -> NodeParameters:
    """The node's parameters; it asks for a checkpoint, which is not read here."""
    from pi0_ros.node.arguments import write_arguments
    from pi0_ros.node.interface import read_interface

    return read_interface(write_arguments(params, {"checkpoint": "none"})).parameters


def _results(args: argparse.Namespace) -> tuple[Results, Results]:
    """What is compared."""
    from pi0_ros.bags.bag import BagError
    from pi0_ros.bags.results import read_results
    from pi0_ros.datasets.episode import open_episode
    from pi0_ros.datasets.layout import chosen_episodes, is_data_set, open_data_set
    from pi0_ros.datasets.results import recorded_results

    sets = [is_data_set(args.a), is_data_set(args.b)]
    if not any(sets):
        if args.episodes:
            raise BagError("--episodes: neither is a LeRobot data set (meta/info.json)")
        return read_results(args.a), read_results(args.b)
    if all(sets) or not args.params:
        raise BagError("a data set is compared with a replay of it: give one of each, and --params")
    replay, path = (args.b, args.a) if sets[0] else (args.a, args.b)
    data = open_data_set(path)
    episodes = chosen_episodes(data, args.episodes)
    if len(episodes) > 1:
        raise BagError(f"{path} has {len(episodes)} episodes: give --episodes N")
    recording = open_episode(data, episodes[0], _parameters(args.params))
    results = read_results(replay)
    recorded = recorded_results(recording, results)
    return (recorded, results) if sets[0] else (results, recorded)


def run(args: argparse.Namespace) -> int:
    from pi0_ros.diff.compare import failures
    from pi0_ros.diff.report import difference_json, format_difference

    if args.plot is not None:
        console.require("matplotlib")
    limits = thresholds(args)
    difference = compare_results(*_results(args), args)
    # The figures first: a file that cannot be written must not cost them.
    print(format_difference(difference, limits))
    console.write_json(args.json, difference_json(difference, limits))
    if args.plot is not None:
        from pi0_ros.diff.plot import plot_difference

        plot_difference(args.plot, difference, limits)
    return console.FAILED if failures(difference, limits) else console.DONE
