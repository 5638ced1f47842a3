"""Plays recorded messages at the pace they were recorded, with the /clock that belongs to them."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from pi0_ros.bags.bag import Message

# The node measures ages against /clock, so its step bounds their error: 5 ms, a sixth of the time
# between two images at 30 Hz.
CLOCK_PERIOD = 0.005
# Messages recorded within this time of each other share one /clock message.
CLOCK_REUSE_NS = 1_000_000


@dataclass
class Playback:
    """What was played.

    Attributes:
        start, end: receive times in the recording of the first and last message played, ns.
        wall_time: seconds it took.
        counts: topic in the recording -> messages played.
        lateness: seconds by which each message was sent after it was due.
        stamp_offsets: topic -> the largest (receive time - header stamp) in seconds, by magnitude.
    """

    start: int = 0
    end: int = 0
    wall_time: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)
    lateness: list[float] = field(default_factory=list)
    stamp_offsets: dict[str, float] = field(default_factory=dict)

    @property
    def duration(self) -> float:
        """Seconds of the recording from the first to the last message played."""
        return (self.end - self.start) / 1e9


def play(
    messages: Iterable[Message],
    publish: Callable[[Message], None],
    publish_clock: Callable[[int], None],
    *,
    rate: float = 1.0,
    on_tick: Callable[[int], None] | None = None,
    header_stamp: Callable[[Message], int | None] = lambda message: None,
    now: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> Playback:
    """Publishes messages when they are due and the recording's time in between.

    The recording's time runs with the wall clock, `rate` times as fast, from the first message's
    receive time on, and stops at the last message. Messages sent late show in `Playback.lateness`;
    playing then catches up instead of stretching the recording.

    Args:
        messages: in order of their receive times.
        publish: sends one message.
        publish_clock: sends the recording's time in ns. It never goes back, and is at most 1 ms
            behind the receive time of a message already sent, so that none comes from the future.
        rate: seconds of the recording per second of wall time.
        on_tick: called with the recording's time (ns) at least every `CLOCK_PERIOD`; what it raises
            ends the playing.
        header_stamp: a message's header stamp in ns, None for messages without.
        now, sleep: clock and sleep, in seconds.
    """
    playback = Playback()
    period_ns = round(CLOCK_PERIOD * rate * 1e9)
    started = now()
    clock = None
    for message in messages:
        if clock is None:
            started = now()
            playback.start = playback.end = message.time
        due = started + (message.time - playback.start) / 1e9 / rate
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
        _count(playback, message, late, header_stamp(message))
    if clock is not None and clock < playback.end:
        publish_clock(playback.end)
    playback.wall_time = now() - started
    return playback


def _count(playback: Playback, message: Message, late: float, stamp: int | None) -> None:
    playback.end = message.time
    playback.counts[message.topic] = playback.counts.get(message.topic, 0) + 1
    playback.lateness.append(late)
    if stamp is not None:
        offset = (message.time - stamp) / 1e9
        if abs(offset) >= abs(playback.stamp_offsets.get(message.topic, 0.0)):
            playback.stamp_offsets[message.topic] = offset
