"""Which measured joint positions can be believed, and which contradict each other.

`JointEvidence` unwraps angles and drops impossible samples. A bus that failed, an encoder that
wraps, or another publisher shows positions that the arm cannot have reached. One such sample says
nothing about the arm. Several that agree with each other say that the arm, or its zero, is
elsewhere: a fault, after which they are believed.

`Contradictions` looks for joints of which two values come in turn. A message does not say who sent
it, but values do: an arm does not move there and back from message to message faster than it can.
One publisher whose samples are impossible now and then is the other fault, so the graph is asked
for the publishers, where there is one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

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

Publishers = Callable[[str], Sequence[str]]
"""A topic's publishers, by their nodes' full names."""

WINDOW = 5_000_000_000
"""Nanoseconds in which a joint goes there and back."""

BACKS = 3
"""Times that stamps go back, which a recording that begins anew does once."""

TURNS = 6
"""Steps there and back, one after the other, that two publishers account for."""

MANY_TURNS = 20
"""Steps there and back that are a fault whoever sent them."""

REMEMBERED = 2_000_000_000
"""Nanoseconds since the last such step for which a contradiction holds."""

_TOLERANCE = 0.03  # radians, or a tenth of the joint's range: noise
_SPEED = 0.5  # of the velocity limit: no arm turns round from one message to the next at more
_UNKNOWN_SPEED = 2.5  # radians per second, of a joint without limits


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


@dataclass(frozen=True)
class _Step:
    at: int
    way: float
    values: tuple[float, float]
    topics: tuple[str, str]


class Contradictions:
    """Looks at the positions of every message, as they were told.

    Attributes:
        count: contradictions found, each until it is over.
        fault: the last one in a sentence; "" before the first.
    """

    def __init__(
        self, joints: Sequence[str], limits: JointLimits | None, publishers: Publishers | None
    ) -> None:
        """`limits`: of `joints`, unscaled; `publishers`: None where there is no graph."""
        count = len(joints)
        self._joints, self._publishers = tuple(joints), publishers
        if limits is None:
            self._continuous = np.full(count, True)
            self._tolerance, self._speed = np.full(count, _TOLERANCE), np.full(count, 1.0)
            self._speed *= _UNKNOWN_SPEED / 1e9
        else:
            self._continuous = np.isinf(limits.lower) & np.isinf(limits.upper)
            self._tolerance = np.minimum(_TOLERANCE, 0.1 * (limits.upper - limits.lower))
            self._speed = _SPEED * limits.velocity / 1e9
        self._positions = np.full(count, np.nan)
        self._stamps = np.zeros(count)
        self._topics = np.full(count, "", object)
        self._steps = [deque[_Step](maxlen=MANY_TURNS) for _ in joints]
        self.count, self.fault = 0, ""
        self.clear()

    def clear(self) -> None:
        """The clock that `now` is of jumped."""
        self._until = 0
        self._backs: deque[int] = deque(maxlen=BACKS)
        for steps in self._steps:
            steps.clear()

    def put(
        self, columns: np.ndarray, positions: np.ndarray, stamp: int, topic: str, now: int
    ) -> None:
        """Look at a message.

        Args:
            columns: [named] numbers of the joints.
            positions: [named] radians as told.
            stamp: its own, nanoseconds.
            now: nanoseconds of a clock that goes on.
        """
        ways = positions - self._positions[columns]
        passed = np.abs(stamp - self._stamps[columns])
        big = np.abs(ways) > self._tolerance[columns] + self._speed[columns] * passed
        if big.any():
            places = np.flatnonzero(big)
            for place in places:
                self._step(columns[place], positions[place], ways[place], passed[place], topic, now)
            turning = [j for j in columns[places] if len(self._steps[j]) >= TURNS]
            if turning:
                self._judge(turning, now)
        self._positions[columns] = positions
        self._stamps[columns] = stamp
        self._topics[columns] = topic

    def _step(
        self, joint: int, position: float, way: float, passed: float, topic: str, now: int
    ) -> None:
        if self._continuous[joint]:
            way = (way + np.pi) % (2 * np.pi) - np.pi
            if abs(way) <= self._tolerance[joint] + self._speed[joint] * passed:
                return  # it wrapped
        steps = self._steps[joint]
        if steps and (way > 0) == (steps[-1].way > 0):
            steps.clear()  # going on is no turn
        before = float(self._positions[joint]), str(self._topics[joint])
        steps.append(_Step(now, way, (before[0], float(position)), (before[1], topic)))
        while steps[0].at < now - WINDOW:
            steps.popleft()

    def _judge(self, joints: Sequence[int], now: int) -> None:
        if not self.holds(now):
            steps = [step for joint in joints for step in self._steps[joint]]
            topics = sorted({topic for step in steps for topic in step.topics})
            senders = self._senders(topics)
            if len(senders) == 1 and max(len(self._steps[j]) for j in joints) < MANY_TURNS:
                return
            both = [
                "{} is {:.3f} and {:.3f}".format(self._joints[j], *self._steps[j][-1].values)
                for j in joints
            ]
            self._tell(f"{', '.join(both)} in turn: {_who(topics, senders)}")
        self._until = now + REMEMBERED

    def went_back(self, topic: str, seconds: float, now: int) -> bool:
        """Stamps of the same joints on a topic went back; True if that contradicts the others'."""
        self._backs.append(now)
        if not self.holds(now):
            if len(self._backs) < BACKS or self._backs[0] < now - WINDOW:
                return False
            senders = self._senders([topic])
            if len(senders) == 1:
                return False
            what = f"stamps go back and forth by {seconds:.3f} s"
            self._tell(f"{what}: {_who([topic], senders)}")
        self._until = now + REMEMBERED
        return True

    def _tell(self, fault: str) -> None:
        self.fault = fault
        self.count += 1

    def _senders(self, topics: Sequence[str]) -> list[str]:
        """Publisher and topic of each; empty where nobody knows."""
        if self._publishers is None:
            return []
        return [f"{node} on {topic}" for topic in topics for node in self._publishers(topic)]

    def holds(self, now: int) -> str:
        """The contradiction that holds at a time; "": none."""
        return self.fault if now < self._until else ""


def _who(topics: Sequence[str], senders: Sequence[str]) -> str:
    if len(senders) == 1:
        return f"its only publisher, {senders[0]}, sends both"
    if senders:
        return f"{len(senders)} publishers contradict each other: {', '.join(senders)}"
    return f"do two publishers contradict each other on {' and '.join(topics)}?"
