"""What an operator has in hand: ~/enable, ~/reset, live parameters, emergency stop, deadman."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from rcl_interfaces.msg import SetParametersResult
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_msgs.msg import Bool, Header
from std_srvs.srv import SetBool, Trigger

from pi0_ros.motion.executor import MotionSettings
from pi0_ros.node.parameters import NodeParameters, ParameterError, changed
from pi0_ros.ros.subscriptions import LatchedSubscription, subscribe

if TYPE_CHECKING:
    from pi0_ros.node.node import Pi0Node


_BEAT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
# Deep, so that later messages do not push a stop out of the queue.
_STOPS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)


class Controls:
    """From the node's beginning to its end; motion is enabled here and nowhere else."""

    def __init__(self, node: Pi0Node) -> None:
        self._node = node
        self._told_enabled = False
        node.create_service(SetBool, "~/enable", self._on_enable)
        node.create_service(Trigger, "~/reset", self._on_reset)
        node.add_on_set_parameters_callback(self._on_set_parameters)
        parameters = node.parameters
        self._emergency_stop = LatchedSubscription(
            node,
            Bool,
            parameters.emergency_stop_topic,
            self._on_emergency_stop,
            _STOPS,
            lambda text: node.log_throttled("emergency stop", text),
        )
        if parameters.deadman_timeout:
            subscribe(
                node,
                Header,
                parameters.deadman_topic,
                self._on_beat,
                _BEAT,
                lambda text: node.log_throttled("deadman", text),
            )

    def enable(self) -> str:
        """Let trajectories out; returns "", or why not."""
        refusal = self._refusal()
        if not refusal:
            self._node.motion_enable.enable(time.monotonic())
            self.tell("enabled: trajectories are published from now on")
        return refusal

    def _refusal(self) -> str:
        node = self._node
        if node.loop is None:
            return f"the node is {node.state}, not active"
        if node.limits is None:
            return "no joint limits are known; give a file as joint_limits and configure anew"
        return node.motion_enable.check(time.monotonic())

    def disable(self) -> None:
        """Let no more trajectories out, and stop what moves."""
        self._node.motion_enable.disable("asked for")
        self._stop()

    def _on_emergency_stop(self, message: Bool) -> None:
        self._node.motion_enable.emergency_stop(message.data)
        self._stop()

    def _stop(self) -> None:
        if self._node.loop is not None:
            self._node.loop.stop_if_disabled()

    def _on_beat(self, message: Header) -> None:
        stamp = message.stamp.sec * 10**9 + message.stamp.nanosec
        node = self._node
        # One that waited in a queue says nothing about the hand on the switch.
        if not stamp or node.now() - stamp <= node.parameters.deadman_timeout * 1e9:
            node.motion_enable.heartbeat(time.monotonic())

    def tell_if_disabled(self) -> None:
        """Tell that motion was disabled since the last `tell`, if it was."""
        enable = self._node.motion_enable
        if self._told_enabled and not enable.enabled:
            self.tell(f"disabled: {enable.cause}")

    def tell(self, text: str) -> None:
        """Log the text, if there is one."""
        self._told_enabled = self._node.motion_enable.enabled
        if text:
            self._node.get_logger().warning(text)

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        if request.data:
            refusal = self.enable()
            response.success, response.message = not refusal, refusal or "enabled"
        else:
            self.disable()
            response.success, response.message = True, "disabled"
        return response

    def _on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """A new episode; a latched fault is cleared, but nothing is enabled."""
        node = self._node
        problem = node.motion_enable.reset()
        if node.loop is not None:
            node.loop.reset()
        state = "enabled" if node.motion_enable.enabled else "not enabled"
        response.success, response.message = not problem, problem or f"a new episode; {state}"
        node.get_logger().info(f"reset: {response.message}")
        return response

    def _on_set_parameters(self, parameters: Sequence[Parameter]) -> SetParametersResult:
        """Check all, then take all."""
        values = {parameter.name: parameter.value for parameter in parameters}
        try:
            new = changed(self._node.parameters, values)
        except ParameterError as error:
            return SetParametersResult(successful=False, reason=str(error))
        problem = self._take(new, values)
        return SetParametersResult(successful=not problem, reason=problem)

    def _take(self, new: NodeParameters, values: Collection[str]) -> str:
        """Act on checked parameters; returns "", or why they are refused and nothing changed."""
        node = self._node
        if "instruction" in values and node.loop is not None:
            refusal = node.loop.buffer.put_instruction(new.instruction)
            if refusal:
                return f"instruction: {refusal}"
        old, node.parameters = node.parameters, new
        if node.loop is not None:
            node.loop.executor.settings = MotionSettings.of(new)
            if new.rate_hz != old.rate_hz:
                node.loop.set_rate(new.rate_hz)
        return ""
