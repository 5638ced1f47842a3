"""Whether what a controller commanded, cycle by cycle, is fit for an arm.

It knows the limits and the commands, and nothing of how they came about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

STEP_SHARE, STEP = 1.05, 1e-3
"""A command may differ from the last one by the velocity limit times the period, times this, and
radians on top."""

ACCELERATION_SHARE = 1.05
"""Multiple of the acceleration limit that the commands of three cycles may show."""

OUTSIDE = 1e-4
"""Radians beyond a position limit that are rounding."""

_WINDOW = 0.05  # seconds over which the speed counts without STEP in every cycle
_REST = 0.25  # seconds at the end in which nothing may move
_STILL = 1e-6  # radians


@dataclass(frozen=True)
class Bounds:
    """Limits of the joints: [joints] radians, rad/s and rad/s^2; inf where there is none."""

    lower: np.ndarray
    upper: np.ndarray
    velocity: np.ndarray
    acceleration: np.ndarray


@dataclass(frozen=True)
class Excuse:
    """A span of time, nanoseconds, in which commands may step.

    Attributes:
        by: radians more than otherwise.
        turns: whole turns do not count.
    """

    begin: int
    end: int
    by: float
    turns: bool = False


@dataclass(frozen=True)
class Verdict:
    """What was found.

    Attributes:
        step: radians by which the worst step of a command exceeds velocity limit times period.
        acceleration: the worst acceleration as a multiple of the limit.
        outside: radians beyond a position limit, not counting a way back.
        step_at, acceleration_at, outside_at: nanoseconds of these.
        finite: all commands are.
        rests: nothing moves at the end.
        moved: radians that all joints moved, up and down.
        problems: sentences; empty if all is well.
    """

    step: float = 0.0
    acceleration: float = 0.0
    outside: float = 0.0
    step_at: int = 0
    acceleration_at: int = 0
    outside_at: int = 0
    finite: bool = True
    rests: bool = True
    moved: float = 0.0
    problems: tuple[str, ...] = ()


def judge(
    times: np.ndarray,
    commands: np.ndarray,
    bounds: Bounds,
    excused: Sequence[Excuse] = (),
) -> Verdict:
    """Look at every cycle.

    Args:
        times: [n] int64 nanoseconds of the cycles, increasing.
        commands: [n, joints] radians.
        excused: steps that nobody can avoid.
    """
    if not np.isfinite(commands).all():
        return Verdict(finite=False, problems=("a command is not finite",))
    seconds = np.diff(times)[:, None] / 1e9
    moves = np.diff(commands, axis=0)
    more = np.zeros((len(moves), 1))
    for excuse in excused:
        rows = (times[1:] >= excuse.begin) & (times[:-1] <= excuse.end)
        more[rows] += excuse.by
        if excuse.turns:
            moves[rows] = (moves[rows] + np.pi) % (2 * np.pi) - np.pi
    counts = more[:, 0] == 0
    steps = np.abs(moves) - bounds.velocity * seconds - more
    allowed = (STEP_SHARE - 1) * bounds.velocity * seconds + STEP
    window = min(max(round(_WINDOW / float(np.median(seconds))), 1), len(moves))
    ways = np.abs(_sums(moves, window)) - STEP_SHARE * bounds.velocity * _sums(seconds, window)
    ways = np.where(_sums(np.sign(more), window) == 0, ways, 0.0)
    accelerations = np.diff(moves / seconds, axis=0) / ((seconds[1:] + seconds[:-1]) / 2)
    both = (counts[1:] & counts[:-1])[:, None]
    shares = np.where(both, np.abs(accelerations) / bounds.acceleration, 0.0)
    beyond = np.maximum(np.maximum(bounds.lower - commands, commands - bounds.upper), 0.0)
    leaving = np.where(counts[:, None] & (np.diff(beyond, axis=0) > 1e-9), beyond[1:], 0.0)
    last = times >= times[-1] - round(_REST * 1e9)
    rests = bool(np.ptp(commands[last], axis=0).max() <= _STILL)

    step_row, share_row, out_row = (
        int(found.max(axis=1).argmax()) for found in (steps, shares, leaving)
    )
    problems = []

    def blame(text: str, row: int, joint: int) -> None:
        problems.append(f"at {(times[row] - times[0]) / 1e9:.3f} s joint {joint} {text}")

    if (steps > allowed).any():
        row, joint = np.unravel_index((steps - allowed).argmax(), steps.shape)
        blame(f"steps by {moves[row, joint]:.4f} rad in {seconds[row, 0] * 1e3:g} ms", row, joint)
    if ways.max() > STEP:
        row, joint = np.unravel_index(ways.argmax(), ways.shape)
        blame(f"is faster than its limit for {window} cycles", row, joint)
    if shares.max() > ACCELERATION_SHARE:
        joint = int(shares[share_row].argmax())
        blame(f"accelerates at {shares.max():.3g} times the limit", share_row, joint)
    if leaving.max() > OUTSIDE:
        joint = int(leaving[out_row].argmax())
        blame(f"goes {leaving.max():.4f} rad beyond a position limit", out_row, joint)
    if not rests:
        problems.append("it moves at the end")
    return Verdict(
        step=max(float(steps.max()), 0.0),
        acceleration=float(shares.max()),
        outside=float(leaving.max()),
        step_at=int(times[step_row]),
        acceleration_at=int(times[share_row]),
        outside_at=int(times[out_row]),
        rests=rests,
        moved=float(np.abs(moves).sum()),
        problems=tuple(problems),
    )


def late_to_rest(
    times: np.ndarray,
    commands: np.ndarray,
    acceleration: np.ndarray,
    begin: int,
    end: int,
    reaction: float,
) -> str:
    """Whether a stop brakes softer than it should.

    Args:
        times, commands: see `judge`.
        acceleration: [joints] rad/s^2 that it should brake with.
        begin, end: nanoseconds at which the stop was asked for, and until which it holds.
        reaction: seconds until it brakes, at most, and those that it may take longer.

    Returns:
        "", or a sentence.
    """
    speeds = np.abs(np.diff(commands, axis=0)) / (np.diff(times)[:, None] / 1e9)
    braking = begin + round(reaction * 1e9)
    fastest = speeds[(times[1:] >= begin) & (times[:-1] <= braking)].max(axis=0)
    rest = braking + round(float((fastest / acceleration).max()) * 1e9)
    after = commands[(times >= rest) & (times <= end)]
    moved = float(np.ptp(after, axis=0).max()) if len(after) else 0.0
    if moved <= _STILL:
        return ""
    return f"{(rest - begin) / 1e9:.3f} s after a stop it still moves, by {moved:.4f} rad"


def _sums(rows: np.ndarray, count: int) -> np.ndarray:
    """[n - count + 1, ...] sums of `count` successive rows."""
    total = np.concatenate([np.zeros((1, rows.shape[1])), np.cumsum(rows, axis=0)])
    return total[count:] - total[:-count]


def apart_since(
    times: np.ndarray,
    commands: np.ndarray,
    arm: np.ndarray,
    apart: float,
    lag: float,
) -> int | None:
    """When a joint was first off every command of the last `lag` seconds by more than `apart`.

    Args:
        times: [n] int64 nanoseconds.
        commands, arm: [n] radians of one joint, and where it really was.

    Returns:
        Nanoseconds; None: never.
    """
    first = np.searchsorted(times, times - round(lag * 1e9))
    for row in range(0, len(times), max(len(times) // 400, 1)):
        window = commands[first[row] : row + 1]
        if arm[row] > window.max() + apart or arm[row] < window.min() - apart:
            return int(times[row])
    return None
