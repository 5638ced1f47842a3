"""The managed node: its life cycle, services and parameters; `ControlLoop` is what it does.

configure loads, checks, compiles and warms up; activate subscribes and publishes; deactivate stops
publishing; cleanup frees the memory. Publishing of trajectories needs `enabled` besides.
"""

from __future__ import annotations

import itertools
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import QoSProfile, ReliabilityPolicy
from trajectory_msgs.msg import JointTrajectory

from pi0_ros.motion.enable import MotionEnable
from pi0_ros.motion.limits import JointLimits, read_limits
from pi0_ros.motion.refusal import Refusal
from pi0_ros.msg import ActionChunk as ActionChunkMessage
from pi0_ros.node.control_loop import ControlLoop
from pi0_ros.node.diagnostics import Counts, Report
from pi0_ros.node.diagnostics_publisher import DiagnosticsPublisher
from pi0_ros.node.memory import memory, release, settle
from pi0_ros.node.operator_interface import Controls
from pi0_ros.node.parameters import (
    NodeParameters,
    declare,
    given_values,
    read_parameters,
    unknown_names,
)
from pi0_ros.node.preflight import (
    ContractError,
    LoadError,
    LoadPolicy,
    PolicyLike,
    contract_problems,
    make_policy,
)
from pi0_ros.node.timing import Timings
from pi0_ros.node.worker import Outcome, Worker
from pi0_ros.ros.throttle import Throttle, refusal_line

LOG_PERIOD = 2.0
"""Seconds between two log lines about the same thing."""

RETRY_PERIOD = 5.0
"""Seconds between two attempts of `autostart`."""

Check = Callable[[NodeParameters, Mapping[str, Sequence[str]], Callable[[str], str]], list[str]]
"""`pi0_ros.node.preflight.contract_problems` and stand-ins for it."""

_NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
_SUCCESS, _FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
_ERROR = TransitionCallbackReturn.ERROR


