"""What a chunk agrees with: weights, delays, the executing trajectory, and when there is none."""

from types import SimpleNamespace

import numpy as np
import pytest

from pi0_ros.motion.rtc import WINDOW, Agreement, RealTimeChunking, RtcSettings, prefix_weights
from pi0_ros.motion.spline import Motion
from pi0_ros.policy.types import ActionChunk

DT, STEP, HORIZON = 0.02, 20_000_000, 20
POLICY = SimpleNamespace(horizon=HORIZON, rtc_max_delay=5)
STAMP = 1_000_000_000


@pytest.mark.parametrize(
    "schedule,delay,end,expected",
    [
        ("linear", 2, 6, [1, 1, 0.8, 0.6, 0.4, 0.2, 0, 0]),
        ("exp", 2, 6, [1, 1, 0.57058, 0.28707, 0.11449, 0.02577, 0, 0]),
        ("ones", 2, 6, [1, 1, 1, 1, 1, 1, 0, 0]),
        ("zeros", 2, 6, [1, 1, 0, 0, 0, 0, 0, 0]),
        ("linear", 0, 8, np.arange(8, 0, -1) / 9),
        ("linear", 7, 3, [1, 1, 1, 0, 0, 0, 0, 0]),
        ("exp", 3, 3, [1, 1, 1, 0, 0, 0, 0, 0]),
        ("linear", 6, 20, [1, 1, 1, 1, 1, 1, 2 / 3, 1 / 3]),
    ],
)
def test_the_weights_are_lerobots(
    schedule: str, delay: int, end: int, expected: list[float]
) -> None:
    """Values of its RTCProcessor.get_prefix_weights."""
    got = prefix_weights(schedule, delay, end, 8)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, atol=1e-5)


def settings(rtc: str = "guided", horizon: int = 0, schedule: str = "exp") -> RtcSettings:
    return RtcSettings(rtc, horizon, 10.0, schedule)


def moving(end: int, stamp: int = STAMP) -> Motion:
    """One joint at 1 rad/s from `stamp`, 0 rad there, to rest after `end` steps."""
    times = stamp + STEP * np.arange(-10, end + 1, dtype=np.int64)
    seconds = ((times - stamp) / 1e9)[:, None]
    return Motion(times, seconds, np.ones_like(seconds))


def chunk(stamp: int = STAMP) -> ActionChunk:
    return ActionChunk(np.zeros((HORIZON, 1), np.float32), DT, stamp, 0, 0)


