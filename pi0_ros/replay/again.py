"""Chunks computed again, each from the images, the state, the task and the noise it was made of.

A node on a busy machine loses images and misses ticks, so what it saw need not come up where a
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
from pi0_ros.node.interface import Interface, Topic
from pi0_ros.node.joint_groups import JointGroups
from pi0_ros.node.joint_states import KEPT
from pi0_ros.node.observation import INSTRUCTION, JOINT_STATES, Snapshot, stamp_of
from pi0_ros.replay.steps import Pass, Published, SeededPolicy

SPAN = 1_000_000_000
"""Nanoseconds between the oldest and the newest part of an observation at most."""


class Again(Pass):
    """A pass in which a tick is a chunk whose observation came up.

    Attributes:
        wanted: chunks not computed yet.
        missed: how many had observations that did not come up in time.
    """

    def __init__(
        self,
        interface: Interface,
        topics: Mapping[str, Topic],
        policy: SeededPolicy,
        chunks: Sequence[TimedChunk],
    ) -> None:
        """`chunks`: to be computed again; the rest as of `Pass`."""
        super().__init__(interface, topics, policy)
        self.missed = 0
        self.wanted = sorted(chunks, key=lambda timed: timed.chunk.stamp)
        cameras = self._parameters.cameras
        self._latency = {camera.name: round(camera.latency * 1e9) for camera in cameras}
        topics = self._parameters.joint_states_topics
        names = [*self._latency, *(JOINT_STATES for _ in topics), INSTRUCTION]
        self._names = dict(zip((t.name for t in self._observed), names, strict=True))
        self._images: dict[str, deque[tuple[int, Any]]] = {n: deque() for n in self._latency}
        self._states = JointGroups(self._parameters.joint_names, None, KEPT)

    def run(self, messages: Iterable[Message]) -> Iterator[Published]:
        for message in messages:
            self.playback.count(message)
            topic = self._topics[message.topic]
            self._keep(self._names[topic.name], message, topic)
            self._now = message.time
            yield from self._compute()
        self._count()

    def _keep(self, name: str, message: Message, topic: Topic) -> None:
        """Keep an image or a joint state; what cannot be read was refused before, too."""
        if name == INSTRUCTION:
            return
        try:
            content = decode(message.data, topic.type)
            if name == JOINT_STATES:
                reading = self._states.reader.read(content)
                if reading is not None:
                    self._states.put(reading, topic.name, stamp_of(content), message.time)
                return
        except ValueError:
            return
        kept, stamp = self._images[name], stamp_of(content) - self._latency[name]
        kept.append((stamp, content))
        while kept[0][0] < stamp - SPAN:
            kept.popleft()

    def _compute(self) -> Iterator[Published]:
        """The wanted chunks whose observations are complete."""
        newest = int(self._states.newest.min()) if self._states.complete else 0
        left: list[TimedChunk] = []
        for timed in self.wanted:
            snapshot = None
            if timed.chunk.stamp <= newest:
                snapshot = self._snapshot(timed)
            if snapshot is None:
                left.append(timed)
                continue
            self._counts.ticks += 1
            try:
                published = self._infer(snapshot, timed.chunk.sequence, self._now)
                self._check(published.chunk)
            except Refusal as refusal:
                self._refuse(refusal)
            else:
                self._counts.chunks += 1
                yield published
        self.missed += sum(timed.chunk.stamp < newest - SPAN for timed in left)
        self.wanted = [timed for timed in left if timed.chunk.stamp >= newest - SPAN]

    def _snapshot(self, timed: TimedChunk) -> Snapshot | None:
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
        # Interpolated at the oldest image; or a sample's own, where there was none around that.
        time = oldest if abs(wanted - oldest) <= SAME_STAMP else wanted
        # What is older than the image has to be the sample that was the newest one then.
        older = [one for one in self._states.newest if one < oldest]
        if any(time == oldest or abs(int(one) - time) > SAME_STAMP for one in older):
            return None
        # Of several groups the oldest has such a sample; the others are taken at the image.
        state, stamps = self._states.at(oldest, None if time == oldest else time)
        stamp = int(stamps.min())
        if abs(stamp - wanted) > SAME_STAMP:  # of several groups some came late, nobody tells which
            return None
        return Snapshot(images, exact, state, stamp, timed.chunk.instruction)
