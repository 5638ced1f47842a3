"""The node's work on a recording, step by step in the recording's time: no DDS, no clock, no wait.

Messages go through the node's own `ObservationBuffer` when they were received; ticks lie on a grid
that begins at the first message and see what was received up to their own time. The inference takes
no time, or `latency`, in which further ticks count as busy, as in the node.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import numpy as np

from pi0_ros.bags.bag import STAMPED_TYPES, Message, header_stamp
from pi0_ros.bags.messages import decode
from pi0_ros.motion.enable import MotionEnable
from pi0_ros.motion.executor import Executor, MotionSettings
from pi0_ros.motion.limits import JointLimits
from pi0_ros.motion.refusal import Reason, Refusal
from pi0_ros.motion.trajectory import Trajectory
from pi0_ros.node.diagnostics import Counts
from pi0_ros.node.images import decompress, to_rgb
from pi0_ros.node.interface import Topic
from pi0_ros.node.observation import INSTRUCTION, JOINT_STATES, ObservationBuffer, Snapshot
from pi0_ros.node.parameters import NodeParameters
from pi0_ros.node.preflight import PolicyLike, check_chunk
from pi0_ros.policy.types import ActionChunk, Observation
from pi0_ros.replay.player import Playback
from pi0_ros.ros.diagnostics import Counters

WATCH_NS = 20_000_000
"""Nanoseconds between two looks at a running trajectory (`pi0_ros.node.control_loop`)."""


class SeededPolicy(PolicyLike, Protocol):
    """A policy whose noise can be chosen; pi0_ros.policy.policy.Policy is one."""

    def noise(self, sequence: int) -> np.ndarray:
        """Where the chunk of that number starts, by the policy's seed."""

    def infer(self, observation: Observation, noise: np.ndarray | None = None) -> ActionChunk: ...


@dataclass(frozen=True)
class Published:
    """A chunk that the node would publish at `time` (ns), as a trajectory too if `executed`.

    It took `seconds` of wall time.
    """

    time: int
    chunk: ActionChunk
    snapshot: Snapshot
    seconds: float
    executed: bool = False


@dataclass(frozen=True)
class Moved:
    """A trajectory that an enabled node would publish at `time` (ns)."""

    time: int
    trajectory: Trajectory


@dataclass(frozen=True)
class _Pending:
    due: int
    epoch: int
    published: Published


def infer(
    policy: SeededPolicy,
    snapshot: Snapshot,
    to_rgb: Callable[[Any], np.ndarray],
    number: int,
    due: int,
) -> Published:
    """The chunk of an observation from the noise of that number, to be published at `due` (ns).

    Raises:
        Refusal: malformed, when a picture cannot be decoded; failed, when the policy raises.
    """
    started = time.perf_counter()
    observation = snapshot.observation(to_rgb)
    try:
        chunk = policy.infer(observation, policy.noise(number))
    except Exception as error:  # whatever a policy raises is a refused tick, as in the node
        raise Refusal(Reason.FAILED, f"{type(error).__name__}: {error}") from error
    seconds = time.perf_counter() - started
    return Published(due, replace(chunk, sequence=number), snapshot, seconds)


def count_message(playback: Playback, message: Message, need: Topic) -> None:
    """Counts a message that is played, and how far its stamp is from its receive time.

    Raises:
        BagError: it is too short for its header.
    """
    if not playback.counts:
        playback.start = message.time
    playback.end = message.time
    playback.counts[message.topic] = playback.counts.get(message.topic, 0) + 1
    if need.type in STAMPED_TYPES:
        offset = (message.time - header_stamp(message)) / 1e9
        if abs(offset) >= abs(playback.stamp_offsets.get(message.topic, 0.0)):
            playback.stamp_offsets[message.topic] = offset


