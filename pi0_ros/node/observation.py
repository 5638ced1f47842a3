"""The newest message of every stream, and whether they make one observation at a tick.

Pure Python: messages are used by their attributes alone, times are nanoseconds of the node's clock.
Nothing is ever filled in: an observation is complete and fresh, or it is refused with its reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pi0_ros.motion.limits import JointLimits
from pi0_ros.motion.refusal import Measured, Reason, Refusal
from pi0_ros.node.images import ImageError, check
from pi0_ros.node.joint_evidence import Publishers
from pi0_ros.node.joint_groups import JointGroups
from pi0_ros.node.joint_states import UnusableJoints, listed
from pi0_ros.node.parameter_checks import LONGEST_INSTRUCTION
from pi0_ros.node.parameters import NodeParameters
from pi0_ros.node.stream_health import FUTURE_TOLERANCE, Fault, Stream, StreamStatus
from pi0_ros.policy.types import Observation

BACK_TOLERANCE = 100_000_000
"""Nanoseconds by which a stream's stamps may go back (several publishers, a network); more is a
recording that begins anew."""

FAR_AHEAD = 1_000_000_000
"""Nanoseconds by which a joint state may lie ahead of a /clock that comes seldom."""

JOINT_STATES, INSTRUCTION = "joint states", "instruction"


@dataclass(frozen=True)
class Snapshot:
    """What one observation is made of, images still as messages.

    Attributes:
        images: camera name -> message.
        image_stamps: camera name -> nanoseconds, the camera's latency taken off.
        state: [joints] float64, radians, in the policy's order, at the oldest image's time.
        state_stamp: nanoseconds that the oldest part of the state holds for.
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
                stream = f"camera {name}"
                raise Refusal(Reason.MALFORMED, f"{stream}: {error}", stream) from error
        return Observation(images, self.state, self.instruction, self.stamp)


