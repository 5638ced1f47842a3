"""Chunks computed again, each from the pictures, the state, the task and the noise it was made of.

A node on a busy machine loses pictures and misses ticks, so what it saw need not come up where a
recording is stepped through. Here every observation is put together as the chunk describes it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pi0_ros.bags.bag import Message
from pi0_ros.bags.messages import decode
from pi0_ros.bags.results import SAME_STAMP, TimedChunk
from pi0_ros.motion.refusal import Refusal
from pi0_ros.node.images import decompress, to_rgb
from pi0_ros.node.interface import Topic
from pi0_ros.node.joint_states import KEPT, JointHistory, Sample, read_sample
from pi0_ros.node.observation import Snapshot, stamp_of
from pi0_ros.node.parameters import NodeParameters
from pi0_ros.node.preflight import check_chunk
from pi0_ros.replay.player import Playback
from pi0_ros.replay.steps import Published, SeededPolicy, count_message, infer
from pi0_ros.ros.diagnostics import Counters

SPAN = 1_000_000_000
"""Nanoseconds between the oldest and the newest part of an observation at most."""


class Again:
    """One pass through a recording.

    Attributes:
        playback, counters, first_refused: as of `pi0_ros.replay.steps.Steps`; a tick is a chunk
            whose observation came up.
        wanted: chunks not computed yet.
        missed: how many had observations that did not come up in time.
    """

    latched = ""

    def __init__(
        self,
        parameters: NodeParameters,
        needed: Iterable[Topic],
        topics: Mapping[str, Topic],
        policy: SeededPolicy,
        chunks: Sequence[TimedChunk],
    ) -> None:
        """`needed` and `topics` as of `Steps`; `chunks`: to be computed again."""
        self.playback = Playback()
        self.counters: list[Counters] = []
        self.first_refused: dict[str, tuple[int, str]] = {}
        self.missed = 0
        self.wanted = sorted(chunks, key=lambda timed: timed.chunk.stamp)
        self._parameters, self._topics, self._policy = parameters, topics, policy
        self._decode = to_rgb if parameters.image_transport == "raw" else decompress
        self._latency = {c.name: round(c.latency * 1e9) for c in parameters.cameras}
        names = [*parameters.camera_names, "joint states", "instruction"]
        played = (need.name for need in needed)
        self._names = dict(zip(played, names, strict=True))
        self._images: dict[str, deque[tuple[int, Any]]] = {
            name: deque() for name in parameters.camera_names
        }
        self._states = JointHistory(KEPT)
        self._samples: deque[Sample] = deque()
        self._ticks = self._chunks = 0
        self._refused: dict[str, int] = {}
        policy.reset()

    def run(self, messages: Iterable[Message]) -> Iterator[Published]:
        """The chunks, as their observations come up.

        Args:
            messages: in order of their receive times, of the topics given.

        Raises:
            BagError: a message is too short for its header, or what `messages` raises.
        """
        for message in messages:
            need = self._topics[message.topic]
            count_message(self.playback, message, need)
            self._keep(self._names[need.name], message, need.type)
            yield from self._compute(message.time)
        self._count(self.playback.end)

    def _keep(self, name: str, message: Message, kind: str) -> None:
        """Keep a picture or a joint state; what cannot be read was refused before, too."""
        if name == "instruction":
            return
        try:
            content = decode(message.data, kind)
            if name not in self._images:
                joints = self._parameters.joint_names
                self._samples.append(read_sample(content, joints, stamp_of(content)))
                self._states.put(self._samples[-1])
                while self._samples[0].stamp < self._samples[-1].stamp - SPAN:
                    self._samples.popleft()
                return
        except ValueError:
            return
        kept, stamp = self._images[name], stamp_of(content) - self._latency[name]
        kept.append((stamp, content))
        while kept[0][0] < stamp - SPAN:
            kept.popleft()

    def _compute(self, now: int) -> Iterator[Published]:
        """The wanted chunks whose observations are complete."""
        newest = self._samples[-1].stamp if self._samples else 0
        left: list[TimedChunk] = []
        for timed in self.wanted:
            snapshot = None
            if timed.chunk.stamp <= newest:
                snapshot = self._snapshot(timed, newest)
            if snapshot is None:
                left.append(timed)
                continue
            self._ticks += 1
            try:
                number = timed.chunk.sequence
                published = infer(self._policy, snapshot, self._decode, number, now)
                check_chunk(published.chunk, self._policy, len(self._parameters.joints))
            except (Refusal, ValueError) as error:
                self._refuse(error, now)
            else:
                self._chunks += 1
                yield published
        self.missed += sum(timed.chunk.stamp < newest - SPAN for timed in left)
        self.wanted = [timed for timed in left if timed.chunk.stamp >= newest - SPAN]

    def _snapshot(self, timed: TimedChunk, newest: int) -> Snapshot | None:
        """What a chunk was made of; None while something of it has not come."""
        stamps = dict(zip(timed.chunk.camera_names, timed.camera_stamps, strict=True))
        images: dict[str, Any] = {}
        exact: dict[str, int] = {}
        for name, kept in self._images.items():
            near = [one for one in kept if abs(one[0] - stamps.get(name, -SPAN)) <= SAME_STAMP]
            if not near:
                return None
            exact[name], images[name] = near[-1]
        oldest = min(exact.values())
        wanted = timed.state_stamp
        # Interpolated at the oldest picture; or a sample's own, where there was none around that.
        time = oldest if abs(wanted - oldest) <= SAME_STAMP else wanted
        if newest < time:
            return None
        state, stamp = self._states.at(time)
        if time != oldest:
            sample = min(self._samples, key=lambda sample: abs(sample.stamp - time))
            state, stamp = sample.positions, sample.stamp
        return Snapshot(images, exact, state, stamp, timed.chunk.instruction)

    def _refuse(self, error: Exception, now: int) -> None:
        reason = error.reason if isinstance(error, Refusal) else "failed"
        self._refused[reason] = self._refused.get(reason, 0) + 1
        self.first_refused.setdefault(reason, (now, str(error)))
        self._count(now)

    def _count(self, now: int) -> None:
        counts = Counters(now, self._ticks, 0, self._chunks, 0, dict(self._refused))
        self.counters.append(counts)
