"""Writes a rosbag2 of the simulated arm at work: two cameras, joint states, instructions.

The pictures are rendered and the motion is simulated; ROS is not needed. Install `mujoco` first.
"""

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from pi0_ros.sim.reach import TOUCH_SECONDS, touch_path
from pi0_ros.sim.recorder import STORAGES, BagRecorder
from pi0_ros.sim.scene import CAMERAS, CUBES, RenderError, Scene

START_NS = 1_700_000_000 * 10**9  # 2023-11-14 22:13:20 UTC: the same stamps in every bag
INSTRUCTION_HZ = 1.0  # repeated, so that a node that joins late hears it too
_CONTROL_SECONDS = 0.01  # the servos get a new target this often
_BAG_SUFFIXES = (".mcap", ".db3", ".zstd")

Event = tuple[int, Literal["instruction", "joints", "cameras"]]


@dataclass(frozen=True)
class BagSummary:
    """What was written.

    Attributes:
        path: the bag's directory.
        storage: `mcap` or `sqlite3`.
        seconds: recorded time.
        messages: topic -> number of messages.
        instructions: one per touch, in order.
        size_bytes: size of the files on disk.
        write_seconds: wall time that making the bag took.
    """

    path: str
    storage: str
    seconds: float
    messages: dict[str, int]
    instructions: list[str]
    size_bytes: int
    write_seconds: float


