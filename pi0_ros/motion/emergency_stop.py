"""Who holds the emergency stop: each source its own, where sources can be told apart.

Pure Python. The middleware does not always tell who sent a message. While only one publisher can
have sent it, its `false` releases its `true`. Otherwise a `false` releases nothing: it may be of a
source that never stopped anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SILENCE = 2.0
"""Seconds without a `true` after which a source that cannot be told from others is silent."""

Publishers = Mapping[bytes, str]
"""Publishers of the topic now: GID -> full name of the node."""


@dataclass
class _Hold:
    """A `true`: when it was sent (sender's nanoseconds) and heard (steady seconds), by whom."""

    sent: int
    heard: float
    possible: dict[bytes, str]


class EmergencyStop:
    """What the sources of a stop said.

    Attributes:
        held: at least one of them holds the stop.
    """

    def __init__(self) -> None:
        self._holds: dict[bytes | None, _Hold] = {}

    @property
    def held(self) -> bool:
        return bool(self._holds)

    def hear(
        self, on: bool, publisher: bytes | None, sent: int, publishers: Publishers, now: float
    ) -> None:
        """A message came; one that was sent before the last `true` of its source releases nothing.

        Args:
            publisher: who sent it; None: not known.
            sent: nanoseconds of the sender's clock; 0: not known.
            publishers: of the topic.
            now: steady seconds.
        """
        hold = self._holds.get(publisher)
        if on:
            possible = {} if hold is None else hold.possible
            self._holds[publisher] = _Hold(sent, now, {**possible, **publishers})
        elif hold is not None and (not sent or sent > hold.sent):
            hold.possible.update(publishers)
            if publisher is not None or len(hold.possible) <= 1:
                del self._holds[publisher]

    def release(self, publishers: Publishers, now: float) -> str:
        """Release what may be released; returns "", or who still holds the stop.

        That is a `true` of sources that have gone or that cannot be told apart and are silent.
        """
        for publisher, hold in list(self._holds.items()):
            problem = self._problem(publisher, hold, publishers, now)
            if problem:
                return problem
            del self._holds[publisher]
        return ""

    def _problem(
        self, publisher: bytes | None, hold: _Hold, publishers: Publishers, now: float
    ) -> str:
        if publisher is None:
            present = [gid for gid in hold.possible if gid in publishers]
            single = len(hold.possible) == 1 and bool(present)
        else:
            present = [publisher] if publisher in publishers else []
            single = bool(present)
        if single:
            return f"{publishers[present[0]]} holds it: publish false there first"
        silent = now - hold.heard
        if silent < SILENCE:
            names = ", ".join(sorted(hold.possible.values())) or "a publisher that has gone"
            return (
                f"the last true came {silent:.1f} s ago, from one of {names}: release it, and call"
                f" ~/reset when no true came for {SILENCE:g} s"
            )
        return ""
