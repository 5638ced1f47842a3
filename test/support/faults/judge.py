"""Whether what the node publishes is safe: every trajectory, and what the arm makes of them.

It knows the limits, what the arm is commanded, and nothing of the node's inside. Pure
Python; times are nanoseconds of the clock that the messages are stamped with.

On a busy machine a trajectory reaches the arm after its splice point. The arm then moves over to it
at once, and the next trajectory may begin where the arm should have been. So a step of the arm, and
a beginning away from the arm, are judged when the trajectories that may explain them have come.
"""

from __future__ import annotations

import threading
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
"""Radians that a command may be off the last one, beyond what the speed and a trajectory that came
late explain."""
_LEAD = 50_000_000
"""Nanoseconds in which a stop goes on as the trajectory before: splice_lead, and a point's gap."""
_GAP = 300_000_000  # nanoseconds without an account of the arm in which nothing is judged by it
_WAIT = _SECOND  # in which a trajectory has come that explains what the arm does
_NEXT_POINT = 30_000_000  # nanoseconds in which the controller reaches a trajectory that came late


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
        self._first: deque[tuple[Path, Path | None]] = deque(maxlen=100)
        self._steps: deque[tuple[int, np.ndarray, np.ndarray]] = deque(maxlen=100)
        self._paths: deque[Path] = deque(maxlen=100)
        self._lock = threading.Lock()
        self._against_hold: list[str] = []
        self._held = ""
        self._held_since = 0
        self._stops = 0

    def hold(self, why: str, since: int = 0) -> None:
        """Nothing may be published but one braking to rest; "" ends that.

        Where it holds already, it begins anew: what was said against it is taken back.

        Args:
            since: nanoseconds of wall time; what was published before only came late.
        """
        with self._lock:
            if why:
                for text in self._against_hold:
                    self.violations.remove(text)
            self._against_hold.clear()
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
                if (np.abs(here - there) > self._limits.velocity * elapsed + STEP).any():
                    self._steps.append((stamp, there, here))
        self._arm.append((stamp, here))
        while self._steps and self._steps[0][0] <= stamp - _WAIT:
            self._check_step(*self._steps.popleft())
        while self._first and self._first[0][0].times[0] <= stamp - _WAIT:
            self._check_first(*self._first.popleft())

    def owes(self, time: int) -> bool:
        """Whether something that happened until then is not judged yet."""
        steps = any(stamp <= time for stamp, _, _ in tuple(self._steps))
        return steps or any(path.times[0] <= time for path, _ in tuple(self._first))

    def forget(self) -> None:
        """The clock jumped, or the arm is another one: earlier accounts say nothing."""
        self._arm.clear()
        self._first.clear()
        self._steps.clear()
        self._paths.clear()

    def trajectory(self, message: Any, received: int, published: int | None = None) -> None:
        """Judge a trajectory_msgs/JointTrajectory that came at `received`.

        Args:
            published: nanoseconds of wall time; None: now.
        """
        self.judged += 1
        problem = self._shape(message)
        if problem:
            self._blame(problem, received)
            return
        path = Path(message, received)
        with self._lock:
            late = published is not None and published < self._held_since
            against_hold = "" if late else self._hold(path, received)
            problem = self._motion(path, received) or against_hold
            if problem:
                self._blame(problem, received)
                if problem == against_hold:
                    self._against_hold.append(self.violations[-1])

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

    def _motion(self, path: Path, received: int) -> str:
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
        self._first.append((path, self._paths[-1] if self._paths else None))
        self._paths.append(path)
        return self._within(path)

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
        if not self._held or not np.isfinite(path.velocities).all():
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

    def _check_step(self, stamp: int, there: np.ndarray, here: np.ndarray) -> None:
        """A step of the arm that its speed does not explain: is it towards a trajectory?"""
        for path in reversed(self._paths):
            if path.times[0] > stamp:
                continue
            wanted = path.sample([stamp, stamp + _NEXT_POINT])[0]
            lowest = np.minimum(there, wanted.min(axis=0)) - STEP
            highest = np.maximum(there, wanted.max(axis=0)) + STEP
            if (lowest <= here).all() and (here <= highest).all():
                return
            if path.times[0] < stamp - _WAIT:  # replaced by then, or the one that executes
                break
        moved = np.abs(here - there).max()
        self._blame(f"the arm was made to step by {moved:.3f} rad", stamp)

    def _check_first(self, path: Path, before: Path | None) -> None:
        """A trajectory begins where the arm was then, or where the one before it was to lead it."""
        time, position = int(path.times[0]), path.positions[0]
        stamps = np.array([stamp for stamp, _ in self._arm])
        after = int(np.searchsorted(stamps, time))
        if not 0 < after < len(stamps) or stamps[after] - stamps[after - 1] > _GAP:
            return
        share = (time - stamps[after - 1]) / (stamps[after] - stamps[after - 1])
        there = self._arm[after - 1][1] * (1 - share) + self._arm[after][1] * share
        off = np.abs(position - there)
        if off.max() <= NEAR:
            return
        goes_on = before is not None and before.times[0] <= time <= before.end
        if goes_on and np.abs(position - before.sample([time])[0][0]).max() <= NEAR:
            return
        joint = self._joints[int(off.argmax())]
        self._blame(f"begins {off.max():.3f} rad from where {joint} is", time)

    def _blame(self, text: str, time: int) -> None:
        if len(self.violations) < 1000:
            self.violations.append(f"at {time / _SECOND:.3f}: {text}")
