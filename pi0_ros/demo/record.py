"""What the demo keeps of a run: every eighth of a second a frame, the chunks, who was touched.

All times are the robot's, nanoseconds: real time is too fast for a machine that simulates slowly.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from pi0_ros.bags.chunks import ChunkRecord, chunk_record
from pi0_ros.demo.picture import RATE
from pi0_ros.node.joint_states import positions_of
from pi0_ros.node.observation import stamp_of
from pi0_ros.ros.diagnostics import Counters, counters_from_values
from pi0_ros.sim.controller import points_of
from pi0_ros.sim.shadow import Shadow
from pi0_ros.sim.stage import JOINTS

NODE = "pi0"
_FRAME_PERIOD = 1_000_000_000 // RATE


@dataclass(frozen=True)
class Frame:
    """A picture of the front camera: its stamp, and a JPEG file."""

    stamp: int
    jpeg: bytes


@dataclass(frozen=True)
class Heard:
    """A chunk, and when it was heard."""

    time: int
    chunk: ChunkRecord


@dataclass
class Attempt:
    """An instruction and what came of it.

    Attributes:
        instruction: as it was given.
        begun, ended: when it was given, and when it was obeyed or time was up; 0 until then.
        touched: the object touched first, or None.
        right: it was the named one.
        seconds: from the instruction to the touch; None without a touch.
    """

    instruction: str
    begun: int
    ended: int = 0
    touched: str | None = None
    right: bool = False
    seconds: float | None = None

    @property
    def verdict(self) -> str:
        """What came of it, in a few words."""
        if self.touched is None:
            return f"nothing in {(self.ended - self.begun) / 1e9:.0f} s"
        judged = "right" if self.right else "WRONG"
        return f"touched the {self.touched} after {self.seconds:.1f} s, {judged}"

    def __str__(self) -> str:
        return f"{self.instruction}: {self.verdict}"


class Record:
    """Takes messages of the topics, in order of their arrival; their attributes are enough.

    Attributes:
        now: stamp of the newest joint state; 0 before the first.
        frames: of the front camera, RATE per second.
        pictures: stamps of the first and the last picture of the front camera, and how many there
            were.
        chunks: all of them.
        counters: of the node's observations, from every /diagnostics.
        statuses: what /diagnostics said last: "observations", "limits", ... -> key -> value.
        score: the tally of pi0_sim, newest; empty until one came.
        attempts: in order; the last one may still run.
        resets: times that ~/reset was called, because something had latched.
        shadow: what the controller was commanded.
    """

    def __init__(self) -> None:
        self.now = 0
        self.frames: list[Frame] = []
        self.pictures: tuple[int, int, int] = 0, 0, 0
        self.chunks: list[Heard] = []
        self.counters: list[Counters] = []
        self.statuses: dict[str, dict[str, str]] = {}
        self.score: dict[str, Any] = {}
        self.attempts: list[Attempt] = []
        self.resets = 0
        self.shadow = Shadow("jtc")

    @property
    def latched(self) -> str:
        """Why the node publishes no trajectories until ~/reset; "" if nothing is latched."""
        return self.statuses.get("limits", {}).get("latched", "")

    def on_picture(self, message: Any) -> None:
        """A sensor_msgs/CompressedImage of the front camera."""
        stamp = stamp_of(message)
        first, _, count = self.pictures
        self.pictures = (first or stamp), stamp, count + 1
        # A picture that comes a little early stands for the one that is due.
        if not self.frames or stamp - self.frames[-1].stamp >= 0.9 * _FRAME_PERIOD:
            self.frames.append(Frame(stamp, bytes(message.data)))

    def on_state(self, message: Any) -> None:
        """A sensor_msgs/JointState."""
        velocities = dict(zip(message.name, message.velocity, strict=True))
        self.now = max(self.now, stamp_of(message))
        self.shadow.state(
            stamp_of(message),
            positions_of(message, JOINTS),
            np.array([velocities[name] for name in JOINTS]),
        )

    def on_trajectory(self, message: Any) -> None:
        """A trajectory_msgs/JointTrajectory of the node."""
        self.shadow.trajectory(points_of(message))

    def on_chunk(self, message: Any) -> None:
        """A pi0_ros/ActionChunk."""
        self.chunks.append(Heard(self.now, chunk_record(message)))

    def on_diagnostics(self, message: Any) -> None:
        """A diagnostic_msgs/DiagnosticArray, of the node or of somebody else.

        Raises:
            ValueError: the node's counters cannot be read.
        """
        for status in message.status:
            name, _, about = status.name.partition(": ")
            if name.lstrip("/") == NODE:
                self.statuses[about] = {pair.key: pair.value for pair in status.values}
                if about == "observations":
                    values = self.statuses[about]
                    self.counters.append(counters_from_values(stamp_of(message), values))

    def on_score(self, message: Any) -> None:
        """A std_msgs/String with the tally of pi0_sim."""
        self.score = json.loads(message.data)
        if not self.attempts or self.score["instruction"] != self.attempts[-1].instruction:
            return
        attempt = self.attempts[-1]
        if attempt.touched is None and not attempt.ended and self.score["touched"]:
            attempt.ended = self.now
            attempt.touched, attempt.right = self.score["touched"], self.score["right"]
            attempt.seconds = self.score["seconds"]
