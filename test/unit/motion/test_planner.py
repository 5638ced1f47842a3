"""Whatever a policy returns, what is planned obeys the limits and takes over without a step."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from support.controller import between, execute
from support.jtc import (
    KINDS,
    MS,
    NOW,
    OPEN,
    SECOND,
    STARTS,
    TIGHT,
    any_limits,
    assert_within,
    at_rest,
    check_form,
    chunk,
    chunk_of,
    inside,
    limits_of,
    message_times,
    wave,
)

from pi0_ros.motion.planner import LEAD, Plan, plan, stop
from pi0_ros.motion.refusal import Measured, Refusal
from pi0_ros.motion.spline import Motion
from pi0_ros.policy.types import ActionChunk


@settings(max_examples=500, deadline=None)
@given(
    any_limits(),
    st.sampled_from(KINDS),
    st.sampled_from([0.001, 0.004, 0.02, 0.02, 0.0333, 0.1, 1.0]),
    st.integers(2, 50),
    st.floats(-0.1, 0.9),
    st.sampled_from([0.0, 0.02, 0.1, 0.5]),
    STARTS,
    st.sampled_from([TIGHT, OPEN]),
    st.integers(0, 2**32),
)
def test_from_rest(limits, kind, dt, steps, age, blend, start, given, seed):
    """Nothing runs: the trajectory begins at the measured joints and obeys the limits all along."""
    rng = np.random.default_rng(seed)
    here = inside(limits, rng)
    wanted = chunk_of(kind, rng, limits, here, dt, steps, NOW - int(age * steps * dt * SECOND))
    try:
        planned = plan(wanted, limits, given, at_rest(here), None, NOW, start, blend)
    except Refusal as refusal:
        event(f"{kind}: {refusal.reason}")
        assert refusal.reason in ("nonfinite", "limits", "expired")
        assert (refusal.reason == "nonfinite") == (kind in ("nan", "inf"))
        return
    event(f"{kind}: {'clamped' if planned.clamped else 'passed'}")
    check_form(planned, len(here), NOW, start)
    trajectory = planned.trajectory
    if start == "now":
        assert trajectory.times[0] >= LEAD
    else:
        assert trajectory.stamp == wanted.stamp or wanted.stamp >= NOW - 1000
    assert_within(message_times(planned, NOW), trajectory.positions, trajectory.velocities, limits)
    p, v = planned.motion.sample(NOW)
    np.testing.assert_allclose(p, here, atol=1e-9)
    np.testing.assert_allclose(v, 0, atol=1e-9)


@settings(max_examples=600, deadline=None)
@given(
    any_limits(),
    st.lists(st.tuples(st.sampled_from(KINDS), st.floats(0.0, 0.2)), min_size=2, max_size=7),
    st.sampled_from([0.005, 0.02, 0.0333]),
    st.sampled_from([0.0, 0.02, 0.1, 0.3]),
    st.integers(5, 130),
    st.sampled_from([TIGHT, OPEN]),
    st.integers(0, 2**32),
)
def test_a_stream_of_chunks(limits, sequence, dt, blend, period, given, seed):
    """Chunks of every kind, one upon another: the command that the controller makes of them has no
    step in position or velocity and obeys the limits at every time, whatever the network's delay.
    """
    rng = np.random.default_rng(seed)
    home = inside(limits, rng)
    executing: Motion | None = None
    messages: list[tuple[int, Plan, int]] = []  # heard at, plan, planned at
    now = NOW
    for kind, age in sequence:
        now += period * MS + int(rng.integers(0, 3 * MS))
        here = home if executing is None else executing.sample(now - 30 * MS)[0]  # the arm lags
        if executing is not None and now - 30 * MS < executing.times[0]:
            here = home
        wanted = chunk_of(kind, rng, limits, here, dt, 50, now - int(age * SECOND))
        try:
            planned = plan(
                wanted, limits, given, at_rest(here), executing, now, "observation", blend
            )
        except Refusal:
            continue
        if (
            executing is not None
            and (np.abs(executing.sample(now)[0] - here) > given.max_jump).any()
        ):
            return  # an arm that does not follow is started anew; not the subject here
        check_form(planned, len(home), now, "observation")
        executing = planned.motion
        heard = now + int(rng.integers(0, LEAD))
        messages.append((max([heard, *(m[0] for m in messages)]), planned, now))
    if not messages:
        return
    ends = [heard for heard, _, _ in messages[1:]] + [message_times(*messages[-1][1:])[-1] + MS]
    parts = []
    for (heard, planned, at), end in zip(messages, ends, strict=True):
        if end <= heard:
            continue
        t = np.arange(heard, end, MS)
        trajectory = planned.trajectory
        states = execute(message_times(planned, at), trajectory.positions, trajectory.velocities, t)
        parts.append((t, *states))
    t, p, v, a = (np.concatenate(part) for part in zip(*parts, strict=True))
    assert (p <= limits.upper + 1e-5).all() and (p >= limits.lower - 1e-5).all()
    assert (np.abs(v) <= limits.velocity * (1 + 1e-4)).all()
    assert (np.abs(a) <= limits.acceleration * (1 + 2e-3) + 2e-3).all()
    dt_s = np.diff(t)[:, None] / 1e9
    assert (np.abs(np.diff(p, axis=0)) <= limits.velocity * dt_s * (1 + 1e-4) + 1e-9).all()
    assert (np.abs(np.diff(v, axis=0)) <= limits.acceleration * dt_s * (1 + 2e-3) + 1e-5).all()


@settings(max_examples=200, deadline=None)
@given(
    any_limits(),
    st.lists(st.tuples(st.sampled_from(KINDS), st.floats(0.0, 0.2)), min_size=2, max_size=6),
    st.sampled_from([0.005, 0.02, 0.0333]),
    st.integers(5, 130),
    st.sampled_from([0.0, 0.03]),
    st.integers(0, 2**32),
)
def test_a_stream_that_starts_now(limits, sequence, dt, period, lag, seed):
    """The controller goes from its last command to the first point by itself; that obeys the
    limits too.
    """
    rng = np.random.default_rng(seed)
    here = inside(limits, rng)
    executing, now, state = None, NOW, at_rest(here)
    for kind, age in sequence:
        now += period * MS + int(rng.integers(0, 3 * MS))
        if executing is not None:
            position, velocity = executing.sample(now)
            state = Measured(position - lag * velocity, velocity, now)
        wanted = chunk_of(kind, rng, limits, state.positions, dt, 50, now - int(age * SECOND))
        try:
            planned = plan(wanted, limits, OPEN, state, executing, now, "now", 0.1)
        except Refusal:
            continue
        check_form(planned, len(here), now, "now")
        begin = state.positions, state.velocities
        for ours, theirs in zip(
            planned.motion.sample(now),
            begin if executing is None else executing.sample(now),
            strict=True,
        ):
            np.testing.assert_allclose(ours, theirs, atol=1e-9)
        assert_within(*vars(planned.motion).values(), limits)
        executing = planned.motion


@settings(max_examples=150, deadline=None)
@given(
    any_limits(), st.sampled_from(KINDS[:7]), st.floats(0.02, 1.0), st.integers(0, 2**32), STARTS
)
def test_limits_lowered_while_the_arm_moves(limits, kind, share, seed, start):
    """It slows down at the new acceleration limit and keeps within the positions; only a position
    limit makes it brake harder, and never harder than the joint itself can.
    """
    rng = np.random.default_rng(seed)
    here = inside(limits, rng)
    moving = chunk_of("ramp", rng, limits, here, 0.02, 50, NOW)
    executing = plan(moving, limits, OPEN, at_rest(here), None, NOW, "observation", 0.1).motion
    now = NOW + int(rng.integers(30, 900)) * MS
    position, velocity = executing.sample(now)
    wanted = chunk_of(kind, rng, limits, position, 0.02, 50, now - 50 * MS)
    lowered = limits.scaled(share, rng.uniform(0.05, 1.0))
    state = Measured(position, velocity, now)
    planned = plan(wanted, lowered, OPEN, state, executing, now, start, 0.1)
    check_form(planned, len(here), now, start)
    splice_at = planned.trajectory.times[0] + now if start == "now" else now + 2 * LEAD
    motion = planned.motion
    speed = np.abs(executing.sample_all(np.arange(now, splice_at + MS, MS))[1]).max(axis=0)
    p, v, a = execute(*vars(motion).values(), between(motion.times, after=splice_at))
    assert (p <= limits.upper + 1e-5).all() and (p >= limits.lower - 1e-5).all()
    assert (np.abs(v) <= np.maximum(lowered.velocity, speed) * (1 + 1e-4) + 1e-4).all()
    assert (np.abs(a) <= limits.acceleration * (1 + 2e-3) + 2e-3).all()
    halt = stop(lowered, state, executing, now, start).motion
    p, v, a = execute(*vars(halt).values(), between(halt.times))
    assert (p <= limits.upper + 1e-5).all() and (p >= limits.lower - 1e-5).all()


@settings(max_examples=150, deadline=None)
@given(any_limits(), st.sampled_from(KINDS[:7]), st.integers(0, 2**32), STARTS)
def test_an_arm_that_rests_beyond_a_limit(limits, kind, seed, start):
    """Goes no further out, whatever it is told."""
    rng = np.random.default_rng(seed)
    here = inside(limits, rng, beyond=0.2)
    wanted = chunk_of(kind, rng, limits, here, 0.02, 50, NOW - 50 * MS)
    motion = plan(wanted, limits, OPEN, at_rest(here), None, NOW, start, 0.1).motion
    around = replace(
        limits, lower=np.minimum(limits.lower, here), upper=np.maximum(limits.upper, here)
    )
    assert_within(*vars(motion).values(), around, NOW)


def test_an_arm_beyond_a_limit_comes_back_inside():
    limits = limits_of(2, upper=0.4, lower=-0.4)
    here = np.array([0.55, -0.45])  # further than clamp_position
    planned = plan(
        chunk(np.tile(here, (50, 1))),
        limits,
        TIGHT,
        at_rest(here),
        None,
        NOW,
        "observation",
        0.1,
    )
    np.testing.assert_allclose(planned.motion.positions[-1], [0.4, -0.4], atol=1e-3)
    assert (np.diff(planned.motion.positions[:, 0]) <= 1e-9).all(), "straight back"
    with pytest.raises(Refusal, match=r"joint_0, step 9.*clamp_position"):
        further = np.tile(here, (50, 1))
        further[9, 0] += 0.06
        plan(chunk(further), limits, TIGHT, at_rest(here), None, NOW, "observation", 0.1)


# Passing on -------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([0.01, 0.02, 0.05]), st.floats(0.02, 0.3), st.floats(0, 0.4), STARTS)
def test_a_smooth_chunk_passes_unchanged_after_the_blend(dt, blend, age, start):
    limits = limits_of(3)
    steps = round(1 / dt)
    wanted = chunk(wave(steps, 3, dt), dt, int(age * SECOND))
    first = wave(steps, 3, dt)[int(age / dt)]
    planned = plan(wanted, limits, TIGHT, at_rest(first), None, NOW, start, blend)
    if blend >= 0.08:  # less is too short to get up to speed within the acceleration limit
        assert planned.clamped == ()
    if planned.clamped:
        return
    due = wanted.stamp + np.arange(1, steps + 1) * round(dt * SECOND)
    brakes = due[-1] - int(0.25 / 20 * SECOND) - 2 * round(dt * SECOND)
    same = (due > NOW + LEAD + dt * SECOND + blend * SECOND) & (due < brakes)
    if start == "now":
        same &= due >= NOW + planned.trajectory.times[0]
    positions, velocities = planned.motion.sample_all(due[same])
    np.testing.assert_array_equal(positions, wanted.positions[same].astype(np.float64))
    t = np.arange(1, steps + 1)[same, None] * dt
    np.testing.assert_allclose(velocities, 0.2 * np.cos(2 * t + np.arange(3)), atol=1e-3)


def test_every_step_is_a_point():
    wanted = chunk(wave())
    planned = plan(wanted, limits_of(2), TIGHT, at_rest(wave()[5]), None, NOW, "observation", 0.1)
    assert planned.trajectory.times == tuple((i + 1) * 20 * MS for i in range(50))
    np.testing.assert_array_equal(planned.trajectory.positions[:6], np.tile(wave()[5], (6, 1)))


def test_the_same_chunk_again_changes_nothing():
    """An ideal arm under an ideal policy: no replan leaves the path, but for braking at its end."""
    limits, full = limits_of(2), wave(100)
    executing, state = None, at_rest(full[4])
    for k in range(4):
        now = NOW + k * 100 * MS
        part = ActionChunk(full[5 * k : 5 * k + 50].astype(np.float32), 0.02, now - 100 * MS, k, 0)
        if executing is not None:
            state = Measured(*executing.sample(now), now)
        planned = plan(part, limits, TIGHT, state, executing, now, "observation", 0.1)
        assert planned.clamped == ()
        executing = planned.motion
    due = NOW - 100 * MS + np.arange(20, 60) * 20 * MS
    np.testing.assert_allclose(executing.sample_all(due)[0], full[19:59], atol=1e-5)


def test_a_little_too_fast_is_slowed_down():
    ramp = np.outer(np.arange(1, 51) * 0.02, [3.6, 0.5])  # 1.2 times the limit
    planned = plan(
        chunk(ramp, age=0),
        limits_of(2, upper=9),
        TIGHT,
        at_rest([0, 0]),
        None,
        NOW,
        "now",
        0.1,
    )
    assert "velocity" in planned.clamped
    middle = planned.motion.velocities[25]
    np.testing.assert_allclose(middle, [3.0, 0.5], atol=1e-3)


# Taking over ------------------------------------------------------------------------------------


def test_a_joint_that_does_not_follow_begins_where_it_is():
    limits = limits_of(2)
    here = wave()[5]
    executing = plan(chunk(wave()), limits, TIGHT, at_rest(here), None, NOW, "now", 0.1).motion
    now = NOW + 300 * MS
    should, rate = executing.sample(now)
    off = should + np.array([0.0, 0.35])  # beyond max_jump
    wanted = ActionChunk(np.tile(off, (50, 1)).astype(np.float32), 0.02, now, 1, 0)
    planned = plan(wanted, limits, TIGHT, at_rest(off), executing, now, "observation", 0.1)
    p, v = planned.motion.sample(now)
    np.testing.assert_allclose(p, [should[0], off[1]], atol=1e-6)
    np.testing.assert_allclose(v, [rate[0], 0.0], atol=1e-6)


def test_the_first_point_is_in_reach_of_an_arm_that_lags():
    """A controller that starts now goes from the measured joints to the first point by itself."""
    limits, here = limits_of(2), wave()[5]
    executing = plan(chunk(wave()), limits, TIGHT, at_rest(here), None, NOW, "now", 0.1).motion
    now = NOW + 200 * MS
    should, rate = executing.sample(now)
    lagging = Measured(should - 0.05, rate, now)
    again = ActionChunk(wave()[10:].astype(np.float32), 0.02, now - 100 * MS, 1, 0)
    planned = plan(again, limits, TIGHT, lagging, executing, now, "now", 0.1)
    assert planned.trajectory.times[0] > 2 * LEAD
    for begin in (lagging.positions, should):
        assert_within(
            np.array([0, planned.trajectory.times[0]]),
            np.stack([begin, planned.trajectory.positions[0]]),
            np.stack([rate, planned.trajectory.velocities[0]]),
            limits,
        )


@pytest.mark.parametrize("shift", [-20 * SECOND, -LEAD, 0, 300 * MS, 20 * SECOND])
def test_what_ran_may_be_over_or_yet_to_come(shift):
    limits, here = limits_of(2), wave()[5]
    old = plan(chunk(wave()), limits, TIGHT, at_rest(here), None, NOW, "observation", 0.1).motion
    old = replace(old, times=old.times + shift)
    begin = old.sample(NOW)[0]
    wanted = chunk(begin + wave() - wave()[0])
    planned = plan(wanted, limits, TIGHT, at_rest(begin), old, NOW, "observation", 0.1)
    check_form(planned, 2, NOW, "observation")
    np.testing.assert_allclose(planned.motion.sample(NOW)[0], begin, atol=1e-6)


def test_every_kind_of_chunk_was_tried():
    """The strategies above reach every outcome; else the tests would prove little."""
    outcomes: Counter[str] = Counter()
    for seed in range(400):
        rng = np.random.default_rng(seed)
        limits = limits_of(2)
        here = inside(limits, rng)
        wanted = chunk_of(KINDS[seed % len(KINDS)], rng, limits, here, 0.02, 50, NOW)
        try:
            planned = plan(wanted, limits, TIGHT, at_rest(here), None, NOW, "observation", 0.1)
        except Refusal as refusal:
            outcomes[refusal.reason] += 1
        else:
            outcomes.update(planned.clamped or ("passed",))
    assert min(outcomes[k] for k in ("nonfinite", "limits", "passed")) > 20, outcomes
    assert min(outcomes[k] for k in ("position", "velocity", "acceleration")) > 10, outcomes
