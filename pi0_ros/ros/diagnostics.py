"""A node's own figures on /diagnostics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

OBSERVATIONS = "observations"
"""The status that has the counters."""


@dataclass(frozen=True)
class Counters:
    """The counters of the node's observations in one /diagnostics message.

    Attributes:
        stamp: the node's time, ns.
        ticks: timer ticks.
        busy: ticks that found the previous inference still running.
        chunks: chunks published.
        trajectories: trajectories published, stops apart.
        refused: reason -> observations refused.
    """

    stamp: int
    ticks: int
    busy: int
    chunks: int
    trajectories: int
    refused: Mapping[str, int]

    @property
    def idle(self) -> bool:
        """True when every tick has come to an end: as a chunk, a refusal or a busy tick."""
        return self.ticks <= self.busy + self.chunks + sum(self.refused.values())


def read_statuses(message: Any, node: str) -> dict[str, dict[str, str]]:
    """The statuses of one node in a diagnostic_msgs/DiagnosticArray.

    Args:
        node: its name; with or without its namespace, as the message has it.

    Returns:
        Status such as "observations" -> key -> value; empty where the message is another node's.
    """
    names = {node.lstrip("/"), node.rpartition("/")[2]}
    found = {}
    for status in message.status:
        name, _, about = status.name.partition(": ")
        if name.lstrip("/") in names:
            found[about] = {pair.key: pair.value for pair in status.values}
    return found


def read_counters(message: Any, node: str) -> Counters | None:
    """The counters of one node in a diagnostic_msgs/DiagnosticArray; None where it has none.

    Raises:
        ValueError: a counter is missing or no whole number.
    """
    values = read_statuses(message, node).get(OBSERVATIONS)
    if values is None:
        return None
    stamp = message.header.stamp
    return counters_from_values(stamp.sec * 1_000_000_000 + stamp.nanosec, values)


def counters_from_values(stamp: int, values: Mapping[str, str]) -> Counters:
    """Reads the key-value pairs of the diagnostic status "<node>: observations".

    Raises:
        ValueError: a counter is missing or no whole number.
    """
    try:
        refused = {
            key.removeprefix("refused."): int(value)
            for key, value in values.items()
            if key.startswith("refused.")
        }
        names = ("ticks", "busy", "chunks", "trajectories")
        ticks, busy, chunks, trajectories = (int(values[name]) for name in names)
    except (KeyError, ValueError) as error:
        raise ValueError(
            "/diagnostics: expected whole numbers ticks, busy, chunks, trajectories and"
            f" refused.<reason>, got {dict(values)}: {error!r}"
        ) from error
    return Counters(stamp, ticks, busy, chunks, trajectories, refused)


def refused_since(snapshots: Sequence[Counters], time: int) -> dict[str, int]:
    """Reason -> observations refused at or after `time` (ns of the node's clock).

    The node publishes its counters with every refusal, so the last ones before `time` hold exactly
    what was refused before it.
    """
    earlier = [snapshot.refused for snapshot in snapshots if snapshot.stamp < time]
    before = earlier[-1] if earlier else {}
    final = snapshots[-1].refused if snapshots else {}
    return {r: n - before.get(r, 0) for r, n in final.items() if n > before.get(r, 0)}
