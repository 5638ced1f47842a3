"""The node's work on a recording, step by step in the recording's time: no DDS, no clock, no wait.

Messages go through the node's own `ObservationBuffer` when they were received; ticks lie on a grid
that begins at the first message and see what was received up to their own time. The inference takes
no time, or `latency`, in which further ticks count as busy, as in the node. Chunks go through the
node's own `Executor`; neither an emergency stop nor a deadman is looked at.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from pi0_ros.bags.bag import Message
from pi0_ros.bags.chunks import DRY_RUN, EXECUTED, REJECTED, ChunkRecord
from pi0_ros.motion.enable import MotionEnable
from pi0_ros.motion.executor import Executor, MotionSettings
from pi0_ros.motion.limits import JointLimits
from pi0_ros.motion.refusal import Reason, Refusal
from pi0_ros.motion.rtc import MODES, NO_AGREEMENT, Agreement, RealTimeChunking, RtcSettings
from pi0_ros.motion.screening import check_shape
from pi0_ros.motion.spline import Motion, Trajectory
from pi0_ros.node.images import decompress, to_rgb
from pi0_ros.node.interface import Interface, Topic
from pi0_ros.node.loading import PolicyLike
from pi0_ros.node.observation import ObservationBuffer, Snapshot
from pi0_ros.node.progress import Counts
from pi0_ros.policy.types import ActionChunk, ActionPrefix, Observation
from pi0_ros.replay.feed import Feed
from pi0_ros.replay.player import Playback
from pi0_ros.ros.diagnostics import Counters

TICK_NS = 20_000_000
"""Nanoseconds between two ticks of the executor (`pi0_ros.node.control_loop`)."""


class SeededPolicy(PolicyLike, Protocol):
    """A policy whose noise can be chosen; pi0_ros.policy.policy.Policy is one."""

    def noise(self, sequence: int) -> np.ndarray:
        """Where the chunk of that number starts, by the policy's seed."""

    def infer(
        self,
        observation: Observation,
        noise: np.ndarray | None = None,
        prefix: ActionPrefix | None = None,
    ) -> ActionChunk: ...


@dataclass(frozen=True)
class Published:
    """A chunk that the node would publish.

    Attributes:
        time: when, ns.
        snapshot: what it was made of.
        seconds: of wall time that it took.
        verdict, reason: as `ChunkRecord` has them.
        agreement: what it was made to agree with.
    """

    time: int
    chunk: ActionChunk
    snapshot: Snapshot
    seconds: float
    verdict: int = DRY_RUN
    reason: str = ""
    agreement: Agreement = NO_AGREEMENT

    def record(self, joints: Sequence[str]) -> ChunkRecord:
        stamps = self.snapshot.image_stamps
        prefix = self.agreement.prefix
        return ChunkRecord(
            stamp=self.chunk.stamp,
            sequence=self.chunk.sequence,
            instruction=self.snapshot.instruction,
            joint_names=tuple(joints),
            positions=self.chunk.positions,
            dt=self.chunk.dt,
            camera_ages=tuple((self.time - stamp) / 1e9 for stamp in stamps.values()),
            inference_time=self.seconds,
            seed=self.chunk.seed,
            camera_names=tuple(stamps),
            joint_states_age=(self.time - self.snapshot.state_stamp) / 1e9,
            verdict=self.verdict,
            rejected_reason=self.reason,
            rtc=MODES.index(self.agreement.rtc),
            rtc_fallback=self.agreement.fallback,
            rtc_delay=0 if prefix is None else prefix.delay,
            rtc_weights=() if prefix is None else tuple(prefix.weights.tolist()),
        )


@dataclass(frozen=True)
class Moved:
    """A trajectory that an enabled node would publish at `time` (ns), and the motion of the arm."""

    time: int
    trajectory: Trajectory
    motion: Motion


class Pass:
    """What every pass through a recording counts.

    Attributes:
        playback: the messages.
        counters: the node's, after every refusal and at the end.
        first_refused: reason -> (ns, detail) of the first observation refused for it.
        latched: why no trajectory came any more; "" if they did.
    """

    latched = ""

    def __init__(
        self, interface: Interface, topics: Mapping[str, Topic], policy: SeededPolicy
    ) -> None:
        """At the beginning of an episode; `topics` as `Case` has them."""
        self.playback = Playback({topic: need.type for topic, need in topics.items()})
        self.counters: list[Counters] = []
        self.first_refused: dict[str, tuple[int, str]] = {}
        self._parameters, self._topics, self._policy = interface.parameters, topics, policy
        self._observed = interface.observed
        self._to_rgb = to_rgb if self._parameters.image_transport == "raw" else decompress
        self._counts = Counts()
        self._now = 0
        policy.reset()

    def run(self, messages: Iterable[Message]) -> Iterator[Published | Moved]:
        """What the node would publish, in order of time; so are the messages."""
        raise NotImplementedError

    def _infer(
        self, snapshot: Snapshot, number: int, due: int, agreement: Agreement = NO_AGREEMENT
    ) -> Published:
        """The chunk of an observation from the noise of that number, to be published at `due` (ns).

        Raises:
            Refusal: malformed, when an image cannot be decoded; failed, when the policy raises.
        """
        started = time.perf_counter()
        observation = snapshot.observation(self._to_rgb)
        try:
            more = {} if agreement.prefix is None else {"prefix": agreement.prefix}
            chunk = self._policy.infer(observation, self._policy.noise(number), **more)
        except Exception as error:  # whatever a policy raises is a refused tick, as in the node
            raise Refusal(Reason.FAILED, f"{type(error).__name__}: {error}") from error
        seconds = time.perf_counter() - started
        chunk = replace(chunk, sequence=number)
        return Published(due, chunk, snapshot, seconds, agreement=agreement)

    def _check(self, chunk: ActionChunk) -> None:
        """Raises a Refusal where the policy returned something else than a chunk."""
        check_shape(chunk, self._policy.horizon, len(self._parameters.joints))

    def _refuse(self, refusal: Refusal) -> None:
        self._counts.refused[refusal.reason] += 1
        self.first_refused.setdefault(str(refusal.reason), (self._now, refusal.detail))
        self._count()

    def _count(self) -> None:
        c = self._counts
        refused = {str(reason): count for reason, count in c.refused.items()}
        self.counters.append(
            Counters(self._now, c.ticks, c.busy, c.chunks, c.trajectories, refused)
        )