class Pi0Node(LifecycleNode):
    """Cameras, joint states and an instruction in; JointTrajectory chunks out.

    Attributes:
        parameters: as they are now; some change while the node runs.
        counts, timings: since the node began.
        limits: of the joints; None without a file, and then there are only dry runs.
        motion_enable: whether trajectories go out.
        worker: the thread that loads and infers; None while unconfigured.
        loop: what runs while active; else None.
    """

    def __init__(
        self,
        load: LoadPolicy = make_policy,
        check: Check = contract_problems,
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
            ParameterError: lists every unusable parameter.
        """
        super().__init__("pi0", **options)
        given = given_values(self)
        self.parameters = read_parameters(given)
        declare(self, self.parameters)
        for name in unknown_names(self.parameters, given):
            self.get_logger().warning(f"parameter {name}: this node has none of that name; ignored")

        self._load, self._check = load, check
        self.counts = Counts()
        self.timings = timings or Timings()
        self.motion_enable = MotionEnable(self.parameters.deadman_timeout)
        self.limits: JointLimits | None = None
        self.worker: Worker | None = None
        self._policy: PolicyLike | None = None
        self.loop: ControlLoop | None = None
        self._summary = "not configured"
        self._failed = False
        self._throttle = Throttle(LOG_PERIOD)
        self.next_episode = itertools.count().__next__

        self.trajectories = self.create_lifecycle_publisher(
            JointTrajectory, "~/joint_trajectory", _NEWEST
        )
        self.chunks = self.create_lifecycle_publisher(ActionChunkMessage, "~/action_chunk", _NEWEST)
        self.controls = Controls(self)
        self._outcome_ready = self.create_guard_condition(self.collect)
        self._diagnostics = DiagnosticsPublisher(self, self._report)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._second_timer = self.create_timer(1.0, self._on_second, clock=steady)
        self._answer_invalid_transitions()
        self._autostart_timer = None
        if self.parameters.autostart:
            self._autostart_timer = self.create_timer(0.01, self._on_autostart, clock=steady)

    def now(self) -> int:
        """Nanoseconds of the node's clock."""
        return self.get_clock().now().nanoseconds

    def sim_time(self) -> bool:
        """Whether the clock is /clock."""
        return bool(self.get_parameter("use_sim_time").value)

    def stop(self, timeout: float) -> bool:
        """End the worker; False if it is still busy after `timeout` seconds."""
        return self.worker is None or self.worker.stop(timeout)

    # Life cycle ---------------------------------------------------------------------------------

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
                self.get_logger().warning(
                    f"transition {request.transition.label or request.transition.id} refused in"
                    f" state {self.state}: {error}"
                )
                response.success = False
                return response

        service.callback = guarded

    def _on_autostart(self) -> None:
        """Configure and activate until it works."""
        self.destroy_timer(self._autostart_timer)
        self._autostart_timer = None
        if self.state == "unconfigured":
            self.trigger_configure()
        if self.state == "inactive":
            self.trigger_activate()
        if self.state == "unconfigured" and self.context.ok():
            self.get_logger().warning(f"trying again in {RETRY_PERIOD:g} s (autostart)")
            steady = Clock(clock_type=ClockType.STEADY_TIME)
            self._autostart_timer = self.create_timer(
                RETRY_PERIOD, self._on_autostart, clock=steady
            )

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Check the contract, load, compile and warm up."""
        return self._guarded(self._configure, "configure")

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe and publish."""
        return self._guarded(partial(self._activate, state), "activate")

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop publishing at once; a controller finishes the trajectory that it has."""
        return self._guarded(partial(self._deactivate, state), "deactivate")

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the policy."""
        return self._guarded(self._cleanup, "cleanup")

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop publishing and free the policy."""
        return self._guarded(partial(self._abort, state), "shutdown")

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Back to a state from which configure works."""
        self._failed = True
        return self._guarded(partial(self._abort, state), "error handling")

    def _guarded(self, step: Callable[[], str], name: str) -> TransitionCallbackReturn:
        """Do a transition's work, which returns the new summary; log what goes wrong."""
        try:
            self._summary = step()
        except (ContractError, LoadError, TimeoutError) as error:
            self._failed = True
            self._summary = f"{name} failed: {error}"
            self.get_logger().error(self._summary)
            result = _FAILURE
        except Exception as error:
            self._failed = True
            self._summary = f"{name} failed: {type(error).__name__}: {error}"
            self.get_logger().error(f"{self._summary}\n{traceback.format_exc()}")
            result = _ERROR
        else:
            result = _SUCCESS
        self._diagnostics.publish()
        return result

    def _configure(self) -> str:
        self._failed = False
        parameters = self.parameters
        topics = dict(self.get_topic_names_and_types())
        problems = self._check(parameters, topics, self.resolve_topic_name)
        if problems:
            raise ContractError(problems)
        self.limits = None
        if parameters.joint_limits:
            path = Path(parameters.joint_limits).expanduser()
            self.limits = read_limits(path, parameters.joint_names, parameters.default_acceleration)
        self.get_logger().info(f"loading {parameters.checkpoint}")
        self._summary = "loading the checkpoint"
        self._end_worker(0.0)
        self.worker = Worker(self._outcome_ready.trigger)
        self.worker.submit(partial(self._load, parameters))
        outcome = self._wait_for_worker()
        if outcome.error is not None:
            lines = traceback.format_exception(outcome.error)
            self.get_logger().debug("".join(lines))
            self._end_worker(0.0)
            raise LoadError(parameters.checkpoint, outcome.error) from outcome.error
        self._policy = outcome.value
        settle()
        limits = "no joint limits: dry runs only" if self.limits is None else "limits loaded"
        self.get_logger().info(
            f"configured: {self._policy.horizon} steps of {parameters.action_dt:g} s,"
            f" cameras {list(parameters.camera_names)}, joints {list(parameters.joint_names)};"
            f" {limits}"
        )
        return "configured, not active"

    def _wait_for_worker(self) -> Outcome:
        """The worker's outcome; signals are obeyed and /diagnostics goes on meanwhile."""
        reported = time.monotonic()
        while (outcome := self.worker.take()) is None:
            time.sleep(0.02)
            if not self.context.ok():
                raise TimeoutError("ROS was shut down")
            if time.monotonic() - reported >= 1.0:
                reported = time.monotonic()
                self._diagnostics.publish()
        return outcome

    def _activate(self, state: LifecycleState) -> str:
        super().on_activate(state)
        self.loop = ControlLoop(self, self._policy)
        self.get_logger().info(f"ready: ticks at {self.parameters.rate_hz:g} Hz")
        if self.parameters.start_enabled:
            refusal = self.controls.enable()
            if refusal:
                self.controls.tell(f"not enabled: {refusal}")
        return "active"

    def _deactivate(self, state: LifecycleState) -> str:
        self.motion_enable.disable("deactivated")
        if self.loop is not None:
            self.loop.close()
            self.loop = None
        super().on_deactivate(state)
        self.controls.tell("")
        return "configured, not active"

    def _cleanup(self) -> str:
        self._end_worker(1.0)
        if self._policy is not None and hasattr(self._policy, "close"):
            self._policy.close()
        self._policy = self.limits = None
        release()
        return "not configured"

    def _abort(self, state: LifecycleState) -> str:
        summary = self._summary
        self._deactivate(state)
        self._cleanup()
        return summary if self._failed else "not configured"

    def _end_worker(self, timeout: float) -> bool:
        worker, self.worker = self.worker, None
        return worker is None or worker.stop(timeout)

    # Reports ------------------------------------------------------------------------------------

    def collect(self) -> None:
        """Take what the worker has done, if it has done something."""
        if self.worker is None:
            return
        outcome = self.worker.take()
        if outcome is None:
            return
        if self.loop is not None:
            self.loop.on_outcome(outcome)
        else:  # begun before a deactivation
            self.counts.refused["stale"] += 1

    def report_refusal(self, refusal: Refusal) -> None:
        """Tell /diagnostics at once, and the log now and then."""
        self._diagnostics.publish()
        count = self.counts.refused[refusal.reason]
        line = refusal_line(refusal.stream, refusal.reason, refusal.detail, count)
        self.log_throttled(refusal.reason, line)

    def report_error(self, error: BaseException) -> None:
        """A callback raised what it should not: nothing moves on its account, and it is told."""
        self.counts.errors += 1
        text = "".join(traceback.format_exception(error))
        self.log_throttled("callback", f"a callback failed: {text}")

    def log_throttled(self, key: str, text: str, warn: bool = True) -> None:
        """Log, unless the same key was logged just now."""
        swallowed = self._throttle.ready(key)
        if swallowed is None:
            return
        more = f" ({swallowed} more since the last line)" if swallowed else ""
        # Two lines, because rclpy binds a severity to the line that logs.
        if warn:
            self.get_logger().warning(text + more)
        else:
            self.get_logger().info(text + more)

    def _on_second(self) -> None:
        self._diagnostics.publish()
        if self.loop is not None:
            self.loop.reported()

    def _report(self) -> Report:
        loop, worker = self.loop, self.worker
        ok, summary = loop.state() if loop else (not self._failed, self._summary)
        return Report(
            node=self.get_name(),
            state=self.state,
            counts=self.counts,
            ok=ok,
            summary=summary,
            streams=loop.buffer.statuses(self.now()) if loop else (),
            timings=self.timings.percentiles(),
            period=1 / self.parameters.rate_hz,
            queue=int(worker is not None and worker.busy),
            running_for=worker.running_for() if worker else None,
            enabled=self.motion_enable.enabled,
            latched=self.motion_enable.latched,
            limits_loaded=self.limits is not None,
            refusal=loop.refusal if loop else None,
            memory=memory(str(self._policy.device) if self._policy else None),
        )
