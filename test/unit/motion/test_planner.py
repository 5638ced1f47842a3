"""Whatever a policy returns, what is planned obeys the limits and takes over without a step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from support.controller import between, execute
from support.jtc import (
    CONTROLLERS,
    KINDS,
    LEAD,
    MS,
    NOW,
    OPEN,
    SECOND,
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
    resting,
    wave,
)

from pi0_ros.motion.limits import JointLimits
from pi0_ros.motion.planner import Plan, plan, stop
from pi0_ros.motion.refusal import Refusal
from pi0_ros.motion.spline import Motion
from pi0_ros.policy.types import ActionChunk

STEP = 20 * MS


def planned_of(
    wanted: ActionChunk,
    limits: JointLimits,
    setpoint: Motion,
    now: int = NOW,
    controller: str = "jtc",
    tolerances=TIGHT,
    blend: float = 0.1,
) -> Plan:
    """For an arm that is where its setpoint is."""
    measured = at_rest(setpoint.sample(now)[0], now)
    return plan(wanted, limits, tolerances, measured, setpoint, now, controller, LEAD, blend)


@settings(max_examples=500, deadline=None)
@given(
    any_limits(),
    st.sampled_from(KINDS),
    st.sampled_from([0.001, 0.004, 0.02, 0.02, 0.0333, 0.1, 1.0]),
    st.integers(2, 50),
    st.floats(-0.1, 0.9),
    st.sampled_from([0.0, 0.02, 0.1, 0.5]),
    CONTROLLERS,
    st.sampled_from([TIGHT, OPEN]),
    st.integers(0, 2**32),
)
def test_from_rest(limits, kind, dt, steps, age, blend, controller, tolerances, seed):
    """The trajectory begins where the arm rests and obeys the limits all along."""
    rng = np.random.default_rng(seed)
    here = inside(limits, rng)
    wanted = chunk_of(kind, rng, limits, here, dt, steps, NOW - int(age * steps * dt * SECOND))
    try:
        planned = planned_of(wanted, limits, resting(here), NOW, controller, tolerances, blend)
    except Refusal as refusal:
        event(f"{kind}: {refusal.reason}")
        assert refusal.reason in ("nonfinite", "limits", "expired")
        assert (refusal.reason == "nonfinite") == (kind in ("nan", "inf"))
        return
    event(f"{kind}: {'clamped' if planned.clamped else 'passed'}")
    points = max(steps, len(planned.trajectory.times) if steps * dt < 0.1 else 0)
    check_form(planned, len(here), NOW, controller, points)
    trajectory = planned.trajectory
    assert_within(message_times(planned, NOW), trajectory.positions, trajectory.velocities, limits)
    p, v = planned.motion.sample(NOW + LEAD)
    np.testing.assert_allclose(p, here, atol=1e-9)
    np.testing.assert_allclose(v, 0, atol=1e-9)


@settings(max_examples=600, deadline=None)
@given(
    any_limits(),
    st.lists(st.tuples(st.sampled_from(KINDS), st.floats(0.0, 0.5)), min_size=2, max_size=7),
    st.sampled_from([0.01, 0.02, 0.0333]),
    st.sampled_from([0.0, 0.02, 0.1, 0.3]),
    st.integers(5, 130),
    st.sampled_from([TIGHT, OPEN]),
    st.booleans(),
    st.integers(0, 2**32),
)
def test_a_stream_of_chunks_and_stops(limits, sequence, dt, blend, period, tolerances, stops, seed):
    """One upon another: the command that the controller makes of them has no step in position or
    velocity and obeys the limits at every time, whatever the network's delay up to the lead.
    """
    rng = np.random.default_rng(seed)
    step = round(dt * SECOND)
    setpoint, now, begun = resting(inside(limits, rng)), NOW, 0
    messages: list[tuple[int, Plan]] = []  # heard at
    for kind, age in sequence:
        now += period * MS + int(rng.integers(0, 3 * MS))
        here = setpoint.sample(now)[0]
        wanted = chunk_of(kind, rng, limits, here, dt, 50, now - int(age * SECOND))
        try:
            if stops and messages and rng.random() < 0.3:
                planned = stop(limits, setpoint, now, "jtc", LEAD, step, 50)
                begun += 1
            else:
                planned = planned_of(wanted, limits, setpoint, now, "jtc", tolerances, blend)
        except Refusal:
            continue
        points = 50
        if len(planned.trajectory.times) > 50:
            full = np.abs(setpoint.sample_all(now + np.arange(80) * MS)[1]).max(axis=0)
            assert (full / limits.acceleration).max() > 46 * dt - LEAD / 1e9, "no time to brake"
            points = len(planned.trajectory.times)
        check_form(planned, len(here), now, "jtc", points)
        knots = planned.motion.times
        off = (knots % step != 0).sum()
        assert off <= begun * (1 + len(here)), "only where stops begin, or end at a limit"
        setpoint = planned.motion.after(setpoint, 2 * SECOND)
        heard = now + int(rng.integers(0, LEAD - MS))  # a stop may begin at a knot before
        messages.append((max([heard, *(m[0] for m in messages)]), planned))
    if not messages:
        return
    ends = [heard for heard, _ in messages[1:]] + [messages[-1][1].motion.end + MS]
    parts = []
    for (heard, planned), end in zip(messages, ends, strict=True):
        if end > heard:
            t = np.arange(heard, end, MS)
            trajectory = planned.trajectory
            times = trajectory.stamp + np.array(trajectory.times)
            parts.append((t, *execute(times, trajectory.positions, trajectory.velocities, t)))
    t, p, v, a = (np.concatenate(part) for part in zip(*parts, strict=True))
    assert (p <= limits.upper + 1e-5).all() and (p >= limits.lower - 1e-5).all()
    assert (np.abs(v) <= limits.velocity * (1 + 1e-4)).all()
    assert (np.abs(a) <= limits.acceleration * (1 + 2e-3) + 2e-3).all()
    seconds = np.diff(t)[:, None] / 1e9
    assert (np.abs(np.diff(p, axis=0)) <= limits.velocity * seconds * (1 + 1e-4) + 1e-9).all()
    assert (np.abs(np.diff(v, axis=0)) <= limits.acceleration * seconds * (1 + 2e-3) + 1e-5).all()


@settings(max_examples=200, deadline=None)
@given(any_limits(), st.integers(0, 2**32), CONTROLLERS)
def test_the_setpoint_is_the_truth(limits, seed, controller):
    """Wherever the arm is measured, a chunk begins at the setpoint, with its velocity."""
    rng = np.random.default_rng(seed)
    here = inside(limits, rng)
    first = chunk_of("walk", rng, limits, here, 0.02, 50, NOW)
    setpoint = planned_of(first, limits, resting(here), NOW, controller, OPEN).motion
    now = NOW + int(rng.integers(0, 900)) * MS
    wanted = chunk_of("ramp", rng, limits, setpoint.sample(now)[0], 0.02, 50, now - 60 * MS)
    measured = at_rest(here + rng.normal(0, 0.3, len(here)), now)
    planned = plan(wanted, limits, OPEN, measured, setpoint, now, controller, LEAD, 0.1)
    after = planned.motion.after(setpoint, 2 * SECOND)
    until = np.arange(now - 100 * MS, now + LEAD, MS)
    for ours, theirs in zip(after.sample_all(until), setpoint.sample_all(until), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-9)


@settings(max_examples=150, deadline=None)
@given(any_limits(), st.sampled_from(KINDS[:7]), st.floats(0.02, 1.0), st.integers(0, 2**32))
def test_limits_lowered_while_the_arm_moves(limits, kind, share, seed):
    """It slows down at the new acceleration limit and keeps within the positions; only a position
    limit or the end makes it brake harder, and never harder than the joint itself can.
    """
    rng = np.random.default_rng(seed)
    here = inside(limits, rng)
    moving = chunk_of("ramp", rng, limits, here, 0.02, 50, NOW)
    setpoint = planned_of(moving, limits, resting(here), NOW, "jtc", OPEN).motion
    now = NOW + int(rng.integers(30, 900)) * MS
    wanted = chunk_of(kind, rng, limits, setpoint.sample(now)[0], 0.02, 50, now - 50 * MS)
    lowered = limits.scaled(share, rng.uniform(0.05, 1.0))
    planned = planned_of(wanted, lowered, setpoint, now, "jtc", OPEN)
    points = max(50, len(planned.trajectory.times)) if limits.acceleration.min() < 2 else 50
    check_form(planned, len(here), now, "jtc", points)
    motion, splice_at = planned.motion, now + LEAD + STEP
    speed = np.abs(setpoint.sample_all(np.arange(now, splice_at, MS))[1]).max(axis=0)
    p, v, a = execute(*vars(motion).values(), between(motion.times, after=splice_at))
    assert (p <= limits.upper + 1e-5).all() and (p >= limits.lower - 1e-5).all()
    assert (np.abs(v) <= np.maximum(lowered.velocity, speed) * (1 + 1e-4) + 1e-4).all()
    assert (np.abs(a) <= limits.acceleration * (1 + 2e-3) + 2e-3).all()


@settings(max_examples=150, deadline=None)
@given(any_limits(), st.sampled_from(KINDS[:7]), st.integers(0, 2**32), CONTROLLERS)
def test_an_arm_that_rests_beyond_a_limit(limits, kind, seed, controller):
    """Goes no further out, whatever it is told."""
    rng = np.random.default_rng(seed)
    here = inside(limits, rng, beyond=0.2)
    wanted = chunk_of(kind, rng, limits, here, 0.02, 50, NOW - 50 * MS)
    motion = planned_of(wanted, limits, resting(here), NOW, controller, OPEN).motion
    around = replace(
        limits, lower=np.minimum(limits.lower, here), upper=np.maximum(limits.upper, here)
    )
    assert_within(*vars(motion).values(), around, NOW)


def test_an_arm_beyond_a_limit_comes_back_inside():
    limits = limits_of(2, upper=0.4, lower=-0.4)
    here = np.array([0.55, -0.45])  # further than clamp_position
    planned = planned_of(chunk(np.tile(here, (50, 1))), limits, resting(here))
    np.testing.assert_allclose(planned.motion.positions[-1], [0.4, -0.4], atol=1e-3)
    assert (np.diff(planned.motion.positions[:, 0]) <= 1e-9).all(), "straight back"
    with pytest.raises(Refusal, match=r"joint_0, step 9.*clamp_position"):
        further = np.tile(here, (50, 1))
        further[9, 0] += 0.06
        planned_of(chunk(further), limits, resting(here))


# Passing on -------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([0.01, 0.02, 0.05]), st.floats(0.15, 0.3), st.floats(0, 0.4), CONTROLLERS)
def test_a_smooth_chunk_is_passed_on_after_the_blend(dt, blend, age, controller):
    limits, joints = limits_of(3), np.arange(3)
    steps = round(1 / dt)
    wanted = chunk(wave(steps, 3, dt), dt, int(age * SECOND))
    first = wave(steps, 3, dt)[int(age / dt)]
    planned = planned_of(wanted, limits, resting(first), NOW, controller, blend=blend)
    assert planned.clamped == ()
    times = planned.motion.times
    end = wanted.stamp + SECOND - int(0.25 / 20 * SECOND) - 2 * round(dt * SECOND)
    same = (times > NOW + LEAD + (2 * dt + blend) * SECOND) & (times < end)
    assert same.any()
    t = (times[same, None] - wanted.stamp) / 1e9
    expected = 0.1 * np.sin(2 * t + joints) - 0.1 * np.sin(joints)
    np.testing.assert_allclose(planned.motion.positions[same], expected, atol=0.3 * dt**2)
    velocities = 0.2 * np.cos(2 * t + joints)
    np.testing.assert_allclose(planned.motion.velocities[same], velocities, atol=3 * dt**2)


def test_a_chunk_on_the_grid_is_passed_on_exactly():
    now = NOW // STEP * STEP
    wanted = ActionChunk(wave().astype(np.float32), 0.02, now - 100 * MS, 0, 0)
    planned = planned_of(wanted, limits_of(2), resting(wave()[5]), now)
    np.testing.assert_array_equal(
        planned.trajectory.positions[15:40], wanted.positions[15:40].astype(np.float64)
    )


def test_what_executes_is_repeated_bit_by_bit():
    limits, setpoint, now = limits_of(2), resting(wave()[5]), NOW
    for k in range(8):
        wanted = ActionChunk(wave().astype(np.float32), 0.02, now - 150 * MS, k, 0)
        planned = planned_of(wanted, limits, setpoint, now)
        motion = planned.motion
        assert (motion.times % STEP == 0).all()
        if k:
            common = np.isin(motion.times, setpoint.times) & (motion.times < now + LEAD)
            again = np.isin(setpoint.times, motion.times[common])
            assert common.sum() >= 4
            for name in ("positions", "velocities"):
                np.testing.assert_array_equal(
                    getattr(motion, name)[common], getattr(setpoint, name)[again]
                )
        setpoint = motion.after(setpoint, 2 * SECOND)
        now += 77 * MS


def test_a_little_too_fast_is_slowed_down():
    ramp = np.outer(np.arange(1, 51) * 0.02, [3.6, 0.5])  # 1.2 times the limit
    planned = planned_of(chunk(ramp, age=0), limits_of(2, upper=9), resting([0, 0]))
    assert "velocity" in planned.clamped
    np.testing.assert_allclose(planned.motion.velocities[25], [3.0, 0.5], atol=1e-3)


def test_joints_without_position_limits_take_the_shorter_way():
    """The policy speaks of angles in [-pi, pi]; the arm has turned more than once."""
    base = limits_of(2, velocity=3.0)
    limits = replace(base, lower=np.array([-np.inf, -1.5]), upper=np.array([np.inf, 1.5]))
    truth = 9.3 + 0.5 * np.arange(1, 51) * 0.02
    wrapped = (truth + np.pi) % (2 * np.pi) - np.pi
    assert np.abs(np.diff(wrapped)).max() > 6
    positions = np.stack([wrapped, np.zeros(50)], axis=1)
    planned = planned_of(chunk(positions), limits, resting([9.35, 0.0]))
    assert np.abs(planned.motion.positions[:, 0] - 9.5).max() < 0.4


@pytest.mark.parametrize("shift", [-20 * SECOND, -LEAD, 0, 300 * MS])
def test_what_ran_may_be_over_or_yet_to_come(shift):
    limits, here = limits_of(2), wave()[5]
    old = planned_of(chunk(wave()), limits, resting(here)).motion
    old = replace(old, times=old.times + shift // STEP * STEP)
    wanted = chunk(old.sample(NOW)[0] + wave() - wave()[0])
    planned = planned_of(wanted, limits, old)
    check_form(planned, 2, NOW, "jtc")
    after = planned.motion.after(old, 2 * SECOND)
    for ours, theirs in zip(after.sample(NOW), old.sample(NOW), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-9)


# Stops ------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(any_limits(), st.integers(0, 2**32), CONTROLLERS)
def test_a_stop_brakes_from_the_setpoint(limits, seed, controller):
    rng = np.random.default_rng(seed)
    here = inside(limits, rng)
    kind = ("ramp", "walk", "edge")[rng.integers(3)]
    wanted = chunk_of(kind, rng, limits, here, 0.02, 50, NOW)
    setpoint = planned_of(wanted, limits, resting(here), NOW, controller, OPEN).motion
    now = NOW + int(rng.integers(0, 1500)) * MS
    planned = stop(limits, setpoint, now, controller, LEAD, STEP, 50)
    check_form(planned, len(here), now, controller, max(50, len(planned.trajectory.times)))
    motion = planned.motion.after(setpoint, 2 * SECOND)
    assert not motion.velocities[-1].any() and motion.end > now
    begin = now + LEAD - MS  # it may begin at a knot that is so close
    assert_within(*vars(planned.motion).values(), limits, begin)
    until = np.arange(now, begin, MS)
    for ours, theirs in zip(motion.sample_all(until), setpoint.sample_all(until), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-9)
    # Slowing down all the way, never turning round: not a move to anywhere.
    looks = motion.sample_all(between(motion.times, after=begin + 2 * MS))[1]
    assert (np.diff(np.abs(looks), axis=0) <= 1e-6).all()
    assert (looks * np.sign(looks[:1]) >= -1e-6).all()


def test_a_stop_takes_the_time_that_the_acceleration_asks_for():
    setpoint = Motion(
        NOW + np.array([-1, 1]) * SECOND, np.array([[-2.0], [2.0]]), np.full((2, 1), 2.0)
    )
    planned = stop(limits_of(1, upper=3, acceleration=5.0), setpoint, NOW, "jtc", LEAD, STEP, 50)
    speeds = planned.motion.sample_all(NOW + np.array([40, 240, 400, 460]) * MS)[1][:, 0]
    np.testing.assert_allclose(speeds, [2.0, 1.0, 0.2, 0.0], atol=1e-6)
    assert len(planned.trajectory.times) == 50
