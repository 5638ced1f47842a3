"""Counts of what became of the ticks, and the /diagnostics message that tells them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from builtin_interfaces.msg import Time
    from diagnostic_msgs.msg import DiagnosticArray


@dataclass
class Counts:
    """ticks = busy + chunks + all refused + the one whose inference runs.

    Attributes:
        ticks: times the timer fired.
        busy: ticks that found the previous inference still running.
        chunks: chunks published.
        refused: reason -> ticks that led to no chunk.
    """

    ticks: int = 0
    busy: int = 0
    chunks: int = 0
    refused: Counter[str] = field(default_factory=Counter)

    def as_strings(self) -> dict[str, str]:
        """The key-value pairs of the diagnostic status."""
        pairs = {"ticks": self.ticks, "busy": self.busy, "chunks": self.chunks}
        pairs |= {f"refused.{reason}": count for reason, count in sorted(self.refused.items())}
        return {key: str(value) for key, value in pairs.items()}


def diagnostics_message(
    node: str, stamp: Time, counts: Counts, ok: bool, summary: str
) -> DiagnosticArray:
    """diagnostic_msgs/DiagnosticArray with one status, "<node>: observations" (REP 107).

    Args:
        node: the node's name.
        ok: level OK, otherwise WARN.
        summary: the state in a sentence.
    """
    from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

    status = DiagnosticStatus(
        level=DiagnosticStatus.OK if ok else DiagnosticStatus.WARN,
        name=f"{node}: observations",
        message=summary,
        values=[KeyValue(key=key, value=value) for key, value in counts.as_strings().items()],
    )
    message = DiagnosticArray(status=[status])
    message.header.stamp = stamp
    return message
