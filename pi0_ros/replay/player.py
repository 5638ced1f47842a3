"""Plays recorded messages at the pace they were recorded, with the /clock that belongs to them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from pi0_ros.bags.bag import STAMPED_TYPES, Message, header_stamp

# The node measures ages against /clock, so its step bounds their error: 5 ms, a sixth of the time
# between two images at 30 Hz.
CLOCK_PERIOD = 0.005
# Messages recorded within this time of each other share one /clock message.
CLOCK_REUSE_NS = 1_000_000


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
        """One more message was played, `late` seconds after it was due."""
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


def play(
    messages: Iterable[Message],
    types: Mapping[str, str],
    publish: Callable[[Message], None],
    publish_clock: Callable[[int], None],
    *,
    rate: float = 1.0,
    on_tick: Callable[[int], None] | None = None,
    now: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> Playback:
    """Publishes messages when they are due and the recording's time in between.

    The recording's time runs with the wall clock, `rate` times as fast, from the first message's
    receive time on, and stops at the last message. Messages sent late show in `Playback.lateness`;
    playing then catches up instead of stretching the recording.

    Args:
        messages: in order of their receive times.
        types: topic in the recording -> message type.
        publish: sends one message.
        publish_clock: sends the recording's time in ns. It never goes back, and is at most 1 ms
            behind the receive time of a message already sent, so that none comes from the future.
        rate: seconds of the recording per second of wall time.
        on_tick: called with the recording's time (ns) at least every `CLOCK_PERIOD`; what it raises
            ends the playing.
        now, sleep: clock and sleep, in seconds.
    """
    playback = Playback(types)
    period_ns = round(CLOCK_PERIOD * rate * 1e9)
    started, start = now(), 0
    clock = None
    for message in messages:
        if clock is None:
            started, start = now(), message.time
        due = started + (message.time - start) / 1e9 / rate
        while True:
            late = now() - due
            if late >= 0:
                break
            recorded = message.time + round(late * rate * 1e9)
            if clock is None or recorded - clock >= period_ns:
                clock = recorded
                publish_clock(clock)
                if on_tick:
                    on_tick(clock)
            next_clock = (clock + period_ns - message.time) / 1e9 / rate + due
            sleep(max(0.0, min(due, next_clock) - now()))
        if clock is None or message.time - clock >= CLOCK_REUSE_NS:
            clock = message.time
            publish_clock(clock)
        publish(message)
        if on_tick:
            on_tick(clock)
        playback.count(message, late)
    if clock is not None and clock < playback.end:
        publish_clock(playback.end)
    return playback


class ReadAhead:
    """Iterates over messages that a thread reads in advance: slow storage delays none of them.

    At most `max_bytes` of message data wait. Leaving the `with` block ends the thread.
    """

    def __init__(self, messages: Iterable[Message], max_bytes: int = 64 << 20) -> None:
        self._messages = messages
        self._max_bytes = max_bytes
        self._waiting: deque[Message] = deque()
        self._bytes = 0
        self._done = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, name="bag reader", daemon=True)

    def __enter__(self) -> ReadAhead:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        with self._changed:
            self._done = True
            self._changed.notify_all()
        self._thread.join()

    def __iter__(self) -> Iterator[Message]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._done)
                if not self._waiting:
                    if self._error is not None:
                        raise self._error
                    return
                message = self._waiting.popleft()
                self._bytes -= len(message.data)
                self._changed.notify_all()
            yield message

    def _read(self) -> None:
        error: BaseException | None = None
        try:
            for message in self._messages:
                with self._changed:
                    self._changed.wait_for(lambda: self._bytes < self._max_bytes or self._done)
                    if self._done:
                        break
                    self._waiting.append(message)
                    self._bytes += len(message.data)
                    self._changed.notify_all()
        except BaseException as caught:  # raised again in the thread that iterates
            error = caught
        with self._changed:
            self._error = error
            self._done = True
            self._changed.notify_all()
