"""Publishes reports on /diagnostics: once a second of wall time, and whenever asked to.

With diagnostic_updater where it is installed, so that its parameters (diagnostic_updater.period,
diagnostic_updater.use_fqn) mean what they mean elsewhere; without it by a publisher of our own.
What is published is the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from pi0_ros.node.diagnostics import Report, Status, diagnostics_message, fill, statuses

try:
    import diagnostic_updater
except ImportError:  # it is in apt, not on PyPI
    diagnostic_updater = None

PERIOD = 1.0
"""Seconds of wall time between two reports; they go on when /clock stands still."""


class DiagnosticsPublisher:
    """Every method belongs to the executor's thread.

    Attributes:
        published_at: time.monotonic() of the last report.
    """

    def __init__(self, node: Node, report: Callable[[], Report]) -> None:
        """Begin to publish; a lifecycle node's reports go out in all of its states.

        Args:
            report: called for every message.
        """
        self._node = node
        self._report = report
        self._sink = _OwnPublisher(node) if diagnostic_updater is None else _Updater(node)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(self._sink.period, self.publish, clock=steady)
        self._alive = True
        self.published_at = 0.0

    def publish(self) -> None:
        """Report at once; the next report by itself follows a period later.

        Nothing happens after `destroy`, or after the end of the node's context.
        """
        if not self._alive or not self._node.context.ok():
            return
        self._timer.reset()
        self.published_at = time.monotonic()
        report = self._report()
        try:
            self._sink.publish(report)
        except RuntimeError:  # rclpy's RCLError
            if self._node.context.ok():
                raise

    def destroy(self) -> None:
        """Leave nothing of this on the node."""
        if self._alive:
            self._alive = False
            self._node.destroy_timer(self._timer)
            self._sink.destroy()


class _OwnPublisher:
    period = PERIOD

    def __init__(self, node: Node) -> None:
        self._node = node
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)

    def publish(self, report: Report) -> None:
        stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(diagnostics_message(report, stamp))

    def destroy(self) -> None:
        self._node.destroy_publisher(self._publisher)


class _Updater:
    """diagnostic_updater.Updater with one task per status; its own timer is not used.

    That timer runs on the node's clock, so it would stand still with /clock.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._updater = diagnostic_updater.Updater(node, PERIOD)
        self.period: float = self._updater.period
        node.destroy_timer(self._updater.timer)
        if hasattr(self._updater, "clock"):  # Humble's stamps with the system's time otherwise
            self._updater.clock = node.get_clock()
        # It would publish a status without values, "Node starting up", for every task.
        self._updater.addedTaskCallback = lambda task: None
        # Without one it warns in the log; the statuses themselves name no hardware.
        self._updater.setHardwareID("none")
        self._tasks: Mapping[str, Status] = {}

    def publish(self, report: Report) -> None:
        prefix = f"{report.node}: "
        entries = {status.name.removeprefix(prefix): status for status in statuses(report)}
        for about in self._tasks.keys() - entries.keys():
            self._updater.removeByName(about)
        for about in entries:
            if about not in self._tasks:
                self._updater.add(about, partial(self._run, about))
        self._tasks = entries
        self._updater.force_update()

    def _run(self, about: str, message: Any) -> DiagnosticStatus:
        return fill(message, self._tasks[about])

    def destroy(self) -> None:
        self._node.destroy_publisher(self._updater.publisher)
        for name in ("diagnostic_updater.period", "diagnostic_updater.use_fqn"):
            if self._node.has_parameter(name):
                self._node.undeclare_parameter(name)
