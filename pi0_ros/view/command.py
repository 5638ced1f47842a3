"""pi0 view: shows what a pi0 node predicted, in 3D in the browser: of a replay (BAG), or of a node
that runs (--live).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pi0_ros import console
from pi0_ros.share import user_path

if TYPE_CHECKING:
    from pi0_ros.collision.kinematics import Arm
    from pi0_ros.view.page import Page
    from pi0_ros.view.robot import Shape
    from pi0_ros.view.timeline import Moment

FRAME = 0.05
"""Seconds between two states of the page."""

EPILOG = """\
The page has the robot, a ghost of it that plays the newest chunk, the tool's path of that chunk,
the cameras' images, a time slider, whether motion is enabled, and a legend of the colours. It is
served on 127.0.0.1 only. BAG needs no ROS.

Ctrl-C ends it with status 0.

examples:
  pi0 view build/demo/out --recording build/demo/bag --urdf my_arm.urdf
  pi0 view --live --node /left/pi0
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("bag", metavar="BAG", type=Path, nargs="?", help="--out of `pi0 replay`, or its bag")
    add("--live", action="store_true", help="follow a running node instead")
    text = "what was replayed, for images and joint states (default: BAG itself)"
    add("--recording", metavar="BAG", type=Path, help=text)
    add("--urdf", metavar="FILE", type=Path, help="the robot; --live takes it from its topic")
    add("--tool", metavar="LINK", default="", help="link whose path is shown (default: the last)")
    text = "images to show of the recording (default: all); may be given again"
    add("--camera", metavar="TOPIC", action="append", default=[], help=text)
    add("--at", metavar="S", type=float, help="stand still at this time of BAG, instead of playing")
    add("--step", metavar="N", type=int, help="stand the ghost at this step, instead of playing")
    add("--node", metavar="NAME", default="/pi0", help="full name of the node, for --live")
    text = "of the page on 127.0.0.1 (default: 8080); the next free one if it is taken"
    add("--port", metavar="N", type=int, default=8080, help=text)


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    if args.live == (args.bag is not None):
        parser.error("give a BAG, or --live")
    if not args.live and args.urdf is None:
        parser.error("--urdf: the robot is needed")
    if args.live and (args.recording or args.camera or args.at is not None):
        parser.error("--recording, --camera and --at are of a BAG, not of --live")
    if not args.node.startswith("/"):
        parser.error(f"--node: a full name begins with /, got {args.node!r}")
    if args.step is not None and args.step < 0:
        parser.error(f"--step: a step from 0, got {args.step}")
    if not 1 <= args.port <= 65535:
        parser.error(f"--port: must be from 1 to 65535, got {args.port}")


def run(args: argparse.Namespace) -> int:
    console.require("pinocchio", "viser", "trimesh")
    if args.live:
        console.require("rclpy", "pi0_ros.msg")
    try:
        with console.deferred_signals() as interrupted:
            (_view_live if args.live else _view_bag)(args, interrupted)
    except KeyboardInterrupt:
        pass
    return console.DONE


def _view_bag(args: argparse.Namespace, interrupted: Callable[[], bool]) -> None:
    from pi0_ros.bags.results import read_results
    from pi0_ros.collision.kinematics import read_arm
    from pi0_ros.view.recording import build_timeline, recording_of

    results = read_results(args.bag)
    arm = read_arm(user_path(args.urdf), results.joint_names, args.tool)
    shapes = _shapes(arm, args.urdf)
    recording = recording_of(results, args.recording)
    if recording is None:
        console.warn(
            f"{results.path} has no images and no joint states: the robot stands where each chunk"
            " begins. --recording names what was replayed."
        )
    seen = build_timeline(results, arm, recording, args.camera)
    seconds = (seen.end - seen.start) / 1e9
    page = _page(args, arm, shapes, (0.0, round(seconds, 2)))
    print(f"{len(results.chunks)} chunks in {seconds:.1f} s, path of {arm.tool}")
    before = time.monotonic()
    try:
        while not interrupted():
            now = time.monotonic()
            if page.playing and page.watched:
                at = page.time.value + now - before
                page.time.value = at if at <= seconds else 0.0
            before = now
            at = seen.start + round(page.time.value * 1e9)
            _show(page, seen.timeline.at(at), at)
    finally:
        page.stop()


def _view_live(args: argparse.Namespace, interrupted: Callable[[], bool]) -> None:
    from pi0_ros.collision.kinematics import Arm, read_arm
    from pi0_ros.ros.spinning import ros_node
    from pi0_ros.view.live import KEEP, Live, now
    from pi0_ros.view.timeline import Timeline

    with ros_node("pi0_view") as viewer:
        node = Live(viewer, args.node, interrupted)
        joints = node.joint_names()
        if args.urdf is None:
            arm = Arm(node.description(), joints, args.tool)
        else:
            arm = read_arm(user_path(args.urdf), joints, args.tool)
        shapes = _shapes(arm, args.urdf)
        timeline = Timeline(arm, keep=KEEP + 5)
        node.follow(timeline)
        page = _page(args, arm, shapes, (-KEEP, 0.0))
        print(f"{args.node}, path of {arm.tool}")
        try:
            while not interrupted():
                at = now() + round(page.time.value * 1e9)
                _show(page, timeline.at(at), at)
        finally:
            page.stop()


def _shapes(arm: Arm, urdf: Path | None) -> list[Shape]:
    from pi0_ros.collision.shapes import package_folders
    from pi0_ros.motion.urdf import UrdfError
    from pi0_ros.view.robot import robot_shapes

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
    print(f"{page.address} (Ctrl-C ends it)", flush=True)
    return page


def _show(page: Page, moment: Moment, at: int) -> None:
    began = time.monotonic()
    page.show(moment, at)
    time.sleep(max(0.01, FRAME - (time.monotonic() - began)))
