import threading

import numpy as np
import pytest
from support.recordings import joint_state

from pi0_ros.bags.bag import BagError, Message
from pi0_ros.bags.messages import encode
from pi0_ros.replay.player import Playback, ReadAhead, play


class Wall:
    """A wall clock that only sleeping, and what a test adds, moves on."""

    def __init__(self) -> None:
        self.time = 100.0

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += max(seconds, 1e-6)


def played(times_ms, rate=1.0, cost=0.0, **options):
    """Plays messages at these times; returns the playback and the (wall s, event, ns) log."""
    wall = Wall()
    log = []

    def publish(message):
        log.append((wall.time - 100.0, "message", message.time))
        wall.time += cost

    playback = play(
        [Message("/t", 5_000_000_000 + round(t * 1e6), b"") for t in times_ms],
        {},
        publish,
        lambda ns: log.append((wall.time - 100.0, "clock", ns)),
        rate=rate,
        now=wall.now,
        sleep=wall.sleep,
        **options,
    )
    return playback, log


@pytest.mark.parametrize("rate", [0.5, 1.0, 4.0])
def test_messages_are_sent_when_they_are_due(rate):
    times = [0.0, 10.0, 33.3, 33.3, 100.0]
    playback, log = played(times, rate)
    sent = [wall for wall, event, _ in log if event == "message"]
    np.testing.assert_allclose(sent, np.array(times) / 1e3 / rate, atol=1e-4)
    assert max(playback.lateness) < 1e-4
    assert playback.duration == pytest.approx(0.1)
    assert playback.counts == {"/t": 5}


@pytest.mark.parametrize("rate", [0.5, 1.0, 4.0])
def test_the_clock_runs_with_the_wall_and_never_back(rate):
    _, log = played([0.0, 3.0, 250.0, 250.4, 900.0], rate)
    clock = [(wall, ns) for wall, event, ns in log if event == "clock"]
    times = np.array([ns for _, ns in clock])
    assert (np.diff(times) > 0).all()
    # 5 ms of wall time between two clock messages, less where a message comes in between.
    assert np.diff([wall for wall, _ in clock]).max() < 0.0051
    walls = np.array([wall for wall, _ in clock])
    np.testing.assert_allclose((times - 5_000_000_000) / 1e9, walls * rate, atol=2e-4 * rate)


def test_no_message_is_more_than_a_millisecond_ahead_of_the_clock():
    _, log = played([0.0, 0.9, 7.1, 7.15, 8.3, 21.7])
    clock = None
    for _, event, ns in log:
        if event == "clock":
            clock = ns
        else:
            assert clock is not None
            assert 0 <= ns - clock < 1_000_000


def test_the_clock_ends_at_the_last_message():
    _, log = played([0.0, 10.0, 10.5])
    assert log[-1][1:] == ("clock", 5_010_500_000)


def test_a_slow_player_shows_its_lateness_and_catches_up():
    # Sending takes 30 ms; three messages come at once, the next long after.
    playback, log = played([0.0, 0.0, 0.0, 200.0], cost=0.03)
    np.testing.assert_allclose(playback.lateness, [0.0, 0.03, 0.06, 0.0], atol=1e-4)
    assert log[-1][0] == pytest.approx(0.2, abs=1e-4)


def test_stamp_offsets_keep_the_largest_by_magnitude():
    playback = Playback({"/t": "sensor_msgs/msg/JointState"})
    for time, stamp in ((5.0, 4.0), (5.01, 8.01), (5.02, 5.0)):
        data = encode(joint_state(round(stamp * 1e9), ["a"], np.zeros(1)))
        playback.count(Message("/t", round(time * 1e9), data))
    playback.count(Message("/other", 5_100_000_000, b""))
    assert playback.stamp_offsets == {"/t": -3.0}
    assert (playback.counts, playback.duration) == ({"/t": 3, "/other": 1}, 0.1)


def test_what_on_tick_raises_ends_the_playing():
    def on_tick(ns):
        if ns > 5_050_000_000:
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        played([0.0, 1000.0], on_tick=on_tick)


def test_nothing_to_play():
    playback, log = played([])
    assert (playback.counts, playback.duration, log) == ({}, 0.0, [])


def test_read_ahead_keeps_the_order_and_its_bound():
    read = []

    def source():
        for k in range(50):
            read.append(k)
            yield Message("/t", k, bytes(10))

    with ReadAhead(source(), max_bytes=100) as messages:
        iterator = iter(messages)
        first = next(iterator)
        # Ten wait, the eleventh is in the reader's hand.
        assert len(read) <= 12
        assert [first.time, *(message.time for message in iterator)] == list(range(50))


def test_read_ahead_hands_an_error_on_after_what_came_before_it():
    def source():
        yield Message("/t", 1, b"")
        raise BagError("broken")

    with ReadAhead(source()) as messages:
        iterator = iter(messages)
        assert next(iterator).time == 1
        with pytest.raises(BagError, match="broken"):
            next(iterator)


def test_leaving_read_ahead_early_ends_its_thread():
    def endless():
        while True:
            yield Message("/t", 0, bytes(10))

    with ReadAhead(endless(), max_bytes=100) as messages:
        next(iter(messages))
    assert not any(thread.name == "bag reader" for thread in threading.enumerate())