class Steps(Pass):
    """The node's own ticks."""

    def __init__(
        self,
        interface: Interface,
        topics: Mapping[str, Topic],
        policy: SeededPolicy,
        *,
        limits: JointLimits | None = None,
        check: Callable[[Motion], Refusal | None] | None = None,
        enable: bool = False,
        latency: float = 0.0,
    ) -> None:
        """At the beginning of an episode.

        Args:
            limits: of the joints; chunks are judged by them.
            check: see `pi0_ros.motion.executor.Executor`.
            enable: make trajectories too, which needs limits.
            latency: seconds from a tick to the publication of its chunk.
        """
        super().__init__(interface, topics, policy)
        parameters = self._parameters
        self._latency = round(latency * 1e9)
        self._buffer = buffer = ObservationBuffer(parameters, lambda: self._now, limits)
        self._enable = MotionEnable()
        if enable:
            self._enable.enable(0.0)
        self._executor = Executor(
            parameters.joint_names,
            limits,
            MotionSettings.of(parameters),
            self._enable,
            recorded=True,
            check=check,
        )
        self._rtc = RealTimeChunking(RtcSettings.of(parameters))
        self._executor_ticks = 0 if enable else None
        self._pending: tuple[int, Published] | None = None  # the buffer's epoch, what is to come
        self._feed = Feed(interface, topics, buffer)

    @property
    def latched(self) -> str:
        return self._enable.latched

    def run(self, messages: Iterable[Message]) -> Iterator[Published | Moved]:
        for message in messages:
            if not self.playback.counts:
                self.playback.start = message.time
            yield from self._until(message.time)
            self._now = message.time
            self.playback.count(message)
            self._feed.put(message)
        # What is due at the last message's time, and the inference that runs then.
        if self.playback.counts:
            yield from self._until(self.playback.end + 1)
        if self._pending is not None:
            yield from self._publish()
        self._count()

    def _until(self, end: int) -> Iterator[Published | Moved]:
        """What happens before `end`; of one time chunks come first, then stops, then ticks."""
        start = self.playback.start
        while True:
            tick = start + round(self._counts.ticks * 1e9 / self._parameters.rate_hz)
            due = [(tick, 2)]
            if self._executor_ticks is not None:
                due.append((start + self._executor_ticks * TICK_NS, 1))
            if self._pending is not None:
                due.append((self._pending[1].time, 0))
            at, what = min(due)
            if at >= end:
                return
            self._now = at
            if what == 0:
                yield from self._publish()
            elif what == 1:
                self._executor_ticks += 1
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
            # By the tick's number: a refused tick changes no later noise.
            agreement = self._rtc.prepare(
                self._executor.executing,
                snapshot.stamp,
                snapshot.instruction,
                self._parameters.action_dt,
                self._policy,
            )
            published = self._infer(snapshot, tick, now + self._latency, agreement)
        except Refusal as refusal:
            self._refuse(refusal)
            return
        self._pending = epoch, published
        if not self._latency:
            yield from self._publish()

    def _publish(self) -> Iterator[Published | Moved]:
        epoch, published = self._pending
        self._pending, self._now = None, published.time
        try:
            if epoch != self._buffer.epoch:
                raise Refusal(Reason.STALE, "the streams began anew while the inference ran")
            self._check(published.chunk)
        except Refusal as refusal:
            self._refuse(refusal)
            return
        measured = self._buffer.measured(self._now)
        result = self._executor.update(published.chunk, measured, self._now)
        if isinstance(result, Refusal):
            self._refuse(result)
            yield replace(published, verdict=REJECTED, reason=str(result))
            if not self._enable.enabled:  # it may have latched
                yield from self._stop()
            return
        if result.trajectory is not None:
            self._counts.trajectories += 1
            instruction = published.snapshot.instruction
            self._rtc.executed(published.chunk, result.splice_at, instruction)
            yield Moved(self._now, result.trajectory, result.motion)
        self._counts.chunks += 1
        yield replace(published, verdict=EXECUTED if result.trajectory is not None else DRY_RUN)

    def _stop(self) -> Iterator[Moved]:
        """A stop, if motion was disabled or no chunk follows the executing trajectory."""
        planned = self._executor.tick(self._buffer.measured(self._now), self._now)
        if planned is not None:
            self._rtc.drop("stop")
            yield Moved(self._now, planned.trajectory, planned.motion)

    def _refuse(self, refusal: Refusal) -> None:
        if refusal.stream:
            self._buffer.reject(refusal.stream, refusal.reason, refusal.detail)
        super()._refuse(refusal)
