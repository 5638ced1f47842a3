"""The joint states of the last second: what messages say, and where the joints were at a time."""

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
_MOST_LISTS = 64  # lists of names that are remembered
_LONGEST_LIST = 1000  # names in one of them
_SHOWN, _LONGEST = 20, 80  # names that an error shows, and characters of one
_FARTHEST = 1e6  # radians: an encoder's ticks, or garbage
_SAME = 1_000_000  # nanoseconds
_TURN = 2 * np.pi
_ROUNDING = 1e-3  # radians by which a driver's half turn may be off pi


@dataclass(frozen=True)
class Sample:
    """What a message says of the joints that it names.

    Attributes:
        stamp: nanoseconds.
        positions: [named] radians, joints without position limits unwrapped.
        velocities: [named] radians per second; None: not told.
        told: [named] radians as the message has them; None: as `positions`.
    """

    stamp: int
    positions: np.ndarray
    velocities: np.ndarray | None
    told: np.ndarray | None = None


class UnusableJoints(ValueError):
    """A JointState that cannot be used; `columns` are the joints that it would have told of."""

    def __init__(self, text: str, columns: Sequence[int]) -> None:
        super().__init__(text)
        self.columns = tuple(columns)


@dataclass(frozen=True)
class Reading:
    """What a JointState says of our joints.

    Attributes:
        columns: the joints, by their numbers in the policy's order, ascending.
        positions: [columns] radians, finite.
        velocities: [columns] radians per second; None: not all are told.
    """

    columns: tuple[int, ...]
    positions: np.ndarray
    velocities: np.ndarray | None


class JointStateReader:
    """Reads sensor_msgs/JointState messages by the names of the joints."""

    def __init__(self, joints: Sequence[str]) -> None:
        """`joints`: names, in the policy's order."""
        self._columns = {name: column for column, name in enumerate(joints)}
        self._joints = tuple(joints)
        # Names -> our columns, ascending, and where the message has them.
        self._known: dict[tuple[str, ...], tuple[tuple[int, ...], np.ndarray]] = {}

    def read(self, message: Any) -> Reading | None:
        """The joints of this node in a message; None if it tells nothing of their positions.

        Other joints may be named too, in any order.

        Raises:
            UnusableJoints: lengths differ, a name occurs twice, a position is not finite, or larger
                than floating point tells turns of.
        """
        names = tuple(message.name)
        columns, where = self._find(names)
        positions = message.position
        if not columns or (names and not len(positions)):
            return None
        if len(positions) != len(names):
            text = f"{len(names)} names but {len(positions)} positions"
            raise UnusableJoints(text, columns)
        told = np.array(positions, np.float64)[where]
        usable = np.abs(told) <= _FARTHEST  # NaN is not
        if not usable.all():
            bad = [self._joints[column] for column in np.array(columns)[~usable]]
            what = f"beyond {_FARTHEST:g} rad" if np.isfinite(told).all() else "not finite"
            raise UnusableJoints(f"position {what}: {bad}", columns)
        velocities = None
        if len(message.velocity) == len(names):
            velocities = np.array(message.velocity, np.float64)[where]
            if not np.isfinite(velocities).all():
                velocities = None
        return Reading(columns, told, velocities)

    def _find(self, names: tuple[str, ...]) -> tuple[tuple[int, ...], np.ndarray]:
        found = self._known.get(names)
        if found is not None:
            return found
        places = {self._columns[n]: i for i, n in enumerate(names) if n in self._columns}
        columns = tuple(sorted(places))
        if columns and len(set(names)) < len(names):
            doubled = [name for name, count in Counter(names).items() if count > 1]
            raise UnusableJoints(f"named more than once: {listed(doubled)}", columns)
        if len(self._known) >= _MOST_LISTS:
            self._known.clear()
        where = np.array([places[column] for column in columns], np.int64)
        if len(names) <= _LONGEST_LIST:
            self._known[names] = columns, where
        return columns, where


def listed(names: Sequence[str]) -> str:
    """Names of a message, as many and as long as a message for people takes."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{[name[:_LONGEST] for name in names[:_SHOWN]]}{more}"


class JointHistory:
    """Samples of the same joints, in the order of their stamps.

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

    @property
    def newest_stamp(self) -> int:
        """Nanoseconds of the newest sample; there must be one."""
        return self._samples[-1].stamp

    def at(self, time: int) -> tuple[np.ndarray, int]:
        """[named] radians at a time in nanoseconds, and the time they hold for.

        Between two samples it is interpolated, where a joint wraps the shorter way round; the
        values are as the publisher tells angles. Outside of the samples the nearest one stands,
        at its own time: nothing is extrapolated. There must be a sample.
        """
        before, after = self._around(time)
        if before is None or after is None:
            sample = before or after
            return sample.positions if sample.told is None else sample.told, sample.stamp
        positions = _between(before, after, time)
        if before.told is not None and after.told is not None:
            positions = _as_told(positions, before, after)
        return positions, time

    def last_is(self, stamp: int, time: int) -> int | None:
        """The stamp of the last sample at or before a time, if `stamp` is about that; or None."""
        last, _ = self._around(time)
        return last.stamp if last is not None and abs(last.stamp - stamp) < _SAME else None

    def near(self, stamp: int) -> int | None:
        """The stamp of the sample of about this stamp; None if there is none."""
        found = (sample.stamp for sample in self._samples if abs(sample.stamp - stamp) < _SAME)
        return next(found, None)

    def newest(self) -> Measured | None:
        """The newest sample; its velocities are measured over the last ones if it tells none."""
        return self.measured(self._samples[-1].stamp) if self._samples else None

    def measured(self, time: int) -> Measured:
        """The joints at a time, unwrapped, as of `at`."""
        before, after = self._around(time)
        sample = before or after
        positions = sample.positions
        if before is not None and after is not None:
            positions = _between(before, after, time)
        velocities = sample.velocities
        if velocities is None:
            velocities = self._measured_velocities(sample)
        return Measured(positions, velocities, min(time, self.newest_stamp), self._since)

    def _around(self, time: int) -> tuple[Sample | None, Sample | None]:
        """The samples before (or at) and after a time; only one of them at an end or at a hit."""
        after: Sample | None = None
        for sample in reversed(self._samples):
            if sample.stamp == time:
                return sample, None
            if sample.stamp < time:
                return sample, after
            after = sample
        return None, after

    def _measured_velocities(self, last: Sample) -> np.ndarray:
        for sample in reversed(self._samples):
            if last.stamp - sample.stamp >= _BASE:
                seconds = (last.stamp - sample.stamp) / 1e9
                return (last.positions - sample.positions) / seconds
        return np.zeros_like(last.positions)


def _between(before: Sample, after: Sample, time: int) -> np.ndarray:
    share = (time - before.stamp) / (after.stamp - before.stamp)
    return before.positions + share * (after.positions - before.positions)


def _as_told(positions: np.ndarray, before: Sample, after: Sample) -> np.ndarray:
    """Unwrapped positions between two samples, as their publisher would have told them."""
    told = positions + (before.told - before.positions)
    wrapped = np.abs((after.told - after.positions) - (before.told - before.positions)) > 1.0
    for i in np.flatnonzero(wrapped):
        low, high = sorted((before.told[i], after.told[i]))
        if -np.pi - _ROUNDING <= low and high <= np.pi + _ROUNDING:
            told[i] = (told[i] + np.pi) % _TURN - np.pi
        elif low >= -_ROUNDING and high <= _TURN + _ROUNDING:
            told[i] %= _TURN
    return told
