"""A motion sample by sample, for a controller that holds one position until the next one comes."""

from __future__ import annotations

import numpy as np

from pi0_ros.motion.spline import Motion

HISTORY = 2_000_000_000
"""Nanoseconds of the motion that are remembered for samples that come late."""

CATCH_UP = 0.005
"""Share by which the motion runs faster while it makes up for a delay."""

_LATE = 5  # periods without a sample that are not yet a delay
_SLACK = 1.001  # of the velocity limit, for rounding


class Sampler:
    """Follows the motions that were planned; at rest there is nothing to sample.

    Where samples come on time, they are the motion at their own time. Where none came for more
    than five periods, the time in between does not count: the motion goes on from where it was,
    later than planned, and makes up for that slowly. So the command never steps by more than the
    motion moves in five periods, and never by more than the velocity limit allows, but for what
    making up adds.

    Attributes:
        velocity: [joints] limits in radians per second; may be replaced at any time.
        late: samples that came later than five periods after the one before.
    """

    def __init__(self, period: int, velocity: np.ndarray) -> None:
        """At rest; `period`: nanoseconds between two samples."""
        self.velocity = velocity
        self.late = 0
        self._longest = _LATE * period
        self._motion: Motion | None = None
        self._time = 0  # of the motion's time, the newest sample
        self._now = 0  # of the clock, then
        self._rest = 0  # of the motion's time, from which on it stands still
        self._command = np.zeros(len(velocity))

    @property
    def at_rest(self) -> bool:
        """Nothing is left to sample."""
        return self._motion is None

    @property
    def delay(self) -> float:
        """Seconds by which the samples are behind the motion."""
        return 0.0 if self._motion is None else max(self._now - self._time, 0) / 1e9

    def follow(self, motion: Motion, now: int) -> None:
        """Go over to a motion, which repeats the followed one up to where it departs from it.

        Args:
            motion: its columns are this sampler's joints.
            now: nanoseconds of the clock that the motion's times are of.
        """
        if self._motion is None:
            self._motion, self._time, self._now = motion, now, now
            self._command = motion.sample(now)[0]
        else:
            self._motion = motion.after(self._motion, HISTORY)
        self._rest = self._motion.rests_from

    def sample(self, now: int) -> np.ndarray | None:
        """[joints] radians to command now; None at rest, and where no time has passed.

        A clock that went back counts as standing still.
        """
        if self._motion is None:
            return None
        passed = max(now - self._now, 0)
        self._now = now
        if passed == 0:
            return None
        self.late += passed > self._longest
        step = min(passed, self._longest)
        step += min(max(now - self._time - step, 0), round(CATCH_UP * step))
        self._time += step
        begin = int(self._motion.times[0])
        if self._time < begin <= now:  # what came before is not remembered
            self._time = begin
        target = self._motion.sample(self._time)[0]
        most = self.velocity * (step / 1e9 * _SLACK)
        self._command = self._command + np.clip(target - self._command, -most, most)
        if self._time >= self._rest and np.array_equal(self._command, target):
            self._motion = None
        return self._command
