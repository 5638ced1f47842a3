"""One input of the node: how often messages come, how old the newest is, what is wrong with it.

Pure Python; times are nanoseconds of the node's clock.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from pi0_ros.motion.refusal import Reason

Level = Literal["ok", "warn", "error", "stale"]
"""Of a diagnostic_msgs/DiagnosticStatus."""

FUTURE_TOLERANCE = 100_000_000
"""Nanoseconds that a stamp may lie ahead of the node's clock (clock offset between two machines,
/clock arriving after the data it belongs to); a stamp further ahead is as useless as an old one and
counts as stale."""

RATE_WINDOW = 5_000_000_000
"""Nanoseconds of which the rate is told."""

REMEMBERED = 2_000_000_000
"""Nanoseconds for which a dropped message makes a stream that is fresh again a warning."""

_MOST_ARRIVALS = 200


class Fault(NamedTuple):
    """Why a stream cannot be used."""

    reason: Reason
    detail: str


@dataclass(frozen=True)
class StreamStatus:
    """What /diagnostics tells of a stream.

    Attributes:
        name: `camera <name>`, `joint states` or `instruction`.
        topic: as the node's parameters give it.
        received: messages since activation, dropped ones included.
        rate: messages per second of the last seconds; None with fewer than two.
        age: seconds since the newest stamp; None before the first message.
        dropped: reason -> messages that could not be used.
        level: stale: nothing came, or nothing for too long; error: what comes is unusable; warn:
            fresh, but some messages were dropped just now.
        detail: what is wrong; "" if nothing is.
    """

    name: str
    topic: str
    received: int
    rate: float | None
    age: float | None
    dropped: Counter[Reason]
    level: Level
    detail: str


@dataclass
class Stream:
    """Keeps account of a stream; the messages themselves are somebody else's.

    Attributes:
        name, topic: see StreamStatus.
        max_age: seconds; None: its messages do not age.
        absent: what to say while nothing came.
        stamp: of the newest usable message; None: none came since `clear`.
        latest: of the newest part of it, where parts come apart.
        hint: what else to say while the stream is missing or stale; begins with "; ".
        older: gets a stamp; which part of the stream is older than that, to follow the label; "" if
            all of it is.
    """

    name: str
    topic: str
    max_age: float | None
    absent: str
    stamp: int | None = None
    latest: int | None = None
    hint: str = ""
    older: Callable[[int], str] = lambda stamp: ""
    received: int = 0
    dropped: Counter[Reason] = field(default_factory=Counter)
    _arrivals: deque[int] = field(default_factory=lambda: deque(maxlen=_MOST_ARRIVALS))
    _bad: Fault | None = None  # the newest message is unusable
    _last_drop: tuple[int, Fault] | None = None

    @property
    def label(self) -> str:
        """Name and topic, for people."""
        return f"{self.name} ({self.topic})"

    def on_message(self, now: int) -> None:
        """A message came, whatever is in it."""
        self.received += 1
        self._arrivals.append(now)

    def accept(
        self, stamp: int, now: int, part: int | None = None, bad: Fault | None = None
    ) -> None:
        """A usable message came; one that comes too late or from the future counts as dropped.

        Args:
            stamp: of the newest complete state.
            part: of the message, where it is only a part of the state.
            bad: why another part cannot be used.
        """
        self.stamp, self._bad, self.hint = stamp, bad, ""
        self.count_late(stamp if part is None else part, now)

    def count_late(self, stamp: int, now: int) -> None:
        """Count a message as dropped if it came too late or from the future."""
        late = self._untimely(stamp, now)
        if late is not None:
            self._count(late, now)

    def drop(self, fault: Fault, now: int) -> None:
        """A message is left out; the newest one before it stands."""
        self._count(fault, now)

    def reject(self, fault: Fault, now: int) -> None:
        """An unusable message came; until a usable one follows, the stream is not to be used."""
        self._bad = fault
        self._count(fault, now)

    def clear(self) -> None:
        """What came belongs to another time; the counts stay."""
        self.stamp, self.latest, self._bad, self._last_drop, self.hint = None, None, None, None, ""
        self._arrivals.clear()

    def _count(self, fault: Fault, now: int) -> None:
        self.dropped[fault.reason] += 1
        self._last_drop = now, fault

    def fault(self, now: int) -> Fault | None:
        """Why it cannot be used at `now`; None if it can."""
        if self._bad is not None and not self._silent(now):
            return self._bad
        if self.stamp is None:
            return Fault(Reason.MISSING, f"no {self.absent}{self.hint}")
        return self._untimely(self.stamp, now)

    def _silent(self, now: int) -> bool:
        """Whether no message came for longer than one may be old."""
        return self.max_age is not None and now - self._last_drop[0] > self.max_age * 1e9

    def _untimely(self, stamp: int, now: int) -> Fault | None:
        if self.max_age is None:
            return None
        age = now - stamp
        if stamp <= 0:
            return Fault(Reason.STALE, f"{self.label}: its header has no stamp (0)")
        if age > self.max_age * 1e9:
            older = self.older(now - round(self.max_age * 1e9))
            allowed = f"allowed are {self.max_age:.3f} s{self.hint}"
            return Fault(Reason.STALE, f"{self.label}{older}: {age / 1e9:.3f} s old, {allowed}")
        ahead = max(stamp, self.latest or stamp) - now
        if ahead > FUTURE_TOLERANCE:
            return Fault(Reason.STALE, f"{self.label}: stamped {ahead / 1e9:.3f} s in the future")
        return None

    def status(self, now: int) -> StreamStatus:
        """What to tell at `now`."""
        level, detail = self._level(now)
        stamped = self.stamp is not None and self.stamp > 0 and self.max_age is not None
        return StreamStatus(
            name=self.name,
            topic=self.topic,
            received=self.received,
            rate=self._rate(now),
            age=(now - self.stamp) / 1e9 if stamped else None,
            dropped=self.dropped.copy(),
            level=level,
            detail=detail,
        )

    def _level(self, now: int) -> tuple[Level, str]:
        fault = self.fault(now)
        if fault is not None:
            absent = fault.reason == Reason.MISSING
            old = fault.reason == Reason.STALE and 0 < (self.stamp or 0) < now
            return "stale" if absent or old else "error", f"{fault.reason}: {fault.detail}"
        if self._last_drop is not None and 0 <= now - self._last_drop[0] <= REMEMBERED:
            dropped = self._last_drop[1]
            return "warn", f"fresh, but one was dropped, {dropped.reason}: {dropped.detail}"
        return "ok", ""

    def _rate(self, now: int) -> float | None:
        recent = [at for at in self._arrivals if now - at <= RATE_WINDOW]
        if len(recent) < 2 or recent[-1] <= recent[0]:
            return None
        return (len(recent) - 1) * 1e9 / (recent[-1] - recent[0])
