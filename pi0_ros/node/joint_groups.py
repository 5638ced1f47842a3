"""Joint states of several publishers and topics, each with some of the joints, as one state.

Joints that come together in one message are a group. Each group has its own history, and so its own
times; a state is complete when every joint has come.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pi0_ros.motion.limits import JointLimits
from pi0_ros.motion.refusal import Measured
from pi0_ros.node.joint_evidence import Contradictions, JointEvidence, Publishers
from pi0_ros.node.joint_states import JointHistory, JointStateReader, Reading, Sample

_MOST = 64  # groups; more are from a publisher that sends other joints each time

_Key = tuple[str, tuple[int, ...]]  # topic, columns


class JointGroups:
    """What is known of the joints, in the policy's order.

    Attributes:
        reader: reads messages for `put`.
        evidence: drops impossible samples, and tells of jumps.
        contradictions: tells of joints with two values.
        newest: [joints] nanoseconds of each joint's newest sample.
        came: [joints] whether a joint has come since `clear`.
    """

    def __init__(
        self,
        joints: Sequence[str],
        limits: JointLimits | None,
        gap: int,
        publishers: Publishers | None = None,
    ) -> None:
        """As of `JointEvidence`, `JointHistory` and `Contradictions`."""
        self.joints, self._gap = tuple(joints), gap
        self.reader = JointStateReader(joints)
        self.evidence = JointEvidence(joints, limits)
        self.contradictions = Contradictions(joints, limits, publishers)
        self._groups: dict[_Key, tuple[np.ndarray, JointHistory]] = {}
        self.clear()

    def clear(self) -> None:
        """Forget the samples: what comes is of another time."""
        self._groups.clear()
        self.evidence.clear()
        self.newest = np.zeros(len(self.joints), np.int64)
        self.came = np.full(len(self.joints), False)
        self._complete = False

    def set_gap(self, gap: int) -> None:
        """Nanoseconds between two samples after which the arm may be another one."""
        self._gap = gap
        for _, history in self._groups.values():
            history.gap = gap

    @property
    def complete(self) -> bool:
        """Whether every joint has come."""
        return self._complete

    def absent(self) -> list[str]:
        """The joints that have not come."""
        return self._named(~self.came)

    def older_than(self, stamp: int) -> list[str]:
        """The joints whose newest sample is older."""
        return self._named(self.newest < stamp)

    def _named(self, which: np.ndarray) -> list[str]:
        return [name for name, there in zip(self.joints, which, strict=True) if there]

    def newest_of(self, topic: str, reading: Reading) -> int | None:
        """The newest stamp of the group that a message belongs to; None before its first one."""
        group = self._groups.get((topic, reading.columns))
        return None if group is None else group[1].newest_stamp

    def put(self, reading: Reading, topic: str, stamp: int, now: int) -> bool:
        """Keep what a message says; False if it is impossible and left out.

        Args:
            topic: on which it came.
            stamp: its own, nanoseconds.
            now: nanoseconds of the node's clock.
        """
        key = topic, reading.columns
        columns, history = self._groups.get(key, (None, None))
        if columns is None:
            columns, history = np.array(reading.columns), JointHistory(self._gap)
        self.contradictions.put(columns, reading.positions, stamp, topic, now)
        everything = np.full(len(self.joints), np.nan)
        everything[columns] = reading.positions
        unwrapped = self.evidence.put(everything, stamp)
        if unwrapped is None:
            return False
        if key not in self._groups:
            self._make_room()
            self._groups[key] = columns, history
        sample = Sample(stamp, unwrapped[columns], reading.velocities, reading.positions)
        history.put(sample)
        self.newest[columns] = np.maximum(self.newest[columns], stamp)
        if not self._complete:
            self.came[columns] = True
            self._complete = bool(self.came.all())
        return True

    def _make_room(self) -> None:
        if len(self._groups) >= _MOST:
            oldest = min(self._groups, key=lambda key: self._groups[key][1].newest_stamp)
            del self._groups[oldest]
            self.came[:] = False
            for columns, _ in self._groups.values():
                self.came[columns] = True
            self._complete = bool(self.came.all())

    def _by_age(self) -> list[tuple[np.ndarray, JointHistory]]:
        """Groups, those with the newest samples last: they say of a joint what counts."""
        return sorted(self._groups.values(), key=lambda group: group[1].newest_stamp)

    def at(self, time: int, sample: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Where the joints were at a time in nanoseconds, each group as of `JointHistory.at`.

        Args:
            sample: a group whose last sample then has about this stamp is taken at that: the next
                one had not come. Where all joints are one group, it is taken at any sample of
                about this stamp: those after it had not come.

        Returns:
            [joints] radians, and [joints] the nanoseconds that they hold for. Complete states only.
        """
        positions, stamps = np.empty(len(self.joints)), np.empty(len(self.joints), np.int64)
        for columns, history in self._by_age():
            if sample is None:
                own = None
            elif len(self._groups) == 1:
                own = history.near(sample)
            else:
                own = history.last_is(sample, time)
            positions[columns], stamps[columns] = history.at(time if own is None else own)
        return positions, stamps

    def measured(self, now: int) -> Measured | None:
        """The newest time of which all joints are known; None until the state is complete.

        Positions are unwrapped. Jumps and contradictions are counted together.

        Args:
            now: nanoseconds of the node's clock.
        """
        if not self._complete:
            return None
        time = int(self.newest.min())
        positions, velocities = np.empty((2, len(self.joints)))
        since = 0
        for columns, history in self._by_age():
            part = history.measured(time)
            positions[columns], velocities[columns] = part.positions, part.velocities
            since = max(since, part.since)
        jumps = self.evidence.jumps + self.contradictions.count
        fault = self.contradictions.holds(now) or self.evidence.fault
        return Measured(positions, velocities, time, since, jumps, fault)
