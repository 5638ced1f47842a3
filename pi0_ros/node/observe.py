"""The newest message of every stream, and whether they make one observation at a tick.

Pure Python: messages are used by their attributes alone, times are nanoseconds of the node's clock.
Nothing is ever filled in: an observation is complete and fresh, or it is refused with its reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pi0_ros.node.images import ImageError
from pi0_ros.node.parameters import NodeParameters
from pi0_ros.node.refusal import Refusal
from pi0_ros.policy.types import Observation

FUTURE_TOLERANCE = 100_000_000
"""Nanoseconds that a stamp may lie ahead of the node's clock (clock offset between two machines,
/clock arriving after the data it belongs to); a stamp further ahead is as useless as an old one and
counts as stale."""


@dataclass(frozen=True)
class Snapshot:
    """What one observation is made of, images still as messages.

    Attributes:
        images: camera name -> message.
        image_stamps: camera name -> nanoseconds.
        state: [joints] float64, radians, in the policy's order.
        state_stamp: nanoseconds.
        instruction: the task in words.
    """

    images: Mapping[str, Any]
    image_stamps: Mapping[str, int]
    state: np.ndarray
    state_stamp: int
    instruction: str

    @property
    def stamp(self) -> int:
        """Nanoseconds: the observation is as old as its oldest part."""
        return min(self.state_stamp, *self.image_stamps.values())

    def observation(self, to_rgb: Callable[[Any], np.ndarray]) -> Observation:
        """Decode the images.

        Args:
            to_rgb: message -> [H, W, 3] uint8 RGB.

        Raises:
            Refusal: malformed, naming the camera.
        """
        images = {}
        for name, message in self.images.items():
            try:
                images[name] = to_rgb(message)
            except ImageError as error:
                raise Refusal("malformed", f"camera {name}: {error}") from error
        return Observation(images, self.state, self.instruction, self.stamp)


class ObservationBuffer:
    """Holds the newest message per stream, newest by arrival."""

    def __init__(self, parameters: NodeParameters) -> None:
        self.instruction = parameters.instruction
        self._parameters = parameters
        self._joints = frozenset(parameters.joint_names)
        self.clear()

    def clear(self) -> None:
        """Forget images and joint states (the clock jumped); the instruction stays."""
        self._images: dict[str, Any] = {}
        self._joint_state: Any = None
        self._strangers: Sequence[str] | None = None

    def put_image(self, camera: str, message: Any) -> None:
        self._images[camera] = message

    def put_joint_state(self, message: Any) -> None:
        """Keep a JointState, unless it names none of our joints.

        Several publishers may share the topic (an arm and its base, say); a message about other
        joints only says nothing about ours. One about some of ours is kept, and refused by
        `snapshot`: half a state is a fault, and merging halves of different times would hide it.
        """
        if self._joints.isdisjoint(message.name):
            self._strangers = message.name
        else:
            self._joint_state = message
            self._strangers = None

    def snapshot(self, now: int) -> Snapshot:
        """The newest message of every stream, if they make an observation at `now`.

        Raises:
            Refusal: missing, stale, malformed (joint state) or skewed, in this order; the detail
                lists every stream that the reason holds for.
        """
        self._refuse_missing()
        stamps = {name: stamp_of(self._images[name]) for name in self._parameters.camera_names}
        state_stamp = stamp_of(self._joint_state)
        self._refuse_stale(now, stamps, state_stamp)
        try:
            state = positions_of(self._joint_state, self._parameters.joint_names)
        except ValueError as error:
            raise Refusal("malformed", f"{self._joint_stream()}: {error}") from error
        self._refuse_skewed({**self._labelled(stamps), self._joint_stream(): state_stamp})
        images = {name: self._images[name] for name in stamps}
        return Snapshot(images, stamps, state, state_stamp, self.instruction)

    def _joint_stream(self) -> str:
        return f"joint states ({self._parameters.joint_states_topic})"

    def _labelled(self, stamps: Mapping[str, int]) -> dict[str, int]:
        cameras = self._parameters.cameras
        return {f"camera {camera.name} ({camera.topic})": stamps[camera.name] for camera in cameras}

    def _strangers_seen(self) -> str:
        """What the last joint state names, where none of it is ours; else nothing."""
        return f"; the last message names {list(self._strangers)}" if self._strangers else ""

    def _refuse_missing(self) -> None:
        absent = [
            f"no image on camera {camera.name} ({camera.topic})"
            for camera in self._parameters.cameras
            if camera.name not in self._images
        ]
        if self._joint_state is None:
            stream = self._joint_stream()
            absent.append(f"no {stream} with the joints of this node{self._strangers_seen()}")
        if not self.instruction.strip():
            absent.append("no instruction")
        if absent:
            raise Refusal("missing", "; ".join(absent))

    def _refuse_stale(self, now: int, stamps: Mapping[str, int], state_stamp: int) -> None:
        limits = [camera.max_age for camera in self._parameters.cameras]
        streams = [*self._labelled(stamps).items(), (self._joint_stream(), state_stamp)]
        stale = []
        for (stream, stamp), limit in zip(
            streams, [*limits, self._parameters.joint_states_max_age], strict=True
        ):
            age = now - stamp
            if stamp == 0:
                stale.append(f"{stream}: its header has no stamp (0)")
            elif age > limit * 1e9:
                stale.append(f"{stream}: {age / 1e9:.3f} s old, allowed are {limit:.3f} s")
            elif age < -FUTURE_TOLERANCE:
                stale.append(f"{stream}: stamped {-age / 1e9:.3f} s in the future")
        if stale:
            of_joints = stale[-1].startswith(self._joint_stream())
            raise Refusal("stale", "; ".join(stale) + (self._strangers_seen() if of_joints else ""))

    def _refuse_skewed(self, stamps: Mapping[str, int]) -> None:
        oldest, newest = min(stamps, key=stamps.__getitem__), max(stamps, key=stamps.__getitem__)
        skew = (stamps[newest] - stamps[oldest]) / 1e9
        if skew > self._parameters.max_skew:
            raise Refusal(
                "skewed",
                f"{oldest} is {skew:.3f} s older than {newest},"
                f" allowed are {self._parameters.max_skew:.3f} s",
            )


def stamp_of(message: Any) -> int:
    """Nanoseconds in a message's header."""
    stamp = message.header.stamp
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def positions_of(message: Any, joints: Sequence[str]) -> np.ndarray:
    """The positions of `joints` in a sensor_msgs/JointState, in that order.

    Returns:
        [joints] float64, radians (the message's own unit for revolute joints).

    Raises:
        ValueError: lengths differ, a name occurs twice, a joint is absent or not finite.
    """
    names = list(message.name)
    if len(message.position) != len(names):
        raise ValueError(f"{len(names)} names but {len(message.position)} positions")
    doubled = [name for name, count in Counter(names).items() if count > 1]
    if doubled:
        raise ValueError(f"named more than once: {doubled}")
    by_name = dict(zip(names, message.position, strict=True))
    absent = [name for name in joints if name not in by_name]
    if absent:
        raise ValueError(f"joints missing: {absent}; the message has {names}")
    positions = np.array([by_name[name] for name in joints], dtype=np.float64)
    bad = [name for name, ok in zip(joints, np.isfinite(positions), strict=True) if not ok]
    if bad:
        raise ValueError(f"position not finite: {bad}")
    return positions
