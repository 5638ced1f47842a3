"""What was seen, measured and predicted along time, and how it stood at a moment."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np

from pi0_ros.bags.chunks import EXECUTED, ChunkRecord
from pi0_ros.bags.images import thumbnail
from pi0_ros.collision.kinematics import Arm
from pi0_ros.viz.scene import TRAIL, Scene, ToolPath, tool_path

IMAGE_WIDTH = 320
"""Pixels to which images are made smaller."""

ENABLED, DRY_RUN, LATCHED = "enabled", "dry run: not enabled", "latched"
"""How states begin."""

IMAGE_PERIOD = 80_000_000
"""Nanoseconds between two images of a camera that are kept at least."""

_SECOND = 1_000_000_000
T = TypeVar("T")


@dataclass(frozen=True)
class Moment:
    """How things stood at a time.

    Attributes:
        joints: joint -> radians, as measured; empty before the first joint state.
        chunk: the newest one; None before the first.
        scene: it and those before it, to draw.
        images: camera -> JPEG of its newest image.
        state: whether motion is enabled, in a sentence; "" where nothing tells.
    """

    joints: Mapping[str, float]
    chunk: ChunkRecord | None
    scene: Scene
    images: Mapping[str, bytes]
    state: str = ""


@dataclass
class _Track(Generic[T]):
    """Things in the order of their times."""

    times: list[int] = field(default_factory=list)
    things: list[T] = field(default_factory=list)

    def add(self, time: int, thing: T) -> None:
        self.times.append(time)
        self.things.append(thing)

    def newest(self, time: int) -> T | None:
        """The last thing that is not later."""
        k = bisect_right(self.times, time)
        return self.things[k - 1] if k else None

    def between(self, after: int, until: int) -> list[tuple[int, T]]:
        """Times and things later than `after` and not later than `until`."""
        part = slice(bisect_right(self.times, after), bisect_right(self.times, until))
        return list(zip(self.times[part], self.things[part], strict=True))

    def drop(self, until: int) -> None:
        """Forget what is older, but the newest of that: it held on."""
        k = bisect_right(self.times, until) - 1
        if k > 0:
            del self.times[:k], self.things[:k]


class Timeline:
    """Everything with its time in nanoseconds, each kind in order; threads may share it."""

    def __init__(self, arm: Arm, keep: float | None = None) -> None:
        """Nothing yet.

        Args:
            arm: draws the chunks.
            keep: seconds after which things are forgotten; None: never.
        """
        self._arm = arm
        self._keep = keep
        self._lock = threading.Lock()
        self._chunks: _Track[tuple[ChunkRecord, ToolPath]] = _Track()
        self._rejected: _Track[tuple[np.ndarray, str]] = _Track()
        self._joints: _Track[dict[str, float]] = _Track()
        self._images: dict[str, _Track[bytes]] = {}
        self._states: _Track[str] = _Track()

    def add_chunk(self, time: int, chunk: ChunkRecord) -> None:
        if chunk.rejected:
            finite = np.isfinite(chunk.positions).all(axis=1)
            places = self._arm.tool_poses(chunk.positions[finite])[0]
            self._add(self._rejected, time, (places, chunk.rejected_reason))
            return
        path = tool_path(self._arm, chunk, chunk.verdict == EXECUTED)
        self._add(self._chunks, time, (chunk, path))

    def add_joints(self, time: int, joints: Mapping[str, float]) -> None:
        """Joints were measured; what is not among them stays as it was."""
        before = self._joints.things[-1] if self._joints.things else {}
        self._add(self._joints, time, {**before, **joints})

    def add_state(self, time: int, state: str) -> None:
        """The node told whether motion is enabled."""
        self._add(self._states, time, state)

    def wants_image(self, camera: str, time: int) -> bool:
        """Whether an image would be kept: not, if there is one from just before."""
        times = self._images[camera].times if camera in self._images else []
        return not times or not 0 <= time - times[-1] < IMAGE_PERIOD

    def add_image(self, camera: str, time: int, rgb: np.ndarray) -> None:
        """A camera's image, [height, width, 3] uint8."""
        jpeg = thumbnail(rgb, IMAGE_WIDTH)
        with self._lock:
            track = self._images.setdefault(camera, _Track())
        self._add(track, time, jpeg)

    def _add(self, track: _Track[T], time: int, thing: T) -> None:
        with self._lock:
            track.add(time, thing)
            if self._keep is not None:
                track.drop(time - round(self._keep * _SECOND))

    def at(self, time: int) -> Moment:
        with self._lock:
            newest = self._chunks.newest(time)
            recent = self._chunks.between(time - round((TRAIL + 1) * _SECOND), time)
            rejected = self._rejected.between(time - _SECOND, time)
            joints = self._joints.newest(time) or {}
            state = self._states.newest(time)
            images = {camera: track.newest(time) for camera, track in self._images.items()}
        scene = Scene()
        if newest is not None and not recent:  # an old one, of which nothing came after
            recent = [(newest[0].stamp, newest)]
        for published, (_, path) in recent:
            scene.add(path, published)
        for refused, (places, why) in rejected:
            scene.reject(places, why, refused)
        chunk = newest and newest[0]
        if not state and chunk:  # where the node's own word was not recorded
            state = ENABLED if chunk.verdict == EXECUTED else DRY_RUN
        seen = {camera: image for camera, image in images.items() if image is not None}
        return Moment(joints, chunk, scene, seen, state or "")