class ObservationBuffer:
    """Holds the newest message per stream, newest by arrival, and the joint states of a second.

    A stream's newest message decides: if it is malformed, an older good one is not used.

    Attributes:
        instruction: the task in words; "" while there is none.
        epoch: how often the streams were cleared: what was observed before is of another time.
    """

    def __init__(
        self,
        parameters: NodeParameters,
        now: Callable[[], int],
        limits: JointLimits | None = None,
        publishers: Publishers | None = None,
    ) -> None:
        """Nothing has come yet.

        Args:
            now: nanoseconds of the node's clock.
            limits: of the joints; impossible joint states are left out by them.
            publishers: a topic's publishers; None where there is no graph.
        """
        self.instruction = parameters.instruction
        self.epoch = 0
        self._now = now
        self._parameters = parameters
        self._latency = {c.name: round(c.latency * 1e9) for c in parameters.cameras}
        self._images: dict[str, Any] = {}
        self._repeated: dict[str, int] = {}
        self._states = JointGroups(
            parameters.joint_names, limits, round(parameters.joint_states_max_age * 1e9), publishers
        )
        self._bad_joints: dict[int, Fault] = {}
        topics = ", ".join(parameters.joint_states_topics)
        self._cameras = {
            c.name: _camera_stream(c.name, c.topic, c.max_age) for c in parameters.cameras
        }
        self._joint_states = Stream(
            JOINT_STATES,
            topics,
            parameters.joint_states_max_age,
            f"{JOINT_STATES} ({topics}) with the joints of this node",
            older=self._older_joints,
        )
        self._instructions = Stream(INSTRUCTION, INSTRUCTION, None, INSTRUCTION)
        self._timed = (*self._cameras.values(), self._joint_states)
        if self.instruction.strip():
            self._instructions.accept(now(), now())

    def set_parameters(self, parameters: NodeParameters) -> None:
        """Use other values from now on; cameras, joints and topics stay the same."""
        self._parameters = parameters
        self._latency = {c.name: round(c.latency * 1e9) for c in parameters.cameras}
        for camera in parameters.cameras:
            self._cameras[camera.name].max_age = camera.max_age
        self._joint_states.max_age = parameters.joint_states_max_age
        self._states.set_gap(round(parameters.joint_states_max_age * 1e9))

    def clear(self) -> None:
        """Forget images and joint states (the clock jumped); the instruction stays."""
        self._states.contradictions.clear()
        self._begin_anew()

    def _begin_anew(self) -> None:
        self.epoch += 1
        self._images.clear()
        self._repeated.clear()
        self._states.clear()
        self._bad_joints.clear()
        for stream in self._timed:
            stream.clear()

    # What comes ---------------------------------------------------------------------------------

    def put_image(self, camera: str, message: Any) -> None:
        """Keep an image, and look at it as far as that costs nothing."""
        stream, now = self._cameras[camera], self._now()
        stream.on_message(now)
        try:
            check(message, self._parameters.image_transport)
        except ImageError as error:
            stream.reject(Fault(Reason.MALFORMED, f"{stream.label}: {error}"), now)
            return
        stamp = stamp_of(message)
        stamp -= self._latency[camera] if stamp else 0
        self._watch_stamp(stream, stamp)
        repeated = self._count_repeats(camera, message, stamp)
        self._images[camera] = message
        if repeated and repeated >= self._parameters.frozen_frames:
            stream.stamp = stamp
            detail = f"one image, byte for byte, in {repeated + 1} frames"
            stream.reject(Fault(Reason.FROZEN, f"{stream.label}: {detail}"), now)
        else:
            stream.accept(stamp, now)

    def _count_repeats(self, camera: str, message: Any, stamp: int) -> int:
        """How many frames before this one, with other stamps, showed the same image."""
        if not self._parameters.frozen_frames:
            return 0
        before, last = self._images.get(camera), self._cameras[camera].stamp
        if before is None or not _same(before.data, message.data):
            self._repeated[camera] = 0
        elif stamp != last:
            self._repeated[camera] = self._repeated.get(camera, 0) + 1
        return self._repeated[camera]

    def put_joint_state(self, message: Any, topic: str = "") -> None:
        """Keep a JointState that came on a topic, unless it tells nothing of our joints.

        Several publishers may share the work (an arm and its gripper, say) on one topic or on
        several; what a message says of other joints is ignored.
        """
        stream, now = self._joint_states, self._now()
        topic = topic or self._parameters.joint_states_topics[0]
        try:
            reading = self._states.reader.read(message)
        except UnusableJoints as error:
            stream.on_message(now)
            self._reject_joints(error.columns, Reason.MALFORMED, topic, str(error))
            return
        if reading is None:
            if message.name:
                none = "" if len(message.position) else " without positions"
                stream.hint = f"; the last message names {listed(message.name)}{none}"
            return
        stream.on_message(now)
        stamp = stamp_of(message)
        untimely = ""
        if stamp <= 0:
            untimely = "its header has no stamp (0)"
        elif stamp > now + FAR_AHEAD:  # kept, it would hide those that follow
            untimely = f"stamped {(stamp - now) / 1e9:.3f} s in the future"
        if untimely:
            self._reject_joints(reading.columns, Reason.STALE, topic, untimely)
            return
        before = self._states.newest_of(topic, reading)
        if before and stamp < before - BACK_TOLERANCE:
            back = (before - stamp) / 1e9
            if not self._states.contradictions.went_back(topic, back, now):
                self._begin_anew()  # a bag that loops without a clock
        possible = self._states.put(reading, topic, stamp, now)
        contradiction = self._states.contradictions.holds(now)
        if contradiction:
            stream.reject(Fault(Reason.MALFORMED, f"{JOINT_STATES}: {contradiction}"), now)
            return
        if not possible:
            detail = "impossible: further from the last sample than the joints can move"
            stream.drop(Fault(Reason.MALFORMED, f"{JOINT_STATES} ({topic}): {detail}"), now)
            return
        for column in reading.columns if self._bad_joints else ():
            self._bad_joints.pop(column, None)
        if self._states.complete:
            bad = next(iter(self._bad_joints.values()), None)
            stream.latest = int(self._states.newest.max())
            stream.accept(int(self._states.newest.min()), now, stamp, bad)
        else:
            absent = self._states.absent()
            stream.absent = f"{JOINT_STATES} ({stream.topic}) with {absent}"
            stream.hint = ""
            stream.count_late(stamp, now)

    def _reject_joints(
        self, columns: Sequence[int], reason: Reason, topic: str, detail: str
    ) -> None:
        """A message about these joints is unusable, and so are they until a usable one comes."""
        fault = Fault(reason, f"{JOINT_STATES} ({topic}): {detail}")
        self._bad_joints.update(dict.fromkeys(columns, fault))
        self._joint_states.reject(fault, self._now())

    def _older_joints(self, stamp: int) -> str:
        older = self._states.older_than(stamp)
        return "" if len(older) in (0, len(self._states.joints)) else f", {older}"

    def put_instruction(self, text: str) -> str:
        """Take a new task.

        Returns:
            "", or why it is dropped and the last one stays.
        """
        stream, now = self._instructions, self._now()
        stream.on_message(now)
        problem = self.prompt_problem(text)
        if problem:
            stream.dropped[Reason.MALFORMED] += 1
            return problem
        self.instruction = text
        stream.accept(now, now)
        return ""

    @staticmethod
    def prompt_problem(text: str) -> str:
        """Why a text is no instruction; "" if it is one."""
        if not text.strip():
            return "the instruction is empty"
        if len(text) > LONGEST_INSTRUCTION:
            return f"{len(text)} characters, allowed are {LONGEST_INSTRUCTION}"
        return ""

    def reject(self, name: str, reason: Reason, detail: str) -> None:
        """A message of a stream turned out to be unusable elsewhere.

        Args:
            name: a camera's, "camera <name>", "joint states" or "instruction".
        """
        now = self._now()
        if name == INSTRUCTION:  # the last one stays
            self._instructions.on_message(now)
            self._instructions.dropped[reason] += 1
            return
        stream = self._joint_states
        if name != JOINT_STATES:
            stream = self._cameras[name.removeprefix("camera ")]
        named = detail.startswith(stream.name)
        stream.reject(Fault(reason, detail if named else f"{stream.label}: {detail}"), now)

    def _watch_stamp(self, stream: Stream, stamp: int) -> None:
        """Begin anew where a camera's stamps go back: a bag that loops without a clock."""
        if stream.stamp and stamp and stamp < stream.stamp - BACK_TOLERANCE:
            self._begin_anew()

    # What is made of it -------------------------------------------------------------------------

    def snapshot(self, now: int) -> Snapshot:
        """The newest message of every stream, if they make an observation at `now`.

        Raises:
            Refusal: missing, stale, malformed, frozen or skewed, in this order; the detail lists
                every stream that the reason holds for.
        """
        self._refuse_faults(now)
        stamps = {name: self._cameras[name].stamp for name in self._cameras}
        state, state_stamps = self._states.at(min(stamps.values()))
        self._refuse_skewed(stamps, state_stamps)
        images = {name: self._images[name] for name in stamps}
        return Snapshot(images, stamps, state, int(state_stamps.min()), self.instruction)

    def measured(self, now: int) -> Measured | None:
        """The newest joint state of all joints; None if it is too old, or ahead of the clock."""
        newest = self._states.measured(self._now())
        if newest is None:
            return None
        age = now - newest.stamp
        fresh = -FUTURE_TOLERANCE <= age <= self._parameters.joint_states_max_age * 1e9
        return newest if fresh else None

    def statuses(self, now: int) -> list[StreamStatus]:
        """Of cameras, joint states and instruction, in this order."""
        return [stream.status(now) for stream in (*self._timed, self._instructions)]

    def _refuse_faults(self, now: int) -> None:
        streams = (*self._timed, self._instructions)
        faults = [fault for stream in streams if (fault := stream.fault(now))]
        for reason in (Reason.MISSING, Reason.STALE, Reason.MALFORMED, Reason.FROZEN):
            details = [fault.detail for fault in faults if fault.reason == reason]
            if details:
                raise Refusal(reason, "; ".join(details))

    def _refuse_skewed(self, stamps: Mapping[str, int], state_stamps: np.ndarray) -> None:
        labelled = [(stamp, self._cameras[name].label) for name, stamp in stamps.items()]
        joints = self._joint_states.label
        labelled += [(int(stamp), joints) for stamp in (state_stamps.min(), state_stamps.max())]
        (first, oldest), (last, newest) = min(labelled), max(labelled)
        skew = (last - first) / 1e9
        if skew > self._parameters.max_skew:
            allowed = f"allowed are {self._parameters.max_skew:.3f} s"
            rate = self._joint_states.status(last).rate
            if oldest == joints and rate and rate * self._parameters.max_skew < 1:
                allowed += f"; at {rate:.1f} Hz they need a max_skew of {1.5 / rate:.2f} s"
            raise Refusal(Reason.SKEWED, f"{oldest} is {skew:.3f} s older than {newest}, {allowed}")


def _same(one: Any, other: Any) -> bool:
    """Whether two buffers hold the same bytes."""
    a, b = np.frombuffer(one, np.uint8), np.frombuffer(other, np.uint8)
    # Images that differ do so nearly everywhere: a few bytes tell.
    return len(a) == len(b) and np.array_equal(a[::4099], b[::4099]) and np.array_equal(a, b)


def _camera_stream(name: str, topic: str, max_age: float) -> Stream:
    return Stream(f"camera {name}", topic, max_age, f"image on camera {name} ({topic})")


def stamp_of(message: Any) -> int:
    """Nanoseconds in a message's header."""
    stamp = message.header.stamp
    return stamp.sec * 1_000_000_000 + stamp.nanosec