def write_demo_bag(
    path: str | Path,
    *,
    seconds: float = 10.0,
    camera_hz: float = 30.0,
    joint_hz: float = 100.0,
    storage: str = "mcap",
    seed: int = 0,
    compressed: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> BagSummary:
    """Simulates the arm touching the cubes one after another and records it with `rosbags`.

    The bag holds `/front/image_raw` and `/wrist/image_raw` (sensor_msgs/Image, rgb8, 640x480;
    with `compressed` sensor_msgs/CompressedImage JPEG on `<topic>/compressed` instead),
    `/joint_states` (sensor_msgs/JointState with positions and velocities) and `/instruction`
    (std_msgs/String). Header stamps are the bag's times, from START_NS. The same arguments give
    the same messages to the byte on one machine. The format is rosbag2's version 8, which
    Humble and everything newer reads; contents are zstd-compressed (MCAP in its chunks, sqlite3
    per message).

    Args:
        path: directory to create.
        seconds: recorded time, above 0. A new instruction comes every TOUCH_SECONDS.
        camera_hz, joint_hz: rates of both cameras and of the joint states, above 0.
        storage: `mcap` or `sqlite3`.
        seed: places the cubes.
        overwrite: replaces a bag that lies at `path`; anything else there is left alone.
        progress: shows a progress bar on stderr.

    Raises:
        ValueError: an argument is out of range.
        FileExistsError: something lies at `path` that may not be replaced.
        ImportError, RenderError: mujoco or OpenGL is missing; the message says what to install.
    """
    for name, value in (("seconds", seconds), ("camera_hz", camera_hz), ("joint_hz", joint_hz)):
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be a number above 0, got {value}")
    if storage not in STORAGES:
        raise ValueError(f"storage must be one of {', '.join(STORAGES)}, got {storage!r}")
    target = Path(path).absolute()
    _check_free(target, overwrite)
    from tqdm import tqdm

    began = time.perf_counter()
    scene = Scene(seed)
    events = schedule(seconds, camera_hz, joint_hz)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Written beside its place and moved there when whole: no half bag is ever taken for one.
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as work:
        draft = Path(work) / target.name
        with BagRecorder(draft, storage=storage, compressed=compressed) as recorder:
            bar = tqdm(events, desc=target.name, unit=" events", disable=not progress)
            _record(recorder, scene, bar)
        _check_free(target, overwrite)  # again: something may have come to lie there meanwhile
        if target.exists():
            target.rename(Path(work) / "replaced")
        draft.rename(target)
    return BagSummary(
        path=str(path),
        storage=storage,
        seconds=seconds,
        messages=dict(recorder.counts),
        instructions=[instruction_at(at) for at in _touch_starts(seconds)],
        size_bytes=sum(file.stat().st_size for file in target.iterdir()),
        write_seconds=round(time.perf_counter() - began, 3),
    )


def _check_free(path: Path, overwrite: bool) -> None:
    if not path.exists() and not path.is_symlink():
        return
    if not overwrite:
        raise FileExistsError(f"{path} exists; choose another directory or give --overwrite")
    if path.is_symlink() or not path.is_dir():
        raise FileExistsError(f"{path} is not a directory, so it is not replaced")
    foreign = sorted(
        entry.name
        for entry in path.iterdir()
        if entry.name != "metadata.yaml" and entry.suffix not in _BAG_SUFFIXES
    )
    if foreign:
        raise FileExistsError(
            f"{path} holds more than a bag ({', '.join(foreign[:5])}), so it is not replaced"
        )


def schedule(seconds: float, camera_hz: float, joint_hz: float) -> list[Event]:
    """What is recorded when: (nanoseconds from the start, kind), in order of time."""
    rates = (("instruction", INSTRUCTION_HZ), ("joints", joint_hz), ("cameras", camera_hz))
    events = {
        (round(i * 1e9 / hz), order, kind)
        for order, (kind, hz) in enumerate(rates)
        for i in range(math.ceil(seconds * hz - 1e-9))
    }
    # A new instruction is heard at the moment when the arm starts to follow it.
    events |= {(at, 0, "instruction") for at in _touch_starts(seconds)}
    return [(at, kind) for at, _, kind in sorted(events)]


def _touch_starts(seconds: float) -> list[int]:
    """When the arm sets out for a cube, nanoseconds from the start."""
    count = math.ceil(seconds / TOUCH_SECONDS - 1e-9)
    return [round(touch * TOUCH_SECONDS * 1e9) for touch in range(count)]


def _touch(at: int) -> tuple[int, str]:
    """Number and cube colour of the touch under way at a time in nanoseconds from the start."""
    touch = int((at + 1) / (TOUCH_SECONDS * 1e9))  # + 1: the starts are rounded
    return touch, list(CUBES)[touch % len(CUBES)]


def instruction_at(at: int) -> str:
    """The instruction in force at a time in nanoseconds from the start."""
    return f"touch the {_touch(at)[1]} cube"


def _record(recorder: BagRecorder, scene: Scene, events: Iterable[Event]) -> None:
    """Lets the scene live through the events, which are in order of time, and records them."""
    try:
        now = 0
        touch, colour = _touch(now)
        path = touch_path(scene, colour)
        for at, kind in events:
            while now < at:
                step = min(at - now, round(_CONTROL_SECONDS * 1e9))
                scene.command(path(now / 1e9 - touch * TOUCH_SECONDS))
                scene.advance(step / 1e9)
                now += step
            if _touch(at)[0] != touch:
                touch, colour = _touch(at)
                path = touch_path(scene, colour)
            stamp = START_NS + at
            if kind == "instruction":
                recorder.instruction(stamp, instruction_at(at))
            elif kind == "joints":
                recorder.joint_states(stamp, scene.joint_positions(), scene.joint_velocities())
            else:
                for camera in CAMERAS:
                    recorder.image(stamp, camera, scene.render(camera))
    finally:
        scene.close()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pi0_demo_bag",
        description="Write a rosbag2 of a simulated SO-101 arm that touches coloured cubes: two "
        "640x480 cameras, joint states and instructions. Needs the Python package mujoco; "
        "needs no ROS, no display and no GPU.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("directory", metavar="DIR", type=Path, help="bag directory to create")
    parser.add_argument("--seconds", type=float, default=10.0, help="recorded time")
    parser.add_argument("--camera-hz", type=float, default=30.0, help="rate of each camera")
    parser.add_argument("--joint-hz", type=float, default=100.0, help="rate of the joint states")
    parser.add_argument("--storage", choices=STORAGES, default="mcap", help="rosbag2 storage")
    parser.add_argument("--seed", type=int, default=0, help="places the cubes")
    parser.add_argument(
        "--compressed",
        action="store_true",
        help="JPEG pictures on /front/image_raw/compressed and /wrist/image_raw/compressed "
        "instead of raw ones",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the bag at DIR")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the summary here too")
    return parser


def main(argv: list[str] | None = None) -> int:
    """The command `pi0_demo_bag`. Returns the exit status."""
    parser = _parser()
    args = parser.parse_args(argv)
    # Found out before the bag is made, not after. DIR and the folders above it will be made.
    if args.json is not None:
        folder, directory = args.json.parent, args.directory.absolute()
        if not folder.is_dir() and folder.absolute() not in (directory, *directory.parents):
            parser.error(f"--json: the folder {folder} does not exist")
    try:
        summary = write_demo_bag(
            args.directory,
            seconds=args.seconds,
            camera_hz=args.camera_hz,
            joint_hz=args.joint_hz,
            storage=args.storage,
            seed=args.seed,
            compressed=args.compressed,
            overwrite=args.overwrite,
            progress=True,
        )
        # The figures first: a file that cannot be written must not cost them.
        _print_summary(summary)
        if args.json:
            args.json.write_text(json.dumps(asdict(summary), indent=2) + "\n", encoding="utf-8")
    except (ValueError, OSError, ImportError, RenderError) as error:
        print(f"pi0_demo_bag: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("pi0_demo_bag: interrupted, no bag written", file=sys.stderr)
        return 130
    return 0


def _print_summary(summary: BagSummary) -> None:
    print(f"{summary.path} ({summary.storage}, {summary.size_bytes / 1e6:.1f} MB)")
    for topic, count in sorted(summary.messages.items()):
        print(f"  {topic:<32} {count:>6} messages")
    print(f"  {summary.seconds:g} s recorded in {summary.write_seconds:.1f} s")


if __name__ == "__main__":
    sys.exit(main())
