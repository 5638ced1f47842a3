"""Which measured joint positions can be believed: angles are unwrapped, impossible samples dropped.

A bus that failed, an encoder that wraps, or another publisher shows positions that the arm cannot
have reached. One such sample says nothing about the arm. Several that agree with each other say
that the arm, or its zero, is elsewhere: a fault, after which they are believed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pi0_ros.motion.limits import JointLimits

NOISE = 0.1
"""Radians (metres) between two samples that noise may add, or 5 % of the joint's range if that is
less."""

FASTER = 1.5
"""Times the velocity limit that a joint may really move: pushed by hand, overshooting."""

AGREEING = 3
"""Impossible samples in a row that agree with each other and so show where the arm really is."""

_TURN = 2 * np.pi
_UNKNOWN = 1e6  # radians per second; finite, so that no time means no way


class JointEvidence:
    """Looks at every measured sample, of all the joints or of some.

    Attributes:
        dropped: samples that were impossible.
        fault: what jumped last, in a sentence; "" if nothing did.
        jumps: how often `fault` was set.
    """

    def __init__(self, joints: Sequence[str], limits: JointLimits | None) -> None:
        """`limits`: of `joints`, unscaled; None: every speed is possible, and every joint that
        moves by more than half a turn between two samples has wrapped."""
        self._joints = tuple(joints)
        count = len(self._joints)
        if limits is None:
            self._continuous = np.full(count, True)
            self._fastest, self._noise = np.full(count, _UNKNOWN), np.full(count, NOISE)
        else:
            self._continuous = np.isinf(limits.lower) & np.isinf(limits.upper)
            self._fastest = FASTER * limits.velocity
            self._noise = np.minimum(NOISE, 0.05 * (limits.upper - limits.lower))
        self._turning = bool(self._continuous.any())
        self.dropped, self.jumps, self.fault = 0, 0, ""
        self._last, self._turns = np.full((2, count), np.nan)
        self.clear()

    def clear(self) -> None:
        """Forget when the last samples were: the clock jumped. Whole turns go on being counted."""
        count = len(self._joints)
        # Where a joint was, to tell its turn.
        self._turns = np.where(np.isnan(self._last), self._turns, self._last)
        self._last = np.full(count, np.nan)
        self._last_stamp = np.zeros(count, np.int64)
        self._before = np.full(count, np.nan)  # the last sample but one
        self._before_stamp = np.zeros(count, np.int64)
        self._odd = np.full(count, np.nan)  # the last impossible position
        self._odd_stamp = np.zeros(count, np.int64)
        self._odd_count = np.zeros(count, np.int64)

    def put(self, positions: np.ndarray, stamp: int) -> np.ndarray | None:
        """Judge a sample.

        Args:
            positions: [joints] radians as measured; NaN for joints that the message does not tell.
            stamp: nanoseconds.

        Returns:
            [joints] radians, joints without position limits unwrapped: next to the last sample; or
            None if the sample is impossible.
        """
        told = ~np.isnan(positions)
        known = told & ~np.isnan(self._last)
        near = self._near(positions, np.where(known, self._last, self._turns))
        impossible = known & ~self._possible(near, self._last, stamp - self._last_stamp)
        if impossible.any():
            after = self._near(positions, self._before)
            possible = self._possible(after, self._before, stamp - self._before_stamp)
            if possible[impossible].all():  # then it was the last one that was wrong
                self.dropped += 1
                self._last = np.where(impossible, self._before, self._last)
                near, impossible = (
                    np.where(impossible, after, near),
                    np.full_like(impossible, False),
                )
        if impossible.any():
            near = self._near(positions, self._odd)
            agrees = self._possible(near, self._odd, stamp - self._odd_stamp)
            count = np.where(agrees, self._odd_count + 1, 1)
            self._odd_count = np.where(told, np.where(impossible, count, 0), self._odd_count)
            self._odd = np.where(told, np.where(agrees, near, positions), self._odd)
            self._odd_stamp = np.where(told, stamp, self._odd_stamp)
            if (self._odd_count[impossible] < AGREEING).any():
                self.dropped += 1
                return None
            # Two wrong samples that were possible are no jump either: the arm may be where it was
            # before them.
            passed = stamp - self._before_stamp
            jumped = impossible & ~self._possible(self._odd, self._before, passed)
            if jumped.any():
                self._tell(jumped, self._odd)
            near = np.where(impossible, self._odd, self._near(positions, self._last))
        self._odd_count[told] = 0
        self._before = np.where(told, self._last, self._before)
        self._before_stamp = np.where(told, self._last_stamp, self._before_stamp)
        self._last = np.where(told, near, self._last)
        self._last_stamp = np.where(told, stamp, self._last_stamp)
        return near

    def _near(self, positions: np.ndarray, reference: np.ndarray) -> np.ndarray:
        """Joints that turn without end, by whole turns as close to the reference as can be."""
        if not self._turning:
            return positions
        turns = np.round((reference - positions) / _TURN)
        return positions + np.where(self._continuous & np.isfinite(turns), turns * _TURN, 0.0)

    def _possible(self, positions: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        way = self._noise + self._fastest * np.maximum(after, 0) / 1e9
        return np.abs(positions - before) <= way

    def _tell(self, joints: np.ndarray, positions: np.ndarray) -> None:
        self.jumps += 1
        moves = ", ".join(
            f"{self._joints[j]} from {self._last[j]:.3f} to {positions[j]:.3f}"
            for j in np.flatnonzero(joints)
        )
        self.fault = (
            f"the joint state jumped, faster than the velocity limits allow: {moves};"
            f" {AGREEING} samples agree on that"
        )
