"""What the demo keeps of a run: every eighth of a second a frame, the chunks, who was touched.

All times are the robot's, nanoseconds: real time is too fast for a machine that simulates slowly.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pi0_ros.bags.chunks import ChunkRecord, chunk_record
from pi0_ros.node.arguments import NODE_NAME
from pi0_ros.node.observation import stamp_of
from pi0_ros.ros.diagnostics import Counters, read_counters, read_statuses
from pi0_ros.sim.points import Points, points_of

RATE = 8
"""Frames that are kept per second of the robot's time, and of the GIF."""

_FRAME_PERIOD = 1_000_000_000 // RATE


@dataclass(frozen=True)
class Frame:
    """An image of the front camera: its stamp, and a JPEG file."""

    stamp: int
    jpeg: bytes


@dataclass
class Attempt:
    """An instruction and what came of it.

    Attributes:
        begun: when it was given.
        ended: when an object was touched or time was up; 0 until then.
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
        images: stamps of the first and the last image of the front camera, and their number.
        chunks: with the time at which each arrived; rejected ones apart.
        trajectories: with the time at which each arrived.
        counters: of the node's observations, from every /diagnostics.
        statuses: of the newest /diagnostics: "observations", "limits", ... -> key -> value.
        score: the tally of pi0_sim, newest; empty until one came.
        attempts: in order; the last one may still run.
        resets: how often ~/reset was called, because a fault had latched.
    """

    def __init__(self) -> None:
        self.now = 0
        self.frames: list[Frame] = []
        self.images: tuple[int, int, int] = 0, 0, 0
        self.chunks: list[tuple[int, ChunkRecord]] = []
        self.trajectories: list[tuple[int, Points]] = []
        self.counters: list[Counters] = []
        self.statuses: dict[str, dict[str, str]] = {}
        self.score: dict[str, Any] = {}
        self.attempts: list[Attempt] = []
        self.resets = 0

    @property
    def latched(self) -> str:
        """Why the node publishes no trajectories until ~/reset; "" if nothing is latched."""
        return self.statuses.get("limits", {}).get("latched", "")

    def on_image(self, message: Any) -> None:
        """A sensor_msgs/CompressedImage of the front camera."""
        stamp = stamp_of(message)
        first, _, count = self.images
        self.images = (first or stamp), stamp, count + 1
        # An image that comes a little early stands for the one that is due.
        if not self.frames or stamp - self.frames[-1].stamp >= 0.9 * _FRAME_PERIOD:
            self.frames.append(Frame(stamp, bytes(message.data)))

    def on_joint_state(self, message: Any) -> None:
        """A sensor_msgs/JointState."""
        self.now = max(self.now, stamp_of(message))

    def on_chunk(self, message: Any) -> None:
        """A pi0_ros/ActionChunk."""
        chunk = chunk_record(message)
        if not chunk.rejected:
            self.chunks.append((self.now, chunk))

    def on_trajectory(self, message: Any) -> None:
        """A trajectory_msgs/JointTrajectory of the node."""
        self.trajectories.append((self.now, points_of(message)))

    def on_diagnostics(self, message: Any) -> None:
        """A diagnostic_msgs/DiagnosticArray, of the node or of another one."""
        self.statuses |= read_statuses(message, NODE_NAME)
        counters = read_counters(message, NODE_NAME)
        if counters is not None:
            self.counters.append(counters)

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
