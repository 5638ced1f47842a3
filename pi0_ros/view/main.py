"""pi0_view: a replay, or a running node, in the browser."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from pi0_ros.bags.bag import BagError
from pi0_ros.motion.urdf import UrdfError
from pi0_ros.ros.process import NodeError
from pi0_ros.viz.kinematics import Arm, read_arm

if TYPE_CHECKING:
    from pi0_ros.view.page import Page
    from pi0_ros.view.robot import Shape
    from pi0_ros.view.timeline import Moment

FRAME = 0.05
"""Seconds between two states of the page."""

NEEDS = {"pinocchio": "pin", "viser": "viser", "trimesh": "trimesh"}

EPILOG = """\
The page has the robot, a ghost of it that plays the newest chunk, the tool's path of that chunk
(cyan to magenta along time; green or slate: due already, sent or in a dry run; grey: replaced by a
newer chunk; red: rejected), the pictures, and a time slider. It is served on 127.0.0.1 only.

exit status: 0 after Ctrl-C; 1 when something failed; 2 for wrong arguments.

examples:
  pi0_view build/demo/out --recording build/demo/bag --urdf my_arm.urdf
  pi0_view --live --node /left/pi0
"""


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="pi0_view",
        description="Shows what a pi0 node predicted, in 3D in the browser: of a replay (BAG), or "
        "of a node that runs (--live).",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("bag", metavar="BAG", type=Path, nargs="?", help="OUT of pi0_replay, or its bag")
    add("--live", action="store_true", help="follow a running node instead")
    add(
        "--recording",
        metavar="BAG",
        type=Path,
        help="what was replayed, for pictures and joint states (default: BAG itself)",
    )
    add("--urdf", metavar="FILE", type=Path, help="the robot; --live hears it if it is published")
    add("--tool", metavar="LINK", default="", help="link whose path is shown (default: the last)")
    add(
        "--camera",
        metavar="TOPIC",
        action="append",
        default=[],
        help="pictures to show of the recording (default: all); may be given again",
    )
    add("--at", metavar="S", type=float, help="stand still at this time of BAG, instead of playing")
    add("--step", metavar="N", type=int, default=-1, help="stand the ghost at this step of chunks")
    add("--node", metavar="NAME", default="/pi0", help="full name of the node, for --live")
    add(
        "--port",
        metavar="N",
        type=int,
        default=8080,
        help="of the page on 127.0.0.1 (default: 8080); the next free one if it is taken",
    )
    args = parser.parse_args(argv)
    if args.live == (args.bag is not None):
        parser.error("give a BAG, or --live")
    if not args.live and args.urdf is None:
        parser.error("--urdf: the robot is needed")
    if args.live and (args.recording or args.camera or args.at is not None):
        parser.error("--recording, --camera and --at are of a BAG, not of --live")
    if not args.node.startswith("/"):
        parser.error(f"--node: a full name begins with /, got {args.node!r}")
    if args.step < -1:
        parser.error(f"--step: a step from 0, or -1 to play, got {args.step}")
    if not 1 <= args.port <= 65535:
        parser.error(f"--port: must be from 1 to 65535, got {args.port}")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the command; returns its exit status."""
    args = parse_args(sys.argv[1:] if argv is None else argv)
    # As in pi0_replay, signals leave a mark: raised inside rclpy they would come out as an error.
    caught: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        caught.append(number)

    before = {n: signal.signal(n, interrupt) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        _require()
        (_view_live if args.live else _view_bag)(args, lambda: bool(caught))
    except KeyboardInterrupt:
        return 0
    except (BagError, UrdfError, NodeError, OSError) as error:
        print(f"pi0_view: {error}", file=sys.stderr)
        return 1
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0


def _require() -> None:
    for module, package in NEEDS.items():
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise NodeError(
                f"{error.name} is not installed; pi0_view needs it: pip install 'pi0_ros[view]', or"
                f" pip install {package}"
            ) from error


def _view_bag(args: argparse.Namespace, interrupted: Callable[[], bool]) -> None:
    from pi0_ros.bags.results import read_results
    from pi0_ros.view.recording import build_timeline, recording_of

    results = read_results(args.bag)
    arm = read_arm(args.urdf.expanduser(), results.joint_names, args.tool)
    shapes = _shapes(arm, args.urdf)
    recording = recording_of(results, args.recording)
    if recording is None:
        print(
            f"pi0_view: {results.path} has no pictures and no joint states: the robot stands where"
            " each chunk begins. --recording names what was replayed.",
            file=sys.stderr,
        )
    seen = build_timeline(results, arm, recording, args.camera)
    seconds = (seen.end - seen.start) / 1e9
    page = _page(args, arm, shapes, (0.0, round(seconds, 2)))
    print(f"pi0_view: {len(results.chunks)} chunks in {seconds:.1f} s, path of {arm.tool}")
    before = time.monotonic()
    try:
        while not interrupted():
            now = time.monotonic()
            if page.play.value and page.watched:
                at = page.time.value + now - before
                page.time.value = at if at <= seconds else 0.0
            before = now
            at = seen.start + round(page.time.value * 1e9)
            _show(page, seen.timeline.at(at), at)
    finally:
        page.stop()


def _view_live(args: argparse.Namespace, interrupted: Callable[[], bool]) -> None:
    for module in ("rclpy", "pi0_ros.msg"):
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise NodeError(f"--live needs ROS: {module} cannot be imported ({error})") from error
    from pi0_ros.view.live import KEEP, live, now
    from pi0_ros.view.timeline import Timeline

    with live(args.node, interrupted) as node:
        joints = node.joint_names()
        if args.urdf is None:
            arm = Arm(node.description(), joints, args.tool)
        else:
            arm = read_arm(args.urdf.expanduser(), joints, args.tool)
        shapes = _shapes(arm, args.urdf)
        timeline = Timeline(arm, keep=KEEP + 5)
        node.follow(timeline)
        page = _page(args, arm, shapes, (-KEEP, 0.0))
        print(f"pi0_view: {args.node}, path of {arm.tool}")
        try:
            while not interrupted():
                at = now() + round(page.time.value * 1e9)
                _show(page, timeline.at(at), at)
        finally:
            page.stop()


def _shapes(arm: Arm, urdf: Path | None) -> list[Shape]:
    from pi0_ros.view.robot import package_folders, robot_shapes

    try:
        return robot_shapes(arm, package_folders(urdf))
    except UrdfError as error:
        where = "robot description" if urdf is None else f"robot description {urdf}"
        raise UrdfError([f"{where}: {problem}" for problem in error.problems]) from error


def _page(
    args: argparse.Namespace, arm: Arm, shapes: Sequence[Shape], seconds: tuple[float, float]
) -> Page:
    from pi0_ros.view.page import Page

    page = Page(arm, shapes, args.port, seconds, args.live, args.at, args.step)
    print(f"pi0_view: {page.address} (Ctrl-C ends it)", flush=True)
    return page


def _show(page: Page, moment: Moment, at: int) -> None:
    began = time.monotonic()
    page.show(moment, at)
    time.sleep(max(0.01, FRAME - (time.monotonic() - began)))


if __name__ == "__main__":
    sys.exit(main())
