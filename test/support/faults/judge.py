"""Whether what the node publishes is safe: every trajectory, and what the arm makes of them.

It knows the limits, what the arm is commanded, and nothing of the node's inside. Pure
Python; times are nanoseconds of the clock that the messages are stamped with.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from support.faults.arm import Path

_SECOND = 1_000_000_000
NEAR = 0.05
"""Radians between a trajectory's first point and the arm's command at that time."""
STEP = 0.03
"""Radians that a command may be off the last one, beyond what the speed explains: a busy machine
delivers a trajectory after its splice point."""
_LEAD = 50_000_000
"""Nanoseconds in which a stop goes on as the trajectory before: splice_lead, and a point's gap."""
_GAP = 300_000_000  # nanoseconds without an account of the arm in which nothing is judged by it


@dataclass(frozen=True)
class Limits:
    """What every joint may do: radians, rad/s, rad/s^2."""

    lower: np.ndarray
    upper: np.ndarray
    velocity: float
    acceleration: float


class Judge:
    """Hears everything, and keeps a sentence about each thing that must not be.

    Attributes:
        violations: sentences.
        judged: trajectories looked at.
        steps: of the arm looked at.
    """

    def __init__(self, joints: Sequence[str], limits: Limits) -> None:
        self._joints, self._limits = list(joints), limits
        self.violations: list[str] = []
        self.judged = self.steps = 0
        self._arm: deque[tuple[int, np.ndarray]] = deque(maxlen=1000)
        self._first: deque[tuple[int, np.ndarray]] = deque(maxlen=100)
        self._held = ""
        self._held_since = 0
        self._stops = 0

    def hold(self, why: str, since: int = 0) -> None:
        """Nothing may be published but one braking to rest; "" ends that.

        Args:
            since: nanoseconds of wall time; what was published before only came late.
        """
        self._held, self._held_since, self._stops = why, since, 0

    def arm(self, stamp: int, positions: Sequence[float]) -> None:
        """What the arm is commanded."""
        here = np.array(positions, np.float64)
        if self._arm and stamp <= self._arm[-1][0]:
            self.forget()
        if self._arm:
            before, there = self._arm[-1]
            elapsed = (stamp - before) / _SECOND
            if stamp - before < _GAP:
                self.steps += 1
                moved = np.abs(here - there)
                if (moved > self._limits.velocity * elapsed + STEP).any():
                    self._blame(f"the arm was made to step by {moved.max():.3f} rad", stamp)
        self._arm.append((stamp, here))
        while self._first and self._first[0][0] <= stamp:
            self._check_first(*self._first.popleft())

    def forget(self) -> None:
        """The clock jumped, or the arm is another one: earlier accounts say nothing."""
        self._arm.clear()
        self._first.clear()

    def trajectory(self, message: Any, received: int, published: int | None = None) -> None:
        """Judge a trajectory_msgs/JointTrajectory that came at `received`.

        Args:
            published: nanoseconds of wall time; None: now.
        """
        self.judged += 1
        late = published is not None and published < self._held_since
        problem = self._shape(message) or self._motion(Path(message, received), received, late)
        if problem:
            self._blame(problem, received)

    def _shape(self, message: Any) -> str:
        if list(message.joint_names) != self._joints:
            return f"joints {list(message.joint_names)}, not {self._joints}"
        if not message.points:
            return "a trajectory without points"
        for point in message.points:
            for what in ("positions", "velocities"):
                if len(getattr(point, what)) != len(self._joints):
                    return f"{len(getattr(point, what))} {what} of {len(self._joints)} joints"
        return ""

    def _motion(self, path: Path, received: int, late: bool) -> str:
        p, v = path.positions, path.velocities
        if not (np.isfinite(p).all() and np.isfinite(v).all()):
            return "not finite"
        if (np.diff(path.times) <= 0).any():
            return "times that do not increase"
        if path.end <= received - _SECOND:
            return "a trajectory that is wholly in the past"
        if (np.abs(p) < 1e-9).all(axis=1).any():
            return "zeros out of nowhere"
        if np.abs(v[-1]).any():
            return "no rest at the end"
        self._first.append((int(path.times[0]), p[0]))
        return ("" if late else self._hold(path, received)) or self._within(path)

    def _within(self, path: Path) -> str:
        limits = self._limits
        p, v, a = path.sample(path.sample_times())
        for what, excess in (
            ("below the lower limit by {:.4f} rad", limits.lower - p - 1e-5),
            ("above the upper limit by {:.4f} rad", p - limits.upper - 1e-5),
            ("too fast by {:.4f} rad/s", np.abs(v) - limits.velocity * 1.001),
            # Over points a microsecond apart rounding alone is some thousandths of a rad/s^2.
            ("accelerates too hard by {:.3f} rad/s^2", np.abs(a) - limits.acceleration * 1.01),
        ):
            if excess.max() > 0:
                joint = self._joints[int(excess.max(axis=0).argmax())]
                return f"{joint} {what.format(excess.max())}"
        return ""

    def _hold(self, path: Path, received: int) -> str:
        if not self._held:
            return ""
        self._stops += 1
        times = path.sample_times()
        times = times[times >= min(received + _LEAD, path.end)]
        speed = np.abs(path.sample(times)[1])
        if (np.diff(speed, axis=0) > 1e-6).any():
            return f"a motion that is no braking although {self._held}"
        if self._stops > 1:
            return f"a second trajectory although {self._held}"
        return ""

    def _check_first(self, time: int, position: np.ndarray) -> None:
        """Where the arm was at the time of a trajectory's first point."""
        stamps = np.array([stamp for stamp, _ in self._arm])
        after = int(np.searchsorted(stamps, time))
        if not 0 < after < len(stamps) or stamps[after] - stamps[after - 1] > _GAP:
            return
        share = (time - stamps[after - 1]) / (stamps[after] - stamps[after - 1])
        there = self._arm[after - 1][1] * (1 - share) + self._arm[after][1] * share
        off = np.abs(position - there)
        if off.max() > NEAR:
            joint = self._joints[int(off.argmax())]
            self._blame(f"begins {off.max():.3f} rad from where {joint} is", time)

    def _blame(self, text: str, time: int) -> None:
        if len(self.violations) < 1000:
            self.violations.append(f"at {time / _SECOND:.3f}: {text}")
