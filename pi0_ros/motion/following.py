"""Whether the arm follows its setpoint, and where an arm that nothing moves rests."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from pi0_ros.motion.refusal import Measured, Reason, Refusal
from pi0_ros.motion.spline import Motion

LAG_STEP = 10_000_000
"""Nanoseconds between two lags that are tried."""

REST = 0.002
"""Radians per second: slower is at rest, as far as noise lets it be seen."""

_FORGIVEN = 0.2  # of the time near the setpoint is taken off the time beyond
_LONGEST = 0.1  # seconds between two samples that count
_STILL = 0.02  # radians that a setpoint must move by for the lag to show
_DECAY = 0.95  # per sample, of what earlier samples say about the lag
_WINDOW = 1_000_000_000  # nanoseconds of samples that are kept
_AVERAGED = (0.1, 0.2, 0.4, 0.9)  # seconds of samples that are averaged, as many as noise needs
_FEWEST = 3  # samples
_PRECISE = 0.001  # radians of standard error; a noisy arm is averaged for longer


class Following:
    """Compares measured positions with the setpoint, which the arm may lag behind.

    A measured position is compared with the nearest of the setpoints of the last `lag` seconds; so
    no estimate of the lag has to converge before an arm can be judged.

    Attributes:
        error: [joints] radians beyond the nearest of these setpoints, at the last sample.
        lag: seconds that fit the last samples best; NaN before the setpoint has moved.
    """

    def __init__(self, joints: Sequence[str], units: Sequence[str] = ()) -> None:
        """`units`: "rad" or "m" per joint, for messages; () is all rad."""
        self._joints, self._units = tuple(joints), tuple(units) or ("rad",) * len(joints)
        self.clear()

    def clear(self) -> None:
        """Begin anew: another setpoint, or another clock."""
        self._stamp = 0
        self._beyond = 0.0  # seconds
        self._cost = np.zeros(0)
        self.error = np.zeros(len(self._joints))
        self.lag = float("nan")

    def errors(self) -> dict[str, float]:
        """Unit -> the largest error of its joints."""
        units = np.array(self._units)
        return {unit: float(self.error[units == unit].max()) for unit in dict.fromkeys(self._units)}

    def look(
        self,
        setpoint: Motion,
        measured: Measured,
        *,
        tolerance: float,
        lag: float,
        timeout: float,
        untracked: np.ndarray,
    ) -> str:
        """Compare a sample that was not compared before.

        Args:
            tolerance: radians that a joint may be off.
            lag: seconds that it may lag.
            timeout: seconds for which it may be further off.
            untracked: [joints] bool, joints that may be anywhere.

        Returns:
            "", or a sentence that names the joint once it has been further off for `timeout`. What
            was before counts too, less a share of the time in which it was near: a setpoint that
            swings past a joint that is stuck is near it again and again.
        """
        stamp = measured.stamp
        if stamp <= self._stamp:
            return ""
        passed = min((stamp - self._stamp) / 1e9, _LONGEST) if self._stamp else 0.0
        self._stamp = stamp
        lags = np.arange(0, round(lag * 1e9) + 1, LAG_STEP, dtype=np.int64)
        setpoints = setpoint.sample_all(stamp - lags)[0]
        lowest, highest = setpoints.min(axis=0), setpoints.max(axis=0)
        here = measured.positions
        off = np.maximum(0.0, np.maximum(lowest - here, here - highest))
        self.error = np.where(untracked, 0.0, off)
        if not (self.error > tolerance).any():
            self._beyond = max(0.0, self._beyond - _FORGIVEN * passed)
            errors = np.where(untracked, 0.0, setpoints - here)
            self._estimate(lags, errors, (highest - lowest).max())
            return ""
        self._beyond += passed
        if self._beyond < timeout:
            return ""
        worst = int(self.error.argmax())
        unit = self._units[worst]
        known = "" if np.isnan(self.lag) else f", it lagged by {self.lag:.2f} s"
        return (
            f"joint {self._joints[worst]} does not follow: measured at {here[worst]:.3f} {unit},"
            f" its setpoints of the last {lag:g} s lie in"
            f" [{lowest[worst]:.3f}, {highest[worst]:.3f}] {unit} (off by"
            f" {self.error[worst]:.3f} {unit}, tracking_tolerance is {tolerance:g}"
            f"{known}); is its controller active, and does it take these joints?"
        )

    def _estimate(self, lags: np.ndarray, errors: np.ndarray, moved: float) -> None:
        """Which lag explains the samples best, while the setpoint moves."""
        if len(self._cost) != len(lags):
            self._cost = np.zeros(len(lags))
        if moved > _STILL:
            self._cost = _DECAY * self._cost + (errors**2).sum(axis=1)
            self.lag = float(lags[self._cost.argmin()]) / 1e9


class Rest:
    """Samples of the last second: where does an arm rest that this node does not move?"""

    def __init__(self, joints: Sequence[str], units: Sequence[str] = ()) -> None:
        """`units`: "rad" or "m" per joint, for messages; () is all rad."""
        self._joints, self._units = tuple(joints), tuple(units) or ("rad",) * len(joints)
        self._samples: deque[tuple[int, np.ndarray]] = deque()

    def clear(self) -> None:
        self._samples.clear()

    def put(self, measured: Measured) -> None:
        """Keep a sample that is newer than the last."""
        samples = self._samples
        if samples and measured.stamp <= samples[-1][0]:
            return
        if samples and measured.since > samples[-1][0]:  # what was before a gap says nothing
            samples.clear()
        samples.append((measured.stamp, measured.positions))
        while samples[0][0] < measured.stamp - _WINDOW:
            samples.popleft()

    def position(self) -> np.ndarray:
        """[joints] radians, averaged: one sample may be off by the noise.

        Raises:
            Refusal: moving, when it moves, or was not seen for long enough to tell.
        """
        stamps = np.array([stamp for stamp, _ in self._samples], np.int64)
        ages = (stamps - stamps[-1]) / 1e9 if len(stamps) else np.zeros(1)
        if len(stamps) < _FEWEST or -ages[0] < _AVERAGED[0]:
            raise Refusal(
                Reason.MOVING,
                f"{len(stamps)} joint states so far; a trajectory begins at rest, which takes"
                f" {_FEWEST} of them over {_AVERAGED[0]:g} s",
            )
        positions = np.array([position for _, position in self._samples])
        # The newest samples that suffice: before them the arm may have moved.
        for seconds in _AVERAGED:
            enough = np.flatnonzero(-ages[: -_FEWEST + 1] >= seconds)
            begin = int(enough[-1]) if len(enough) else 0
            mean, error = self._average(ages[begin:], positions[begin:])
            if (error <= _PRECISE).all():
                return mean
            if not len(enough):
                worst = int(error.argmax())
                raise Refusal(
                    Reason.MOVING,
                    f"joint {self._joints[worst]}: the joint states are noisy; they are averaged"
                    f" over {_AVERAGED[-1]:g} s before a trajectory begins",
                )
        return mean

    def _average(self, ages: np.ndarray, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and its standard error, [joints] each; raises Refusal (moving)."""
        mean, speed, noise, doubt = _fit(ages, positions)
        # A motion to and fro has no slope, but scatters more than successive samples do.
        jitter = np.sqrt((np.diff(positions, axis=0) ** 2).mean(axis=0) / 2)
        moving = (np.abs(speed) > REST + 2 * doubt) | (noise > 2 * jitter + _PRECISE)
        if moving.any():
            worst = int(np.where(moving, np.maximum(np.abs(speed), noise), 0.0).argmax())
            raise Refusal(
                Reason.MOVING,
                f"joint {self._joints[worst]} moves (by {np.ptp(positions[:, worst]):.3f}"
                f" {self._units[worst]} in {-ages[0]:.2f} s) although nothing executes that this"
                " node has published; a trajectory begins at rest",
            )
        return mean, noise / np.sqrt(len(ages))


def _fit(
    ages: np.ndarray, positions: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mean, speed, noise, and the standard error of the speed, of [samples, joints]."""
    count, mean = len(ages), positions.mean(axis=0)
    t, x = (ages - ages.mean())[:, None], positions - mean
    spread = (t**2).sum()
    speed = (t * x).sum(axis=0) / spread
    noise = np.sqrt(((x - speed * t) ** 2).sum(axis=0) / max(count - 2, 1))
    return mean, speed, noise, noise / np.sqrt(spread)
