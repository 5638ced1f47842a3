"""What was played of a recording."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pi0_ros.bags.bag import STAMPED_TYPES, Message, header_stamp


@dataclass
class Playback:
    """Counts messages as they are played.

    Attributes:
        types: topic in the recording -> message type.
        start, end: receive times in the recording of the first and last message played, ns.
        counts: topic in the recording -> messages played.
        lateness: seconds by which each message was sent after it was due; empty where nothing
            keeps a pace.
        stamp_offsets: topic -> the largest (receive time - header stamp) in seconds, by magnitude.
    """

    types: Mapping[str, str] = field(default_factory=dict)
    start: int = 0
    end: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    lateness: list[float] = field(default_factory=list)
    stamp_offsets: dict[str, float] = field(default_factory=dict)

    @property
    def duration(self) -> float:
        """Seconds of the recording from the first to the last message played."""
        return (self.end - self.start) / 1e9

    def count(self, message: Message, late: float | None = None) -> None:
        """One more message was played, `late` seconds after it was due.

        Raises:
            BagError: it is too short for its header.
        """
        if not self.counts:
            self.start = message.time
        self.end = message.time
        self.counts[message.topic] = self.counts.get(message.topic, 0) + 1
        if late is not None:
            self.lateness.append(late)
        if self.types.get(message.topic) in STAMPED_TYPES:
            offset = (message.time - header_stamp(message)) / 1e9
            if abs(offset) >= abs(self.stamp_offsets.get(message.topic, 0.0)):
                self.stamp_offsets[message.topic] = offset
