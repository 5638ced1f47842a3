"""Writes a rosbag2 of the simulated arm at work: two cameras, joint states, instructions.

The images are rendered and the motion is simulated; ROS is not needed.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from pi0_ros import console
from pi0_ros.bags.bag import IMAGE_TYPES, STATES_TYPE
from pi0_ros.bags.messages import make, make_header, make_image
from pi0_ros.bags.writer import BagWriter
from pi0_ros.sim.cameras import jpeg
from pi0_ros.sim.expert import CONTROL_SECONDS, Expert
from pi0_ros.sim.stage import JOINTS
from pi0_ros.sim.world import World

START_NS = 1_700_000_000 * 10**9  # 2023-11-14 22:13:20 UTC: the same stamps in every bag
TOUCH_SECONDS = 10 / 3
"""From one instruction to the next."""

INSTRUCTION_HZ = 1.0  # repeated, for a node that starts late
_COMMAND = 10_000_000  # nanoseconds between two commands of the servos

Event = tuple[int, str]
"""Nanoseconds from the start, and what is recorded: "instruction", "joints" or "cameras"."""


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
) -> dict[str, Any]:
    """Simulate the arm touching the objects of a scene one after another, and record it.

    The bag holds `/front/image_raw` and `/wrist/image_raw` (sensor_msgs/Image, rgb8, 640x480;
    with `compressed` sensor_msgs/CompressedImage JPEG on `<topic>/compressed` instead),
    `/joint_states` (sensor_msgs/JointState with positions and velocities) and `/instruction`
    (std_msgs/String). Header stamps are the bag's times, from START_NS. The same arguments give
    the same messages to the byte on one machine. Contents are zstd-compressed.

    Args:
        path: folder to create; see `console.claim_folder`.
        seconds: recorded time, above 0. A new instruction comes every TOUCH_SECONDS.
        camera_hz, joint_hz: rates of both cameras and of the joint states, above 0.
        storage: `mcap` or `sqlite3`.
        seed: of the scene.

    Returns:
        The figures of `--json`: path, storage, seconds, messages (topic -> number), instructions,
        size_bytes, write_seconds.

    Raises:
        UserError: a bag is there that may not be replaced; mujoco is missing.
        RenderError: OpenGL is missing; the text has what to install.
    """
    began = time.perf_counter()
    path = Path(path)
    files = ["metadata.yaml", *(f"{path.name}.{suffix}" for suffix in ("mcap", "db3"))]
    console.claim_folder(path, files, overwrite)
    recorder = _Recorder(World(seed), compressed)
    # Written beside its place and moved there when whole: no half bag is ever taken for one.
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.absolute().parent) as work:
        draft = Path(work) / path.name
        with BagWriter(draft, storage, compressed=True) as writer:
            events = schedule(seconds, camera_hz, joint_hz)
            recorder.record(writer, console.progress(events, desc=path.name, unit=" events"))
        for file in sorted(draft.iterdir()):
            file.rename(path / file.name)
    starts = range(0, round(seconds * 1e9), round(TOUCH_SECONDS * 1e9))
    return {
        "path": str(path),
        "storage": storage,
        "seconds": seconds,
        "messages": dict(writer.counts),
        "instructions": [recorder.instruction(at) for at in starts],
        "size_bytes": sum((path / f).stat().st_size for f in files if (path / f).exists()),
        "write_seconds": round(time.perf_counter() - began, 3),
    }


def schedule(seconds: float, camera_hz: float, joint_hz: float) -> list[Event]:
    """What is recorded when, in order of time."""
    rates = (
        (0, "instruction", INSTRUCTION_HZ),
        (0, "instruction", 1 / TOUCH_SECONDS),  # a new one comes when the arm begins to follow it
        (1, "joints", joint_hz),
        (2, "cameras", camera_hz),
    )
    events = {
        (round(i * 1e9 / hz), order, kind)
        for order, kind, hz in rates
        for i in range(math.ceil(seconds * hz - 1e-9))
    }
    return [(at, kind) for at, _, kind in sorted(events)]


class _Recorder:
    """Simulates a world up to each event, and writes what its sensors measure."""

    def __init__(self, world: World, compressed: bool) -> None:
        self._world, self._compressed = world, compressed

    def instruction(self, at: int) -> str:
        """The instruction in force at a time in nanoseconds from the start."""
        instructions = self._world.instructions()
        return instructions[int((at + 1) / (TOUCH_SECONDS * 1e9)) % len(instructions)]

    def record(self, writer: BagWriter, events: Iterable[Event]) -> None:
        """Write the messages of the events, which are in order of time; closes the world."""
        try:
            arm = _Arm(self._world)
            for at, kind in events:
                arm.move(self.instruction(max(at - 1, 0)), at)
                for topic, message in self._messages(at, kind):
                    writer.write_message(topic, START_NS + at, message)
        finally:
            self._world.close()

    def _messages(self, at: int, kind: str) -> Iterable[tuple[str, Any]]:
        world, stamp = self._world, START_NS + at
        if kind == "instruction":
            yield "/instruction", make("std_msgs/msg/String", data=self.instruction(at))
        elif kind == "joints":
            state = make(
                STATES_TYPE,
                header=make_header(stamp),
                name=list(JOINTS),
                position=world.positions,
                velocity=world.velocities,
                effort=np.zeros(0),
            )
            yield "/joint_states", state
        else:
            suffix = "/compressed" if self._compressed else ""
            for camera, image in world.images().items():
                message = self._image(stamp, f"{camera}_camera_optical_frame", image)
                yield f"/{camera}/image_raw{suffix}", message

    def _image(self, stamp: int, frame: str, image: np.ndarray) -> Any:
        """The message of an image, [H, W, 3] uint8 RGB."""
        if not self._compressed:
            return make_image(stamp, image, frame)
        # The format as image_transport's publisher has it.
        fields = {"format": "rgb8; jpeg compressed bgr8", "data": jpeg(image)}
        return make(IMAGE_TYPES[1], header=make_header(stamp, frame), **fields)


class _Arm:
    """The arm of a world, moved by the expert; between its actions the command is interpolated."""

    def __init__(self, world: World) -> None:
        self._world, self._expert = world, Expert(world)
        self._now = 0
        self._decided = 0  # nanoseconds of the last decision
        self._from = self._to = world.positions

    def move(self, instruction: str, until: int) -> None:
        """Move towards an object until a time in nanoseconds from the start."""
        period = round(CONTROL_SECONDS * 1e9)
        while self._now < until:
            if self._now % period == 0:
                self._from, self._decided = self._to, self._now
                self._to = self._expert.chunk(instruction, horizon=1)[0]
            step = min(until, (self._now // _COMMAND + 1) * _COMMAND) - self._now
            self._now += step
            share = min(1.0, (self._now - self._decided) / period)
            self._world.step(self._from + share * (self._to - self._from), step / 1e9)