class Steps:
    """One pass through a recording.

    Attributes:
        playback: what was played, of which start and end, counts and stamp offsets are filled in.
        counters: after every refusal and at the end.
        first_refused: reason -> (ns, detail) of the first observation refused for it.
    """

    def __init__(
        self,
        parameters: NodeParameters,
        needed: Iterable[Topic],
        topics: Mapping[str, Topic],
        policy: SeededPolicy,
        *,
        limits: JointLimits | None = None,
        enable: bool = False,
        latency: float = 0.0,
    ) -> None:
        """At the beginning of an episode.

        Args:
            needed: the node's topics as `observation_topics` lists them.
            topics: topic in the recording -> which of them it is played on.
            limits: of the joints; chunks are judged by them.
            enable: make trajectories too, which needs limits.
            latency: seconds from a tick to the publication of its chunk.
        """
        self.playback = Playback()
        self.counters: list[Counters] = []
        self.first_refused: dict[str, tuple[int, str]] = {}
        self._parameters, self._policy = parameters, policy
        self._topics = topics
        self._latency = round(latency * 1e9)
        self._decode = to_rgb if parameters.image_transport == "raw" else decompress
        self._now = 0
        self._buffer = ObservationBuffer(parameters, lambda: self._now)
        self._enable = MotionEnable()
        if enable:
            self._enable.enable(0.0)
        self._executor = Executor(
            parameters.joint_names, limits, MotionSettings.of(parameters), self._enable
        )
        self._watches = 0 if enable else None
        self._pending: _Pending | None = None
        self._counts = Counts()
        buffer = self._buffer
        names = [f"camera {name}" for name in parameters.camera_names]
        puts = [partial(buffer.put_image, name) for name in parameters.camera_names]
        streams = zip(
            needed,
            [*names, JOINT_STATES, INSTRUCTION],
            [*puts, buffer.put_joint_state, lambda m: buffer.put_instruction(m.data)],
            strict=True,
        )
        self._streams = {need.name: (name, put) for need, name, put in streams}
        policy.reset()

    @property
    def latched(self) -> str:
        """Why no trajectory came any more; "" if they did."""
        return self._enable.latched

    def run(self, messages: Iterable[Message]) -> Iterator[Published | Moved]:
        """What the node would publish, in order of time.

        Args:
            messages: in order of their receive times, of the topics given.

        Raises:
            BagError: a message is too short for its header, or what `messages` raises.
        """
        for message in messages:
            if not self.playback.counts:
                self.playback.start = message.time
            yield from self._until(message.time)
            self._now = message.time
            self._put(message)
        # What is due at the last message's time, and the inference that runs then.
        if self.playback.counts:
            yield from self._until(self.playback.end + 1)
        if self._pending is not None:
            yield from self._publish(self._pending)
        self._count()

    def _put(self, message: Message) -> None:
        need = self._topics[message.topic]
        count_message(self.playback, message, need)
        name, put = self._streams[need.name]
        try:
            content = decode(message.data, need.type)
        except ValueError as error:
            self._buffer.blame(name, "malformed", str(error))
            return
        put(content)

    def _until(self, end: int) -> Iterator[Published | Moved]:
        """What happens before `end`: of one time publications first, then watching, then ticks."""
        start = self.playback.start
        while True:
            tick = start + round(self._counts.ticks * 1e9 / self._parameters.rate_hz)
            due = [(tick, 2)]
            if self._watches is not None:
                due.append((start + self._watches * WATCH_NS, 1))
            if self._pending is not None:
                due.append((self._pending.due, 0))
            at, what = min(due)
            if at >= end:
                return
            self._now = at
            if what == 0 and self._pending is not None:
                yield from self._publish(self._pending)
            elif what == 1 and self._watches is not None:
                self._watches += 1
                yield from self._stop()
            else:
                yield from self._tick()

    def _tick(self) -> Iterator[Published | Moved]:
        tick, now = self._counts.ticks, self._now
        self._counts.ticks += 1
        if self._pending is not None:
            self._counts.busy += 1
            return
        try:
            snapshot = self._buffer.snapshot(now)
            epoch = self._buffer.epoch
            published = self._infer(snapshot, tick)  # a refused tick changes no later noise
        except Refusal as refusal:
            self._refuse(refusal)
            return
        self._pending = _Pending(now + self._latency, epoch, published)
        if not self._latency:
            yield from self._publish(self._pending)

    def _infer(self, snapshot: Snapshot, tick: int) -> Published:
        due = self._now + self._latency
        return infer(self._policy, snapshot, self._decode, tick, due)

    def _publish(self, pending: _Pending) -> Iterator[Published | Moved]:
        self._pending, self._now = None, pending.due
        published = pending.published
        try:
            if pending.epoch != self._buffer.epoch:
                raise Refusal(Reason.STALE, "the streams began anew while the inference ran")
            try:
                check_chunk(published.chunk, self._policy, len(self._parameters.joints))
            except ValueError as wrong:
                raise Refusal(Reason.FAILED, str(wrong)) from wrong
            measured = self._buffer.measured(self._now)
            result = self._executor.update(published.chunk, measured, self._now)
            if isinstance(result, Refusal):
                raise result
        except Refusal as refusal:
            self._refuse(refusal)
            yield from self._stop()
            return
        if result.trajectory is not None:
            self._counts.trajectories += 1
            yield Moved(self._now, result.trajectory)
        self._counts.chunks += 1
        yield replace(published, executed=result.trajectory is not None)

    def _stop(self) -> Iterator[Moved]:
        """A stop, if motion was disabled or no chunk follows the executing trajectory."""
        planned = self._executor.tick(self._buffer.measured(self._now), self._now)
        if planned is not None:
            yield Moved(self._now, planned.trajectory)

    def _refuse(self, refusal: Refusal) -> None:
        if refusal.stream:
            self._buffer.blame(refusal.stream, refusal.reason, refusal.detail)
        self._counts.refused[refusal.reason] += 1
        self.first_refused.setdefault(refusal.reason, (self._now, refusal.detail))
        self._count()

    def _count(self) -> None:
        c = self._counts
        counters = Counters(self._now, c.ticks, c.busy, c.chunks, c.trajectories, dict(c.refused))
        self.counters.append(counters)
