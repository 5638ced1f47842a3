"""The joint states of the last second: where the arm was when an image was taken."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pi0_ros.motion.refusal import Measured

KEPT = 1_000_000_000
"""Nanoseconds; images that are older are refused by far."""

_MOST = 2000  # joint states; at 1 kHz more than KEPT
_BASE = 20_000_000  # nanoseconds over which a velocity is measured that the message does not give


@dataclass(frozen=True)
class Sample:
    """A joint state: nanoseconds, and [joints] radians and radians per second (None: not told)."""

    stamp: int
    positions: np.ndarray
    velocities: np.ndarray | None


def read_sample(message: Any, joints: Sequence[str], stamp: int) -> Sample:
    """A sensor_msgs/JointState as a sample, in the order of `joints`.

    Raises:
        ValueError: see `positions_of`.
    """
    return Sample(stamp, positions_of(message, joints), _velocities_of(message, joints))


def positions_of(message: Any, joints: Sequence[str]) -> np.ndarray:
    """The positions of `joints` in a sensor_msgs/JointState, in that order.

    Returns:
        [joints] float64, radians (the message's own unit for revolute joints).

    Raises:
        ValueError: lengths differ, a name occurs twice, a joint is absent or not finite.
    """
    names = list(message.name)
    if len(message.position) != len(names):
        raise ValueError(f"{len(names)} names but {len(message.position)} positions")
    by_name = dict(zip(names, message.position, strict=True))
    if len(by_name) < len(names):
        doubled = [name for name, count in Counter(names).items() if count > 1]
        raise ValueError(f"named more than once: {doubled}")
    absent = [name for name in joints if name not in by_name]
    if absent:
        raise ValueError(f"joints missing: {absent}; the message has {names}")
    positions = np.array([by_name[name] for name in joints], dtype=np.float64)
    if not np.isfinite(positions).all():
        bad = [name for name, ok in zip(joints, np.isfinite(positions), strict=True) if not ok]
        raise ValueError(f"position not finite: {bad}")
    return positions


def _velocities_of(message: Any, joints: Sequence[str]) -> np.ndarray | None:
    """[joints] float64, radians per second; None if the message does not give all of them."""
    if len(message.velocity) != len(message.name):
        return None
    by_name = dict(zip(message.name, message.velocity, strict=True))
    velocities = np.array([by_name[name] for name in joints], dtype=np.float64)
    return velocities if np.isfinite(velocities).all() else None


class JointHistory:
    """Samples in the order of their stamps.

    Attributes:
        gap: nanoseconds between two samples after which the arm may be another one.
    """

    def __init__(self, gap: int) -> None:
        self._samples: deque[Sample] = deque(maxlen=_MOST)
        self.gap, self._since = gap, 0

    def put(self, sample: Sample) -> None:
        """Keep a sample; one that is no newer than the newest is left out."""
        samples = self._samples
        if samples and sample.stamp <= samples[-1].stamp:
            return
        if not samples or sample.stamp - samples[-1].stamp > self.gap:
            self._since = sample.stamp
        samples.append(sample)
        while samples[0].stamp < sample.stamp - KEPT:
            samples.popleft()

    def clear(self) -> None:
        self._samples.clear()

    def __len__(self) -> int:
        return len(self._samples)

    def at(self, time: int) -> tuple[np.ndarray, int]:
        """[joints] radians at a time in nanoseconds, and the time they hold for.

        Between two samples it is interpolated; outside of them the nearest one stands, at its own
        time: nothing is extrapolated. There must be a sample.
        """
        after: Sample | None = None
        for sample in reversed(self._samples):
            if sample.stamp <= time:
                break
            after = sample
        else:
            return after.positions, after.stamp
        if after is None or sample.stamp == time:
            return sample.positions, sample.stamp
        share = (time - sample.stamp) / (after.stamp - sample.stamp)
        return sample.positions + share * (after.positions - sample.positions), time

    def newest(self) -> Measured | None:
        """The newest sample; its velocities are measured over the last ones if it tells none."""
        if not self._samples:
            return None
        last = self._samples[-1]
        velocities = last.velocities
        if velocities is None:
            velocities = self._measured_velocities(last)
        return Measured(last.positions, velocities, last.stamp, self._since)

    def _measured_velocities(self, last: Sample) -> np.ndarray:
        for sample in reversed(self._samples):
            if last.stamp - sample.stamp >= _BASE:
                seconds = (last.stamp - sample.stamp) / 1e9
                return (last.positions - sample.positions) / seconds
        return np.zeros_like(last.positions)
