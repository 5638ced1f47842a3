"""Chunks, limits and measured states for tests of the motion room, and checks of its plans."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from pi0_ros.motion.limits import JointLimits
from pi0_ros.motion.planner import Plan
from pi0_ros.motion.refusal import Measured
from pi0_ros.motion.screening import Tolerances
from pi0_ros.motion.spline import Motion
from pi0_ros.policy.types import ActionChunk
from support.controller import between, execute

NOW = 1_790_000_000_123_456_789
MS = 1_000_000
SECOND = 1_000_000_000
TIGHT = Tolerances(max_jump=0.3, clamp_position=0.05, clamp_velocity=1.5, clamp_acceleration=20.0)
OPEN = Tolerances(max_jump=100.0, clamp_position=100.0, clamp_velocity=1e9, clamp_acceleration=1e9)
CONTROLLERS = st.sampled_from(["jtc", "jtc_replacing", "other"])
LEAD = 40 * MS


def assert_within(
    times: np.ndarray,
    positions: np.ndarray,
    velocities: np.ndarray,
    limits: JointLimits,
    after: int | None = None,
) -> None:
    """What is executed obeys the limits, at the points and between them."""
    p, v, a = execute(times, positions, velocities, between(times, after=after))
    assert np.isfinite(p).all() and np.isfinite(v).all()
    assert (p <= limits.upper + 1e-5).all(), (p - limits.upper).max()
    assert (p >= limits.lower - 1e-5).all(), (limits.lower - p).max()
    assert (np.abs(v) <= limits.velocity * (1 + 1e-4)).all(), (np.abs(v) / limits.velocity).max()
    # Positions near 1 rad have steps of 2e-16 rad: over points 1 us apart that is 1e-3 rad/s^2.
    most = limits.acceleration * (1 + 2e-3) + 2e-3
    assert (np.abs(a) <= most).all(), (np.abs(a) / limits.acceleration).max()


def limits_of(joints: int, **values: float) -> JointLimits:
    """The same limits for every joint: lower, upper, velocity, acceleration."""
    given = {"lower": -1.5, "upper": 1.5, "velocity": 3.0, "acceleration": 20.0, **values}
    names = tuple(f"joint_{i}" for i in range(joints))
    return JointLimits(names, **{k: np.full(joints, float(v)) for k, v in given.items()})


@st.composite
def any_limits(draw: st.DrawFn) -> JointLimits:
    """Limits of one to four joints, some of them without position or acceleration limits."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    joints = draw(st.integers(1, 4))
    middle, half = rng.uniform(-1, 1, joints), 10 ** rng.uniform(-1.5, 0.5, joints)
    turning = rng.random(joints) < 0.15
    acceleration = 10 ** rng.uniform(-0.5, 2.5, joints)
    return JointLimits(
        tuple(f"joint_{i}" for i in range(joints)),
        np.where(turning, -np.inf, middle - half),
        np.where(turning, np.inf, middle + half),
        10 ** rng.uniform(-1, 1, joints),
        np.where(rng.random(joints) < 0.1, np.inf, acceleration),
    )


def inside(limits: JointLimits, rng: np.random.Generator, beyond: float = 0.0) -> np.ndarray:
    """[joints] positions within the limits; some of them up to `beyond` radians outside."""
    lower, upper = np.maximum(limits.lower, -2) - beyond, np.minimum(limits.upper, 2) + beyond
    edge = np.where(rng.random(len(lower)) < 0.5, lower, upper)
    free = rng.uniform(lower, upper)
    return np.where(rng.random(len(lower)) < 0.3, edge, free)


KINDS = ("smooth", "still", "ramp", "noise", "walk", "steps", "edge", "huge", "nan", "inf")


