"""What an operator controls: ~/enable, ~/reset, live parameters, emergency stop, deadman."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter
from std_msgs.msg import Bool, Header
from std_srvs.srv import SetBool, Trigger

from pi0_ros.motion.enable import MotionEnable
from pi0_ros.node.parameters import NodeParameters
from pi0_ros.node.qos import QosProfiles
from pi0_ros.ros.subscriptions import LatchedSubscription, subscribe
from pi0_ros.ros.throttle import ThrottledLog


@dataclass(frozen=True)
class Callbacks:
    """What the operator's wishes lead to.

    Attributes:
        check: why motion cannot be enabled in the node's state; "" if it can.
        stop: motion may have been disabled: stop what moves.
        reset: begin a new episode.
        set_parameters: gets name -> value; returns "", or why all are refused.
    """

    check: Callable[[], str]
    stop: Callable[[], None]
    reset: Callable[[], None]
    set_parameters: Callable[[dict[str, object]], str]


class OperatorInterface:
    """From the node's beginning to its end; motion is enabled here and nowhere else."""

    def __init__(
        self,
        node: Node,
        parameters: NodeParameters,
        qos: QosProfiles,
        enable: MotionEnable,
        callbacks: Callbacks,
        log: ThrottledLog,
    ) -> None:
        self._node, self._enable, self._callbacks = node, enable, callbacks
        self._deadman_timeout = parameters.deadman_timeout
        self._told_enabled = False
        node.create_service(SetBool, "~/enable", self._on_enable)
        node.create_service(Trigger, "~/reset", self._on_reset)
        node.add_on_set_parameters_callback(self._on_set_parameters)
        LatchedSubscription(
            node,
            Bool,
            parameters.emergency_stop_topic,
            self._on_emergency_stop,
            qos.emergency_stop,
            lambda text: log.warning("emergency stop", text),
        )
        if parameters.deadman_timeout:
            subscribe(
                node,
                Header,
                parameters.deadman_topic,
                self._on_heartbeat,
                qos.deadman,
                lambda text: log.warning("deadman", text),
            )

    def enable(self) -> str:
        """Enable motion; returns "", or why it stays disabled."""
        problem = self._callbacks.check() or self._enable.enable(time.monotonic())
        if not problem:
            self._told_enabled = True
            self._node.get_logger().warning("enabled: trajectories are published from now on")
        return problem

    def tell_if_disabled(self) -> None:
        """Log that motion was disabled, if it was since it was enabled."""
        if self._told_enabled and not self._enable.enabled:
            self._told_enabled = False
            self._node.get_logger().warning(f"disabled: {self._enable.cause}")

    def _on_emergency_stop(self, message: Bool) -> None:
        self._enable.emergency_stop(message.data)
        self._callbacks.stop()

    def _on_heartbeat(self, message: Header) -> None:
        stamp = message.stamp.sec * 10**9 + message.stamp.nanosec
        now = self._node.get_clock().now().nanoseconds
        # One that waited in a queue does not show that the deadman is held now.
        if not stamp or now - stamp <= self._deadman_timeout * 1e9:
            self._enable.heartbeat(time.monotonic())

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        if request.data:
            problem = self.enable()
            response.success, response.message = not problem, problem or "enabled"
        else:
            self._enable.disable("~/enable was called with false")
            self._callbacks.stop()
            response.success, response.message = True, "disabled"
        return response

    def _on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Begin a new episode and clear a latched fault; nothing is enabled."""
        problem = self._enable.reset()
        self._callbacks.reset()
        state = "enabled" if self._enable.enabled else "not enabled"
        response.success, response.message = not problem, problem or f"a new episode; {state}"
        self._node.get_logger().info(f"reset: {response.message}")
        return response

    def _on_set_parameters(self, parameters: Sequence[Parameter]) -> SetParametersResult:
        problem = self._callbacks.set_parameters({p.name: p.value for p in parameters})
        return SetParametersResult(successful=not problem, reason=problem)
