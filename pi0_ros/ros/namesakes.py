"""Other nodes of the same full name: they would answer the same services and move the same arm."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import rclpy
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState

if TYPE_CHECKING:
    from rclpy.client import Client
    from rclpy.lifecycle import LifecycleNode

PATIENCE = 2.0
"""Seconds in which a namesake answers. The graph keeps the name of a killed process until its lease
ends (20 s in Fast DDS); nobody answers for it."""

MORE_PATIENCE = 3.0
"""Seconds added by chance, at most: of two nodes that are activated at once neither answers, and
the more patient one hears the other when that is active."""

_ASK_AGAIN = 0.25  # seconds: the first questions may be lost while client and server match


class Namesakes:
    """Asks nodes of a lifecycle node's own full name for their state."""

    def __init__(self, node: LifecycleNode) -> None:
        self._node = node
        self._asker: rclpy.node.Node | None = None
        self._client: Client | None = None

    def in_graph(self) -> bool:
        """Whether the graph lists the name more than once."""
        own = self._node.get_name(), self._node.get_namespace()
        return self._node.get_node_names_and_namespaces().count(own) > 1

    def answer(self) -> bool:
        """Whether a namesake answers; to be asked while this node is activating.

        Waits for PATIENCE and MORE_PATIENCE at most, and only if the graph lists the name twice.
        """
        if not self.in_graph():
            return False
        asked, now = 0.0, time.monotonic()
        deadline = now + PATIENCE + random.uniform(0.0, MORE_PATIENCE)
        while now < deadline:
            if now - asked >= _ASK_AGAIN:
                self._ask()
                asked = now
            # An answer of this node itself, spun by another thread, is told by its state.
            if any(state != State.TRANSITION_STATE_ACTIVATING for state in self._answers()):
                return True
            time.sleep(0.02)
            now = time.monotonic()
        return False

    def _ask(self) -> None:
        if self._client is None:
            self._asker = rclpy.create_node(
                f"{self._node.get_name()}_namesakes",
                namespace=self._node.get_namespace(),
                context=self._node.context,
                use_global_arguments=False,
                enable_rosout=False,
                start_parameter_services=False,
            )
            name = f"{self._node.get_fully_qualified_name()}/get_state"
            self._client = self._asker.create_client(GetState, name)
        # Nobody spins the asker: `_answers` takes what comes.
        self._client.remove_pending_request(self._client.call_async(GetState.Request()))

    def _answers(self) -> list[int]:
        """The states that nodes answered with since the last call."""
        states: list[int] = []
        while True:
            with self._client.handle:
                header, response = self._client.handle.take_response(GetState.Response)
            if header is None:
                return states
            states.append(response.current_state.id)

    def close(self) -> None:
        """Leave nothing in the graph. This node's own late answers need a client for a while."""
        if self._asker is not None:
            self._asker.destroy_node()
            self._asker = self._client = None