def chunk_of(
    kind: str,
    rng: np.random.Generator,
    limits: JointLimits,
    begin: np.ndarray,
    dt: float,
    steps: int,
    stamp: int,
) -> ActionChunk:
    """What a policy might return, good or bad, from about `begin` on."""
    joints = len(limits.names)
    t = (np.arange(1, steps + 1) * dt)[:, None]
    scale = limits.velocity * rng.uniform(0.1, 1.3)
    if kind == "still":
        p = begin + 0 * t
    elif kind == "ramp":
        p = begin + rng.uniform(-1, 1, joints) * scale * t
    elif kind == "noise":
        p = begin + rng.normal(0, 10 ** rng.uniform(-4, 0), (steps, joints))
    elif kind == "walk":
        p = begin + np.cumsum(rng.normal(0, 0.3, (steps, joints)) * scale * dt, axis=0)
    elif kind == "steps":
        p = begin + np.where(t > t[rng.integers(steps)], rng.uniform(-0.2, 0.2, joints), 0)
    elif kind == "edge":  # straight to a limit and on
        far = np.where(rng.random(joints) < 0.5, limits.upper, limits.lower)
        far = np.clip(far, -3, 3) + rng.uniform(-0.05, 0.05, joints)
        p = begin + (far - begin) * np.minimum(t / rng.uniform(0.05, 1), 1)
    else:
        w = rng.uniform(0.2, 6, joints)
        p = begin + scale / w * (np.sin(w * t + 1) - np.sin(1))
    p = np.array(p, dtype=np.float64)
    if kind in ("huge", "nan", "inf"):
        value = {"huge": 10 ** rng.uniform(1, 38), "nan": np.nan, "inf": -np.inf}[kind]
        p[rng.integers(steps), rng.integers(joints)] = value
    with np.errstate(over="ignore"):
        return ActionChunk(p.astype(np.float32), dt, stamp, 0, 0)


def at_rest(positions, stamp: int = NOW) -> Measured:
    positions = np.asarray(positions, dtype=np.float64)
    return Measured(positions, np.zeros_like(positions), stamp)


def chunk(positions, dt: float = 0.02, age: int = 100 * MS) -> ActionChunk:
    return ActionChunk(np.asarray(positions, dtype=np.float32), dt, NOW - age, 0, 0)


def wave(steps: int = 50, joints: int = 2, dt: float = 0.02) -> np.ndarray:
    t = np.arange(1, steps + 1)[:, None] * dt
    return 0.1 * np.sin(2 * t + np.arange(joints)) - 0.1 * np.sin(np.arange(joints))


def message_times(planned: Plan, now: int) -> np.ndarray:
    """When the controller has the points due, if the message reaches it at once."""
    return (planned.trajectory.stamp or now) + np.array(planned.trajectory.times, dtype=np.int64)


def resting(positions, since: int = 0) -> Motion:
    """The setpoint of an arm that has rested."""
    positions = np.asarray(positions, dtype=np.float64)
    return Motion(np.array([since]), positions[None], np.zeros((1, len(positions))))


def check_form(planned: Plan, joints: int, now: int, controller: str, points: int = 50) -> None:
    """What the controller asks of a message, and that the motion is what the message makes."""
    trajectory = planned.trajectory
    assert all(isinstance(time, int) for time in trajectory.times)
    assert trajectory.times[0] >= 0 and (np.diff(trajectory.times) > 0).all()
    assert len(trajectory.times) == points
    assert trajectory.positions.shape == trajectory.velocities.shape == (points, joints)
    assert np.isfinite(trajectory.positions).all() and np.isfinite(trajectory.velocities).all()
    assert not trajectory.velocities[-1].any()
    times = message_times(planned, now)
    assert times[-1] > now
    if controller == "jtc":
        assert times[0] <= now, "a controller that steps to the current point has one"
    else:
        assert trajectory.stamp == 0
        assert trajectory.times[0] > (LEAD - MS if controller == "jtc_replacing" else 0)
    assert (np.diff(planned.motion.times) > 0).all()
    at = between(times, 3)
    for ours, theirs in zip(
        planned.motion.sample_all(at),
        execute(times, trajectory.positions, trajectory.velocities, at)[:2],
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
