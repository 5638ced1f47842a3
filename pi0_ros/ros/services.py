"""ServiceCall services until they answer.

DDS finds the two directions of a service one by one: while a client does not see the whole server,
or is not wholly seen, its request or the answer can be lost (ros2/rmw_fastrtps, issue 842). Whoever
starts a node and asks it at once meets that, so what is not answered is asked again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.client import Client
from rclpy.node import Node
from rclpy.task import Future

PATIENCE = 3.0
"""Seconds without an answer after which it is asked again."""

_STATES = {
    Transition.TRANSITION_CONFIGURE: ("unconfigured", "inactive"),
    Transition.TRANSITION_ACTIVATE: ("inactive", "active"),
    Transition.TRANSITION_DEACTIVATE: ("active", "inactive"),
    Transition.TRANSITION_CLEANUP: ("inactive", "unconfigured"),
}
"""Transition -> the states before and after it."""


class Refused(RuntimeError):
    """A service refused the request; its message, or ""."""


class ServiceCall:
    """A request, sent again until there is an answer; another thread spins the node."""

    def __init__(
        self, client: Client, request: Any, again: Callable[[], bool] = lambda: True
    ) -> None:
        """Asks nothing yet.

        Args:
            client: of a service; an answer whose `success` is False is a refusal.
            again: whether an unanswered request may be repeated now.
        """
        self._client, self._request, self._again = client, request, again
        self._answers: list[Future] = []
        self._asked = 0.0

    def poll(self) -> Any | None:
        """The answer, None while there is none; asks when the service is there and when it is due.

        Raises:
            Refused: the service refused it.
        """
        answer = next((a.result() for a in self._answers if a.done()), None)
        if answer is not None:
            if not getattr(answer, "success", True):
                raise Refused(getattr(answer, "message", ""))
            return answer
        waited = time.monotonic() - self._asked
        due = not self._answers or (waited >= PATIENCE and self._again())
        if due and self._client.service_is_ready():
            self._answers.append(self._client.call_async(self._request))
            self._asked = time.monotonic()
        return None


class StateChange:
    """A transition of a managed node, requested until the node is in the new state or refuses."""

    def __init__(self, node: Node, name: str, transition: int) -> None:
        """Asks nothing yet.

        Args:
            name: of the managed node.
            transition: configure, activate, deactivate or cleanup, as lifecycle_msgs/Transition
                numbers them.
        """
        self._before, self._after = _STATES[transition]
        self._node, self._name, self._lost = node, name, False
        self._clients = [node.create_client(ChangeState, f"{name}/change_state")]
        request = ChangeState.Request(transition=Transition(id=transition))
        # A second request while the first is at work would be refused: the state tells.
        self._change = ServiceCall(self._clients[0], request, again=lambda: self._lost)
        self._state: ServiceCall | None = None
        self._looked = time.monotonic()

    def poll(self) -> bool:
        """Whether the node is in the new state.

        Raises:
            Refused: the node did not change its state.
        """
        if self._change.poll() is not None:
            return True
        self._lost = False
        if self._state is None and time.monotonic() - self._looked >= PATIENCE:
            if len(self._clients) == 1:
                self._clients.append(self._node.create_client(GetState, f"{self._name}/get_state"))
            self._state = ServiceCall(self._clients[1], GetState.Request())
        answer = self._state.poll() if self._state else None
        if answer is None:
            return False
        self._state, self._looked = None, time.monotonic()
        self._lost = answer.current_state.label == self._before
        return answer.current_state.label == self._after

    def close(self) -> None:
        """Ask no more."""
        for client in self._clients:
            self._node.destroy_client(client)
