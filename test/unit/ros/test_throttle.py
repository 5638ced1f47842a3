from __future__ import annotations

import shlex
from types import SimpleNamespace

import pytest

from pi0_ros.ros.throttle import (
    LONGEST,
    MOST_KEYS,
    Throttle,
    ThrottledLog,
    printable,
    refusal_line,
)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_says_once_per_period_and_counts_what_it_swallowed(clock: Clock) -> None:
    throttle = Throttle(2.0, clock)
    assert throttle.ready("stale") == 0
    assert [throttle.ready("stale") for _ in range(3)] == [None] * 3
    clock.now += 1.9
    assert throttle.ready("stale") is None
    clock.now += 0.1
    assert throttle.ready("stale") == 4
    assert throttle.ready("stale") is None
    clock.now += 60.0
    assert throttle.ready("stale") == 1


def test_keys_do_not_disturb_each_other(clock: Clock) -> None:
    throttle = Throttle(2.0, clock)
    assert throttle.ready("stale") == 0
    assert throttle.ready("stale") is None
    assert throttle.ready("missing") == 0


def test_a_flood_of_keys_is_no_flood_of_lines(clock: Clock) -> None:
    throttle = Throttle(2.0, clock)
    lines = [throttle.ready(f"key {number}") for number in range(10_000)]
    said = [line for line in lines if line is not None]
    assert len(said) == MOST_KEYS + 1
    assert throttle.ready("key 0") is None, "a key that has its place keeps it"
    clock.now += 2.0
    assert throttle.ready("another") == 0, "there is room again"
    assert throttle.ready("another") is None


def test_what_the_others_share_is_counted(clock: Clock) -> None:
    throttle = Throttle(2.0, clock)
    for number in range(MOST_KEYS):
        throttle.ready(f"old {number}")
    clock.now += 1.0
    assert throttle.ready("new 1") == 0
    assert throttle.ready("new 2") is None
    for number in range(MOST_KEYS):  # never old enough to make room
        assert throttle.ready(f"old {number}") is None
    clock.now += 1.0
    for number in range(MOST_KEYS):
        assert throttle.ready(f"old {number}") == 1
    clock.now += 1.0
    assert throttle.ready("new 3") == 1, "new 2 was swallowed under the shared key"


def test_the_clock_is_a_real_one() -> None:
    throttle = Throttle(1e-9)
    assert throttle.ready("stale") == 0
    assert throttle.ready("stale") == 0


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("0.4 s old, 10 µs", "0.4 s old, 10 µs"),
        ("a\nb\r\x1b[31mc\0", r"a\nb\r\x1b[31mc\x00"),
        ("a\u2028b\x85c", r"a\u2028b\x85c"),
        (b"name \xff".decode(errors="surrogateescape"), r"name \udcff"),
    ],
)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown
    printable(text).encode()


def test_printable_keeps_what_it_is_told_to_and_cuts_what_is_long() -> None:
    assert printable("a\nb\tc", keep="\n") == "a\nb\\tc"
    assert printable("x" * 10_000) == "x" * LONGEST + "..."
    assert printable("x" * LONGEST) == "x" * LONGEST


def test_a_refusal_is_one_line_that_can_be_taken_apart() -> None:
    line = refusal_line("front/image_raw", "stale", "0.412 s old, allowed are 0.200 s", 3)
    assert line == (
        'refused topic="front/image_raw" reason="stale" count=3'
        ' detail="0.412 s old, allowed are 0.200 s"'
    )
    assert refusal_line("", "failed", "no", 1) == 'refused reason="failed" count=1 detail="no"'


@pytest.mark.parametrize(
    "detail",
    ['the encoding is "bgr8\n" count=99', "ends with \\", 'ends with "', "\r\n\u2029", '"' * 900],
)
def test_users_data_cannot_forge_a_second_line_or_field(detail: str) -> None:
    line = refusal_line("front", "malformed", detail, 3)
    assert len(line.splitlines()) == 1
    words = shlex.split(line)
    assert words[:4] == ["refused", "topic=front", "reason=malformed", "count=3"]
    assert len(words) == 5 and words[4].startswith("detail=")


def test_a_log_says_how_many_lines_it_left_out():
    lines = []
    logger = SimpleNamespace(
        warning=lambda text: lines.append(("warning", text)),
        info=lambda text: lines.append(("info", text)),
    )
    clock = Clock()
    log = ThrottledLog(logger, 2.0, clock)
    for number in range(3):
        log.warning("stop", f"stop {number}")
    log.info("other", "hello")
    assert lines == [("warning", "stop 0"), ("info", "hello")]
    clock.now += 2.0
    log.warning("stop", "stop 3")
    assert lines[-1] == ("warning", "stop 3 (2 more since the last line)")
