"""What an operator controls: ~/enable, ~/reset, live parameters, emergency stop, deadman."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.subscription import Subscription
from std_msgs.msg import Bool, Header
from std_srvs.srv import SetBool, Trigger

from pi0_ros.motion.emergency_stop import EmergencyStop
from pi0_ros.motion.enable import MotionEnable
from pi0_ros.node.parameters import NodeParameters
from pi0_ros.node.qos import QosProfiles
from pi0_ros.node.stream_health import FUTURE_TOLERANCE
from pi0_ros.ros.graph import MATCHING, full_name, unheard
from pi0_ros.ros.subscriptions import AnyQosSubscription, Sender, subscribe
from pi0_ros.ros.throttle import ThrottledLog


@dataclass(frozen=True)
class Callbacks:
    """What the operator's wishes lead to.

    Attributes:
        check: why motion cannot be enabled in the node's state; "" if it can.
        caution: why nothing may move although motion is enabled; "" if it will.
        stop: motion may have been disabled: stop what moves.
        reset: begin a new episode.
        set_parameters: gets name -> value; returns "", or why all are refused.
    """

    check: Callable[[], str]
    caution: Callable[[], str]
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
        self._parameters, self._log = parameters, log
        self._stops = EmergencyStop()
        self._told_enabled = False
        node.create_service(SetBool, "~/enable", self._on_enable)
        node.create_service(Trigger, "~/reset", self._on_reset)
        node.add_on_set_parameters_callback(self._on_set_parameters)
        self._stop_subscription = AnyQosSubscription(
            node,
            Bool,
            parameters.emergency_stop_topic,
            self._on_emergency_stop,
            qos.emergency_stop,
            lambda text: log.warning("emergency stop", text),
        )
        self._deadman_qos = qos.deadman
        self._deadman: Subscription | None = None
        if parameters.deadman_timeout:
            self._deadman = subscribe(
                node,
                Header,
                parameters.deadman_topic,
                self._on_heartbeat,
                qos.deadman,
                lambda text: log.warning("deadman", text),
            )

    def enable(self) -> tuple[bool, str]:
        """Enable motion; returns whether it is, and why not, or what keeps the arm from moving."""
        problem = self._callbacks.check() or self.unheard()
        problem = problem or self._enable.enable(time.monotonic())
        if problem:
            return False, problem
        self._told_enabled = True
        caution = self._callbacks.caution()
        self._node.get_logger().warning(
            f"enabled: trajectories are published from now on{caution and f'; {caution}'}"
        )
        return True, f"enabled{caution and f'; but {caution}'}"

    def unheard(self, patience: float = MATCHING) -> str:
        """Why a stop could not reach this node, in a sentence; "" if it could.

        Args:
            patience: seconds that publishers which only just came may take to match.
        """
        parameters, node = self._parameters, self._node
        found = self._stop_subscription.unheard(patience)
        if found:
            topic = parameters.emergency_stop_topic
            return f"an emergency stop on {topic} could not be heard: {'; '.join(found)}"
        if self._deadman is None:
            return ""
        topic = parameters.deadman_topic
        if not node.get_publishers_info_by_topic(topic):
            return f"deadman_timeout is set, and nobody publishes the heartbeat on {topic}"
        found = unheard(node, topic, Header, self._deadman, self._deadman_qos, patience)
        return f"the heartbeat on {topic} could not be heard: {'; '.join(found)}" if found else ""

    def warn_if_unheard(self) -> None:
        """Log that a stop could not reach this node while motion is enabled."""
        problem = self.unheard(patience=0.0) if self._enable.enabled else ""
        if problem:
            self._log.warning("unheard", problem)

    def tell_if_disabled(self) -> None:
        """Log that motion was disabled, if it was since it was enabled."""
        if self._told_enabled and not self._enable.enabled:
            self._told_enabled = False
            self._node.get_logger().warning(f"disabled: {self._enable.cause}")

    def _on_emergency_stop(self, message: Bool, sender: Sender) -> None:
        if not message.data and not self._stops.held:
            return
        try:
            if message.data:  # first of all
                self._enable.emergency_stop(True)
                self._callbacks.stop()
        finally:  # who holds it is kept, whatever becomes of the stop
            publishers = self._stop_publishers()
            self._stops.hear(
                message.data, sender.publisher, sender.sent, publishers, time.monotonic()
            )
        self._enable.emergency_stop(self._stops.held)

    def _stop_publishers(self) -> dict[bytes, str]:
        infos = self._node.get_publishers_info_by_topic(self._parameters.emergency_stop_topic)
        return {bytes(info.endpoint_gid): full_name(info) for info in infos}

    def _on_heartbeat(self, message: Header) -> None:
        stamp = message.stamp.sec * 10**9 + message.stamp.nanosec
        age = self._node.get_clock().now().nanoseconds - stamp
        problem = ""
        if stamp and age > self._parameters.deadman_timeout * 1e9:
            # One that waited in a queue does not show that the deadman is held now.
            problem = f"stamped {age / 1e9:.3f} s ago"
        elif stamp and age < -FUTURE_TOLERANCE:
            problem = f"stamped {-age / 1e9:.3f} s in the future"
        if problem:
            self._enable.refuse_heartbeat(problem)
            self._log.warning("deadman", f"a heartbeat is refused: {problem}")
        else:
            self._enable.heartbeat(time.monotonic())

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        if request.data:
            response.success, response.message = self.enable()
        else:
            self._enable.disable("~/enable was called with false")
            self._callbacks.stop()
            response.success, response.message = True, "disabled"
        return response

    def _on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Begin a new episode and clear a latched fault; nothing is enabled."""
        still = self._stops.release(self._stop_publishers(), time.monotonic())
        problem = f"the emergency stop is still on: {still}" if still else ""
        if not problem:
            self._enable.emergency_stop(False)
            problem = self._enable.reset()
        self._callbacks.reset()
        state = "enabled" if self._enable.enabled else "not enabled"
        response.success, response.message = not problem, problem or f"a new episode; {state}"
        self._node.get_logger().info(f"reset: {response.message}")
        return response

    def _on_set_parameters(self, parameters: Sequence[Parameter]) -> SetParametersResult:
        problem = self._callbacks.set_parameters({p.name: p.value for p in parameters})
        return SetParametersResult(successful=not problem, reason=problem)