def executed(rtc: RealTimeChunking, *delays: int, instruction: str = "go") -> None:
    for delay in delays:
        # Half a step later is still as many whole steps.
        rtc.executed(chunk(), STAMP + delay * STEP + STEP // 2, instruction)


def prepare(
    rtc: RealTimeChunking,
    executing: Motion | None = None,
    instruction: str = "go",
    policy: object = POLICY,
) -> Agreement:
    return rtc.prepare(executing or moving(15), STAMP, instruction, DT, policy)


def test_the_delay_is_what_nearly_all_of_the_newest_chunks_consumed() -> None:
    rtc = RealTimeChunking(settings())
    assert rtc.delay is None
    executed(rtc, 19)  # the first one of an activation: caches are cold
    assert rtc.delay is None
    executed(rtc, 3)
    assert rtc.delay == 3
    executed(rtc, *[4] * 38, 9)
    assert rtc.delay == 4, "one in forty is beyond the 95th percentile"
    executed(rtc, 9, 9)
    assert rtc.delay == 9
    executed(rtc, *[2] * WINDOW)
    assert rtc.delay == 2, "older ones are forgotten"
    assert rtc.counts.delays == {19: 1, 3: 1, 4: 38, 9: 3, 2: WINDOW}


def test_a_chunk_agrees_with_the_executing_trajectory() -> None:
    """Each step with where that is when the step is due; behind its end it holds the last one."""
    rtc = RealTimeChunking(settings())
    executed(rtc, 4, 4)
    agreement = prepare(rtc)
    prefix = agreement.prefix
    assert (agreement.rtc, agreement.fallback, prefix.delay) == ("guided", "", 4)
    due = DT * np.minimum(np.arange(1, HORIZON + 1), 15)
    np.testing.assert_allclose(prefix.positions[:, 0], due, atol=1e-6)
    np.testing.assert_array_equal(prefix.weights, prefix_weights("exp", 4, 15, HORIZON))
    prefix.check(HORIZON, 1)


def test_the_execution_horizon_ends_the_weights_before_the_trajectory_does() -> None:
    rtc = RealTimeChunking(settings(horizon=9, schedule="ones"))
    executed(rtc, 4, 4)
    assert prepare(rtc).prefix.weights.sum() == 9
    assert prepare(rtc, moving(5)).prefix.weights.sum() == 5


@pytest.mark.parametrize("horizon", [2, 6, 11])
def test_the_weights_fall_as_gradually_as_the_delay_is_long(horizon: int) -> None:
    """Where they fell at once behind the delay, the chunk itself would have a step."""
    rtc = RealTimeChunking(settings(horizon=horizon, schedule="linear"))
    executed(rtc, 6, 6)
    weights = prepare(rtc).prefix.weights
    np.testing.assert_array_equal(weights, prefix_weights("linear", 6, 12, HORIZON))
    assert (weights[:6] == 1).all() and np.abs(np.diff(weights)).max() < 0.2


@pytest.mark.parametrize("cause,words", [("episode", "episode"), ("stop", "stopped")])
def test_what_executes_is_dropped(cause: str, words: str) -> None:
    """Until another chunk was executed; the delays stay."""
    rtc = RealTimeChunking(settings())
    assert "since the activation" in prepare(rtc).fallback
    executed(rtc, 4, 4)
    rtc.drop(cause)
    agreement = prepare(rtc)
    assert (agreement.rtc, agreement.prefix) == ("off", None)
    assert words in agreement.fallback
    executed(rtc, 4)
    assert prepare(rtc).rtc == "guided"
    assert rtc.counts.fallbacks == {"first": 1, cause: 1}
    assert rtc.counts.used == 1


def test_another_instruction_agrees_with_nothing_of_the_last_one() -> None:
    rtc = RealTimeChunking(settings())
    executed(rtc, 4, 4)
    assert "another instruction" in prepare(rtc, instruction="stay").fallback
    executed(rtc, 4, instruction="stay")
    assert prepare(rtc, instruction="stay").rtc == "guided"


def test_there_is_nothing_to_agree_with_after_the_end() -> None:
    rtc = RealTimeChunking(settings())
    executed(rtc, 4, 4)
    assert "ends before" in prepare(rtc, moving(0)).fallback
    assert "ends before" in rtc.prepare(None, STAMP, "go", DT, POLICY).fallback


def test_without_a_measured_delay_it_is_blended() -> None:
    rtc = RealTimeChunking(settings())
    executed(rtc, 4)
    assert prepare(rtc).fallback == "no delay was measured yet"


@pytest.mark.parametrize(
    "mode,delay,given",
    [("trained", 5, 5), ("trained", 6, None), ("guided", 6, 6), ("guided", 20, None)],
)
def test_a_delay_beyond_what_the_policy_can_be_given_falls_back(
    mode: str, delay: int, given: int | None
) -> None:
    rtc = RealTimeChunking(settings(mode))
    executed(rtc, delay, delay)
    agreement = prepare(rtc)
    assert (agreement.prefix and agreement.prefix.delay) == given
    if given is None:
        most = 5 if mode == "trained" else 19
        sentence = f"the delay is {delay} steps, and this policy can be given at most {most}"
        assert (agreement.rtc, agreement.fallback) == ("off", sentence)
        assert rtc.counts.fallbacks == {"late": 1}


def test_a_policy_that_does_not_say_its_limit_is_given_nothing_trained() -> None:
    rtc = RealTimeChunking(settings("trained"))
    executed(rtc, 1, 1)
    assert "at most 0" in prepare(rtc, policy=SimpleNamespace(horizon=HORIZON)).fallback


def test_off_asks_for_nothing_and_counts_only_delays() -> None:
    rtc = RealTimeChunking(settings("off"))
    executed(rtc, 4, 4)
    assert prepare(rtc) == Agreement()
    assert not rtc.counts.fallbacks and rtc.counts.delays == {4: 2}


@pytest.mark.parametrize("cause", ["stop", "episode", "clock"])
def test_a_chunk_that_agrees_with_what_was_dropped_is_outdated(cause: str) -> None:
    rtc = RealTimeChunking(settings())
    executed(rtc, 2, 2)
    agreement = rtc.prepare(moving(15), STAMP, "go", DT, POLICY)
    assert agreement.prefix is not None and not rtc.outdated(agreement)
    rtc.drop(cause)
    assert rtc.outdated(agreement) and not rtc.outdated(Agreement())
