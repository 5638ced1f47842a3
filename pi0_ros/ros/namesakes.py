"""Other nodes of the same full name: they would answer the same services and move the same arm."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from uuid import uuid4

import rclpy
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState

if TYPE_CHECKING:
    from rclpy.client import Client
    from rclpy.lifecycle import LifecycleNode
    from rclpy.node import Node

PATIENCE = 3.0
"""Seconds in which a namesake answers, or asks itself. The graph keeps the name of a killed process
until its lease ends (20 s in Fast DDS); nobody answers for it."""

_ASK_AGAIN = 0.25  # seconds: the first questions may be lost while client and server match


class Namesakes:
    """Asks nodes of a lifecycle node's own full name for their state."""

    def __init__(self, node: LifecycleNode) -> None:
        self._node = node
        self._asker: Node | None = None
        self._client: Client | None = None

    def in_graph(self) -> bool:
        """Whether the graph lists the name more than once."""
        own = self._node.get_name(), self._node.get_namespace()
        return self._node.get_node_names_and_namespaces().count(own) > 1

    def _askers(self) -> set[str]:
        """The nodes that ask for nodes of this name, this one's own too."""
        prefix, namespace = f"{self._node.get_name()}_namesakes_", self._node.get_namespace()
        names = self._node.get_node_names_and_namespaces()
        return {name for name, where in names if where == namespace and name.startswith(prefix)}

    def answer(self) -> bool:
        """Whether a namesake answers; to be asked while this node is activating.

        Of two nodes that are activated at once neither answers. The one that began first sees the
        other one begin to ask, which counts as an answer; so at most one of them is told that it is
        alone. Waits for PATIENCE at most, and only if the graph lists the name twice.
        """
        if not self.in_graph():
            return False
        self.close()
        known = self._askers()  # some may be those of killed processes
        self._ask()
        known.add(self._asker.get_name())
        asked = now = time.monotonic()
        deadline = now + PATIENCE
        while now < deadline:
            if now - asked >= _ASK_AGAIN:
                self._ask()
                asked = now
            # An answer of this node itself, spun by another thread, is told by its state.
            if any(state != State.TRANSITION_STATE_ACTIVATING for state in self._answers()):
                return True
            if self._askers() - known:
                return True
            time.sleep(0.02)
            now = time.monotonic()
        return False

    def _ask(self) -> None:
        if self._client is None:
            self._asker = rclpy.create_node(
                f"{self._node.get_name()}_namesakes_{uuid4().hex[:8]}",  # another each time
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
