"""Log lines: how often, and in one line whatever users put into them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MOST_KEYS = 100
"""Keys that a Throttle tells apart within one period; the others share one."""

LOG_PERIOD = 2.0
"""Seconds between two log lines about the same thing."""

LONGEST = 500
"""Characters of a user's text in one log line."""


@dataclass
class _Entry:
    said: float  # clock's seconds
    swallowed: int = 0


class Throttle:
    """Lets something through once per period and key, and counts what it swallowed.

    However many keys there are, at most MOST_KEYS + 1 lines come out of a period, and the memory
    is bounded.
    """

    def __init__(self, period: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`period`: seconds between two lines of one key; `clock`: steady seconds."""
        self._period = period
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._others = _Entry(-math.inf)  # of all keys that find no room

    def ready(self, key: str) -> int | None:
        """None: say nothing. A number: say it; so many were swallowed since the last time."""
        now = self._clock()
        if key not in self._entries and len(self._entries) >= MOST_KEYS:
            # Those that may speak again anyhow, and with them what they swallowed.
            self._entries = {k: e for k, e in self._entries.items() if now - e.said < self._period}
        if key in self._entries or len(self._entries) < MOST_KEYS:
            entry = self._entries.setdefault(key, _Entry(-math.inf))
        else:
            entry = self._others
        if now - entry.said < self._period:
            entry.swallowed += 1
            return None
        swallowed, entry.said, entry.swallowed = entry.swallowed, now, 0
        return swallowed


class ThrottledLog:
    """The log of a node, for what may happen again and again: one line per key and period."""

    def __init__(
        self,
        logger: Any,
        period: float = LOG_PERIOD,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`logger`: of rclpy; `period` and `clock`: see Throttle."""
        self._logger = logger
        self._throttle = Throttle(period, clock)

    def warning(self, key: str, text: str) -> None:
        """A line, unless one of the same key was logged just now."""
        if text := self._ready(key, text):  # rclpy wants one line of code per severity
            self._logger.warning(text)

    def info(self, key: str, text: str) -> None:
        """See `warning`."""
        if text := self._ready(key, text):
            self._logger.info(text)

    def _ready(self, key: str, text: str) -> str:
        swallowed = self._throttle.ready(key)
        if swallowed is None:
            return ""
        return text + (f" ({swallowed} more since the last line)" if swallowed else "")


def printable(text: str, keep: str = "", most: int = LONGEST) -> str:
    """The text without what breaks a line, a terminal or UTF-8: such characters are escaped.

    Args:
        keep: characters to leave as they are.
        most: characters of the text that are kept; "..." follows if there were more.
    """
    more = "..." if len(text) > most else ""
    safe = (
        c if c.isprintable() or c in keep else c.encode("unicode_escape").decode()
        for c in text[:most]
    )
    return "".join(safe) + more


def refusal_line(where: str, reason: str, detail: str, count: int) -> str:
    r"""One line of key=value for the log.

    >>> refusal_line("front/image_raw", "stale", "0.4 s old,\nallowed 0.2 s", 3)
    'refused topic="front/image_raw" reason="stale" count=3 detail="0.4 s old,\\nallowed 0.2 s"'

    Args:
        where: topic or stream; "" if the detail names it.
        reason: see pi0_ros.motion.refusal.Reason.
        detail: numbers and names, in words.
        count: how often this reason came so far.
    """
    topic = f" topic={_quoted(where)}" if where else ""
    return f"refused{topic} reason={_quoted(reason)} count={count} detail={_quoted(detail)}"


def _quoted(text: str) -> str:
    return '"' + printable(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'
