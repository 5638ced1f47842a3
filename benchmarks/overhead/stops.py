"""Emergency stops at random moments: how long until the stopping trajectory arrives."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import Any

from rclpy.node import Node
from std_msgs.msg import Bool
from std_srvs.srv import SetBool, Trigger

from pi0_ros.node.interface import Interface
from pi0_ros.ros.process import NodeError
from pi0_ros.ros.services import Refused, ServiceCall

SILENT = 0.35
"""Seconds without a trajectory after which the last one was the stopping one."""

LIMIT = 30.0
"""Seconds in which the node must do what it is asked for."""

Wait = Callable[[Callable[[], bool]], None]
"""Wait for something, and raise if one of the processes ends meanwhile."""


class StopButton:
    """Presses and releases the emergency stop of a node that publishes trajectories."""

    def __init__(self, node: Node, interface: Interface, trajectories: Sequence[float]) -> None:
        """`trajectories`: monotonic seconds at which they came; it grows."""
        self._trajectories = trajectories
        topic = interface.absolute(interface.parameters.emergency_stop_topic)
        self._button = node.create_publisher(Bool, topic, 10)
        self._reset = node.create_client(Trigger, f"{interface.name}/reset")
        self._enable = node.create_client(SetBool, f"{interface.name}/enable")
        self._random = random.Random(0)

    def measure(self, count: int, wait: Wait) -> list[float]:
        """Seconds from the message to the stopping trajectory, of so many stops.

        Raises:
            NodeError: the node did not stop, or did not move again.
        """
        wait(lambda: self._button.get_subscription_count() > 0)
        return [self._stop(wait) for _ in range(count)]

    def _stop(self, wait: Wait) -> float:
        came = len(self._trajectories)
        self._until(lambda: len(self._trajectories) >= came + 3, "trajectories", wait)
        time.sleep(self._random.uniform(0.0, 0.2))
        pressed = time.monotonic()
        self._button.publish(Bool(data=True))
        # Trajectories of before may still be under way; the last one is the stopping one.
        wait(lambda: time.monotonic() - max(pressed, self._trajectories[-1]) > SILENT)
        stopped = self._trajectories[-1]
        if stopped < pressed:
            raise NodeError("no stopping trajectory followed an emergency stop")
        self._button.publish(Bool(data=False))
        self._call(self._reset, Trigger.Request(), wait)
        self._call(self._enable, SetBool.Request(data=True), wait)
        return stopped - pressed

    def _call(self, client: Any, request: Any, wait: Wait) -> None:
        call = ServiceCall(client, request)

        def done() -> bool:
            nonlocal call
            try:
                return call.poll() is not None
            except Refused:  # the release is under way
                call = ServiceCall(client, request)
                return False

        self._until(done, f"success of {client.srv_name}", wait)

    @staticmethod
    def _until(done: Callable[[], bool], what: str, wait: Wait) -> None:
        limit = time.monotonic() + LIMIT
        wait(lambda: done() or time.monotonic() > limit)
        if not done():
            raise NodeError(f"no {what} within {LIMIT:g} s")
