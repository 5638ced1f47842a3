"""A managed node that no transition ends: what goes wrong is told, and another attempt may work."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState
from rclpy.lifecycle import TransitionCallbackReturn as Result

from pi0_ros.errors import UserError
from pi0_ros.ros.namesakes import Namesakes

RETRY_PERIOD = 5.0
"""Seconds between two attempts of `autostart`."""

_INACTIVE, _UNCONFIGURED = "configured, not active", "not configured"


class ManagedNode(LifecycleNode):
    """The life cycle; a subclass has `_configure`, `_activate`, `_deactivate` and `_cleanup`.

    They raise UserError or TimeoutError where the node is to stay in its state. After any other
    exception, and at shutdown, `_deactivate` and `_cleanup` are called, whatever the state was.
    `_on_transition` is called after each transition.
    """

    def __init__(self, name: str, **options: Any) -> None:
        """Unconfigured until the executor spins; `options` go to LifecycleNode."""
        super().__init__(name, **options)
        self._summary, self._failed = _UNCONFIGURED, False
        self._namesakes = Namesakes(self)
        self._answer_invalid_transitions()

    def destroy_node(self) -> None:
        """Also of the node that asks for namesakes."""
        self._namesakes.close()
        super().destroy_node()

    @property
    def state(self) -> str:
        """unconfigured, inactive, active, finalized, or the transition that runs."""
        return self._state_machine.current_state[1]

    def _answer_invalid_transitions(self) -> None:
        """Refuse a transition that the state does not have; rclpy's own answer ends the node."""
        service = self._service_change_state
        change = service.callback

        def guarded(request: Any, response: Any) -> Any:
            try:
                return change(request, response)
            except RuntimeError as error:  # rclpy's RCLError
                name = request.transition.label or request.transition.id
                text = f"transition {name} refused in state {self.state}: {error}"
                self.get_logger().warning(text)
                response.success = False
                return response

        service.callback = guarded

    def _autostart(self, delay: float = 0.01) -> None:
        """Configure and activate in `delay` seconds, and again until it works."""
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._autostart_timer = self.create_timer(delay, self._on_autostart, clock=steady)

    def _on_autostart(self) -> None:
        self.destroy_timer(self._autostart_timer)
        if self.state == "unconfigured":
            self.trigger_configure()
        if self.state == "inactive":
            self.trigger_activate()
        if self.state in ("unconfigured", "inactive") and self.context.ok():
            self.get_logger().warning(f"trying again in {RETRY_PERIOD:g} s (autostart)")
            self._autostart(RETRY_PERIOD)

    def on_configure(self, state: LifecycleState) -> Result:
        self._failed = False
        return self._guarded("configure", _INACTIVE, self._configure)

    def on_activate(self, state: LifecycleState) -> Result:
        publish = partial(super().on_activate, state)
        return self._guarded("activate", "active", self._check_name, publish, self._activate)

    def on_deactivate(self, state: LifecycleState) -> Result:
        return self._guarded("deactivate", _INACTIVE, *self._end(state))

    def on_cleanup(self, state: LifecycleState) -> Result:
        return self._guarded("cleanup", _UNCONFIGURED, self._cleanup)

    def on_shutdown(self, state: LifecycleState) -> Result:
        summary = self._summary if self._failed else _UNCONFIGURED
        return self._guarded("shutdown", summary, *self._end(state), self._cleanup)

    def on_error(self, state: LifecycleState) -> Result:
        self._failed = True
        return self._guarded("error handling", self._summary, *self._end(state), self._cleanup)

    def _end(self, state: LifecycleState) -> tuple[Callable[[], object], ...]:
        return self._deactivate, partial(super().on_deactivate, state)

    def _check_name(self) -> None:
        if self._namesakes.answer():
            raise UserError(
                f"another node of the name {self.get_fully_qualified_name()} runs: end it, or start"
                " this one under another name (-r __node:=NAME) or in another namespace"
                " (-r __ns:=/NAME)"
            )

    def _guarded(self, name: str, summary: str, *steps: Callable[[], object]) -> Result:
        """Do a transition's work, after which `summary` holds; log what goes wrong."""
        result, more = Result.SUCCESS, ""
        try:
            for step in steps:
                step()
        except (UserError, TimeoutError) as error:
            result, summary = Result.FAILURE, f"{name} failed: {error}"
        except Exception as error:
            result = Result.ERROR
            summary = f"{name} failed: {type(error).__name__}: {error}"
            more = f"\n{traceback.format_exc()}"
        self._summary = summary
        if result != Result.SUCCESS:
            self._failed = True
            self.get_logger().error(f"{summary}{more}")
        self._on_transition()
        return result
