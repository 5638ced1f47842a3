"""The node pi0: who is connected to whom, and its transitions; `ControlLoop` is what it does.

configure loads, checks, compiles and warms up; activate subscribes and publishes; deactivate stops
publishing; cleanup frees the memory. Trajectories are published only while motion is enabled, too.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from rclpy.clock import Clock, ClockType

from pi0_ros.collision.check import CollisionCheck
from pi0_ros.motion.enable import MotionEnable
from pi0_ros.motion.limits import JointLimits
from pi0_ros.motion.refusal import Refusal
from pi0_ros.msg import ActionChunk as ActionChunkMessage
from pi0_ros.node.control_loop import ControlLoop, Outputs
from pi0_ros.node.declared import fill_declared
from pi0_ros.node.diagnostics import Report
from pi0_ros.node.diagnostics_publisher import DiagnosticsPublisher
from pi0_ros.node.loading import LoadError, LoadPolicy, make_policy
from pi0_ros.node.memory import memory, release, settle
from pi0_ros.node.operator_interface import Callbacks, OperatorInterface
from pi0_ros.node.outputs import CommandOutputs, Unsent
from pi0_ros.node.parameters import (
    NodeParameters,
    ParameterError,
    changed,
    declare,
    given_values,
    read_parameters,
    similar_name,
    unknown_names,
)
from pi0_ros.node.preflight import PreflightError, load_check, load_limits, preflight
from pi0_ros.node.progress import Timings
from pi0_ros.node.qos import declare_qos
from pi0_ros.node.run_policy import RunPolicyServer, Surroundings
from pi0_ros.ros.managed_node import ManagedNode
from pi0_ros.ros.throttle import ThrottledLog, refusal_line

Check = Callable[[NodeParameters, Mapping[str, Sequence[str]], Callable[[str], str]], list[str]]
"""`pi0_ros.node.preflight.preflight` and stand-ins for it."""


class Pi0Node(ManagedNode):
    """Cameras, joint states and an instruction in; trajectories out.

    Attributes:
        parameters: as they are now; some change while the node runs.
        counts, timings: since the node began.
        motion_enable: whether trajectories are published.
        loop: from configure to cleanup; else None.
    """

    def __init__(
        self,
        load: LoadPolicy = make_policy,
        check: Check = preflight,
        timings: Timings | None = None,
        **options: Any,
    ) -> None:
        """Not configured yet.

        Args:
            load: makes the policy, in the worker's thread.
            check: lists what is wrong with parameters, checkpoint and topics.
            timings: keeps the durations; of its own by default.
            options: go to LifecycleNode.

        Raises:
            ParameterError: lists every unusable parameter, or every unusable QoS override.
        """
        super().__init__("pi0", **options)
        given, notes = fill_declared(given_values(self))
        self.parameters = read_parameters(given)
        for note in notes:
            self.get_logger().info(note)
        declare(self, self.parameters)
        self._qos = declare_qos(self, self.parameters)
        for name in unknown_names(self.parameters, given):
            near = similar_name(self.parameters, name)
            hint = f"; did you mean {near}?" if near else ""
            text = f"parameter {name}: this node has none of that name; ignored{hint}"
            self.get_logger().warning(text)

        self._load, self._check = load, check
        self.motion_enable = MotionEnable(self.parameters.deadman_timeout)
        self.loop: ControlLoop | None = None
        self._limits: JointLimits | None = None
        self._log = ThrottledLog(self.get_logger())
        self._operator = OperatorInterface(
            self,
            self.parameters,
            self._qos,
            self.motion_enable,
            Callbacks(
                self._check_enable,
                self._caution,
                self._stop,
                self._reset,
                self._set_parameters,
            ),
            self._log,
        )
        self._outputs = Outputs(
            self.create_lifecycle_publisher(
                ActionChunkMessage, "~/action_chunk", self._qos.action_chunk
            ),
            CommandOutputs(self, self.parameters, self._qos.outputs, self._on_unsent),
            self._on_refusal,
            self._on_unsent,
            self._operator.tell_if_disabled,
            lambda: self._task.instruction_problem(),
            self._log,
            timings=timings or Timings(),
        )
        self.counts, self.timings = self._outputs.counts, self._outputs.timings
        self._task = RunPolicyServer(
            self,
            Surroundings(
                lambda: self.loop if self._is_active() else None,
                lambda: self.state,
                self._operator.enable,
                self._stop,
                lambda: self.counts.trajectories,
                self.report_error,
            ),
            self.motion_enable,
            self._log,
        )
        self._diagnostics = DiagnosticsPublisher(self, self._report)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._second_timer = self.create_timer(1.0, self._on_second, clock=steady)
        if self.parameters.autostart:
            self._autostart()
        else:
            self.get_logger().info(
                f"waiting: `ros2 lifecycle set {self.get_fully_qualified_name()} configure` and"
                " `activate`, or a lifecycle manager (autostart: true does both)"
            )

    def destroy_node(self) -> None:
        """Also of the action server."""
        self._task.close()
        super().destroy_node()

    def stop(self, timeout: float) -> bool:
        """End the worker; False if it is still busy after `timeout` seconds."""
        return self.loop is None or self.loop.worker.stop(timeout)

    # Life cycle ---------------------------------------------------------------------------------

    def _configure(self) -> None:
        """Preflight, load, compile and warm up."""
        parameters = self.parameters
        topics = dict(self.get_topic_names_and_types())
        problems = [
            *self._check(parameters, topics, self.resolve_topic_name),
            *self._outputs.commands.type_problems(),
        ]
        if problems:
            raise PreflightError(problems)
        self._limits = load_limits(parameters)
        if self._limits is not None:
            for sentence in (*self._limits.remarks, *self._limits.wide):
                self.get_logger().warning(sentence)
        self.get_logger().info(f"loading {parameters.checkpoint or parameters.policy_url}")
        self._summary = "loading the policy"
        self._end_loop(0.0)
        self.loop = ControlLoop(
            self,
            parameters,
            self._qos,
            self._limits,
            self.motion_enable,
            self._outputs,
            self._load_check(parameters),
        )
        error = self.loop.worker.load(partial(self._load, parameters), self._wait)
        if error is not None:
            self.get_logger().debug("".join(traceback.format_exception(error)))
            self._end_loop(1.0)
            raise LoadError(parameters, error) from error
        settle()
        limits = "no joint limits: dry runs only" if self._limits is None else "limits loaded"
        self.get_logger().info(
            f"configured: {self.loop.worker.policy.horizon} steps of {parameters.action_dt:g} s,"
            f" cameras {list(parameters.camera_names)}, joints {list(parameters.joint_names)};"
            f" {limits}"
        )

    def _load_check(self, parameters: NodeParameters) -> CollisionCheck | None:
        check = load_check(parameters, self._limits)
        if check is not None:
            unshaped = f"; without a shape: {list(check.unshaped)}" if check.unshaped else ""
            self.get_logger().info(
                f"collision check: {len(check.pairs)} pairs of links{unshaped};"
                f" workspace_box {list(parameters.workspace_box)}"
            )
        return check

    def _wait(self) -> None:
        """A moment while the worker loads: signals are obeyed and /diagnostics goes on."""
        time.sleep(0.02)
        if not self.context.ok():
            raise TimeoutError("ROS was shut down")
        if time.monotonic() - self._diagnostics.published_at >= 1.0:
            self._diagnostics.publish()

    def _activate(self) -> None:
        """Subscribe and publish."""
        self.loop.activate()
        self.get_logger().info(f"ready: ticks at {self.parameters.rate_hz:g} Hz")
        if self.parameters.start_enabled:
            enabled, problem = self._operator.enable()
            if not enabled:
                self.get_logger().warning(f"not enabled: {problem}")

    def _deactivate(self) -> None:
        """Stop publishing at once; a controller finishes the trajectory that it has."""
        self.motion_enable.disable("the node was deactivated")
        self._task.deactivate()
        if self.loop is not None:
            self.loop.deactivate()
        self._operator.tell_if_disabled()

    def _cleanup(self) -> None:
        """Free the policy."""
        self._end_loop(1.0)
        self._limits = None
        release()

    def _on_transition(self) -> None:
        self._diagnostics.publish()

    def _end_loop(self, timeout: float) -> None:
        loop, self.loop = self.loop, None
        if loop is not None:
            loop.close(timeout)

    # What the operator wants --------------------------------------------------------------------

    def _is_active(self) -> bool:
        return self.loop is not None and self.loop.active

    def _check_enable(self) -> str:
        """Why motion cannot be enabled in this state; "" if it can."""
        if not self._is_active():
            return f"the node is {self.state}, not active"
        if self._limits is None:
            return "no joint limits are known; give a file as joint_limits and configure anew"
        return self._task.enable_problem()

    def _caution(self) -> str:
        """What keeps trajectories from coming, or from being executed, at the moment."""
        return self.loop.caution() if self._is_active() else ""

    def _stop(self) -> None:
        if self._is_active():
            self.loop.stop_if_needed()

    def _reset(self) -> None:
        if self._is_active():
            self.loop.reset()

    def _set_parameters(self, values: Mapping[str, object]) -> str:
        """Check all, then take all; returns "", or why nothing changed."""
        try:
            new = changed(self.parameters, values, configured=self.loop is not None)
        except ParameterError as error:
            return str(error)
        if "instruction" in values and self._is_active():
            problem = self._task.instruction_problem()
            problem = problem or self.loop.buffer.put_instruction(new.instruction)
            if problem:
                return f"instruction: {problem}"
        self.parameters = new
        if self.loop is not None:
            self.loop.set_parameters(new)
        for name, value in values.items():
            self.get_logger().info(f"parameter {name}: {value!r} from now on")
        return ""

    # Reports ------------------------------------------------------------------------------------

    def _on_refusal(self, refusal: Refusal) -> None:
        """Tell /diagnostics at once, and the log now and then."""
        self._diagnostics.publish()
        count = self.counts.refused[refusal.reason]
        line = refusal_line(refusal.stream, refusal.reason, refusal.detail, count)
        self._log.warning(refusal.reason, line)

    def _on_unsent(self, error: Unsent) -> None:
        """A controller lacks what counts as executing: a fault latches."""
        self.motion_enable.latch(str(error))
        self.report_error(error, "unsent")

    def report_error(self, error: BaseException, key: str = "callback") -> None:
        """A callback raised unexpectedly: nothing moves on its account; it is counted and told."""
        self.counts.errors += 1
        text = "".join(traceback.format_exception(error))
        self._log.warning(key, f"a callback failed: {text}")

    def _on_second(self) -> None:
        self._diagnostics.publish()
        self._operator.warn_if_unheard()
        if self._is_active():
            self.loop.progress.on_report()

    def _report(self) -> Report:
        loop = self.loop
        worker = loop.worker if loop else None
        ok, summary = loop.state() if self._is_active() else (not self._failed, self._summary)
        policy = worker.policy if worker else None
        return Report(
            node=self.get_name(),
            state=self.state,
            counts=self.counts,
            ok=ok,
            summary=summary,
            streams=loop.streams() if loop else (),
            outputs=self._outputs.commands.statuses(),
            timings=self.timings.percentiles(),
            period=1 / self.parameters.rate_hz,
            queue=int(worker is not None and worker.busy),
            running_for=worker.running_for() if worker else None,
            enabled=self.motion_enable.enabled,
            latched=self.motion_enable.latched,
            limits_loaded=self._limits is not None,
            refusal=loop.progress.refusal if self._is_active() else None,
            tracking=loop.tracking() if loop else None,
            rtc=self.parameters.rtc,
            rtc_delay=loop.rtc.delay if loop else None,
            rtc_counts=self._outputs.rtc,
            memory=memory(str(policy.device) if policy else None),
        )
