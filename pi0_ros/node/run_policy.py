"""The action ~/run_policy: obey an instruction until it succeeds, times out or is cancelled.

A goal begins an episode, enables motion and ends by disabling it, which brakes the arm; its result
comes when nothing moves any more. `~/run_policy/start` and `~/run_policy/cancel` do the same for
tools that call no actions, and `~/run_policy/status` says how it goes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import QoSProfile
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from pi0_ros.action import RunPolicy
from pi0_ros.motion.enable import MotionEnable
from pi0_ros.motion.refusal import Reason
from pi0_ros.node.control_loop import ControlLoop
from pi0_ros.node.parameter_checks import TOPIC
from pi0_ros.ros.subscriptions import AnyQosSubscription
from pi0_ros.ros.throttle import ThrottledLog, printable

PERIOD = 0.05
"""Seconds of steady time between two looks at the goal."""

FEEDBACK_EVERY = 4
"""Looks per feedback: it comes five times a second."""

PATIENCE = 10.0
"""Seconds of steady time without a chunk, the policy failing, after which the goal ends."""

_BOOL = "std_msgs/msg/Bool"
_LONGEST_NAME = 200  # characters of a topic; the middleware takes about 240
_LONGEST = 1000  # characters of a prompt that is shown
_Result = RunPolicy.Result


@dataclass(frozen=True)
class Surroundings:
    """What a goal needs of the node.

    Attributes:
        loop: the control loop while the node is active; else None.
        state: of the life cycle, for messages.
        enable: enables motion; returns whether it is enabled, and a sentence.
        stop: motion may have been disabled: stop what moves.
        executed: counts the chunks that were published as trajectories.
        report: counts and logs an exception that nobody expected.
    """

    loop: Callable[[], ControlLoop | None]
    state: Callable[[], str]
    enable: Callable[[], tuple[bool, str]]
    stop: Callable[[], None]
    executed: Callable[[], int]
    report: Callable[[BaseException], None]


@dataclass(frozen=True)
class End:
    """How a goal ended: the fields of the result of the same names."""

    termination: str
    error_code: int = _Result.NONE
    error_msg: str = ""

    def result(self, **more: Any) -> RunPolicy.Result:
        """What the client gets; `more`: the other fields."""
        return _Result(**vars(self), **more)


_CANCELED = End("canceled")
_SUCCEEDED = End("succeeded")


class _Server(ActionServer):
    """An action server whose goals are no coroutines.

    A coroutine that waits keeps the executors of Humble to Kilted from sleeping: they ask it again
    and again. Here a goal executes without one, and the result is given when it is known.
    """

    def notify_execute(self, goal_handle: ServerGoalHandle, execute_callback: Any) -> None:
        """The goal is in the state executing; there is nothing to call."""

    def finish(self, goal_handle: ServerGoalHandle, result: _Result) -> None:
        """Send the result of a goal; rclpy aborts one whose state does not say how it ended."""
        if self._node.executor is not None:  # else the node is being destroyed
            super().notify_execute(goal_handle, lambda _: result)


@dataclass
class _Goal:
    """The goal that is obeyed; `handle` is None for one of ~/run_policy/start.

    `began` and `seen` are nanoseconds of the node's clock: when it began, and the last look at it.
    """

    handle: ServerGoalHandle | None
    prompt: str
    longest: float
    began: int
    seen: int
    executed: int
    progress_at: float
    success: AnyQosSubscription | None = None
    end: End | None = None
    looks: int = 0


class RunPolicyServer:
    """One goal at a time; another one is rejected meanwhile."""

    def __init__(
        self, node: Node, surroundings: Surroundings, enable: MotionEnable, log: ThrottledLog
    ) -> None:
        self._node, self._around, self._enable, self._log = node, surroundings, enable, log
        self._goal: _Goal | None = None
        self._last = "no goal yet"
        self._server = _Server(
            node,
            RunPolicy,
            "~/run_policy",
            lambda _: None,
            goal_callback=self._on_request,
            handle_accepted_callback=self._on_accepted,
            cancel_callback=self._on_cancel,
        )
        for name, answer in (
            ("start", self._on_start),
            ("cancel", self._on_cancel_service),
            ("status", self._on_status),
        ):
            node.create_service(Trigger, f"~/run_policy/{name}", answer)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(PERIOD, self._look, clock=steady)
        self._timer.cancel()  # until there is a goal

    @property
    def running(self) -> bool:
        """Whether there is a goal, be it that it stops."""
        return self._goal is not None

    def close(self) -> None:
        """Serve no more."""
        self._server.destroy()

    # What clients want --------------------------------------------------------------------------

    def _on_request(self, _: RunPolicy.Goal) -> GoalResponse:
        if self._goal is None:
            return GoalResponse.ACCEPT
        text = f"a goal is rejected: {self._goal.prompt!r} is being obeyed; cancel it first"
        self._log.warning("goal", text)
        return GoalResponse.REJECT

    def _on_accepted(self, handle: ServerGoalHandle) -> None:
        goal = handle.request
        longest = goal.max_duration.sec + goal.max_duration.nanosec / 1e9
        end = self._try(handle, goal.prompt, longest, goal.success_topic)
        if end is not None:
            self._finish(end)

    def _on_cancel(self, _: ServerGoalHandle) -> CancelResponse:
        return CancelResponse.ACCEPT  # `_look` sees the state that it leads to

    def _on_start(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        loop = self._around.loop()
        prompt = loop.buffer.instruction if loop is not None else ""
        if self._goal is not None:
            response.message = f"{self._goal.prompt!r} is being obeyed; cancel it first"
            return response
        end = self._try(None, prompt, 0.0, "")
        if end is not None:
            self._finish(end)
        response.success = end is None
        response.message = f"obeying {prompt!r}" if end is None else end.error_msg
        return response

    def _on_cancel_service(self, _: Trigger.Request, response: Any) -> Trigger.Response:
        response.success = self._goal is not None
        response.message = "stopping" if self._goal is not None else "there is no goal"
        if self._goal is not None:
            self._stop(_CANCELED)
        return response

    def _on_status(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """`success`: a goal is being obeyed."""
        goal = self._goal
        response.success = goal is not None
        response.message = self._last
        if goal is not None:
            response.message = f"{self._state(goal)}; {self._elapsed(goal):.1f} s, {goal.prompt!r}"
        return response

    # A goal's life ------------------------------------------------------------------------------

    def _try(
        self, handle: ServerGoalHandle | None, prompt: str, longest: float, topic: str
    ) -> End | None:
        """As `_begin`; an exception ends the goal, and what it enabled is disabled again."""
        try:
            return self._begin(handle, prompt, longest, topic)
        except Exception as error:
            end = self._failed("the goal could not begin", error)
            self._stop(end)
            return end

    def _failed(self, what: str, error: Exception) -> End:
        """The end of a goal on account of an exception, which is reported."""
        self._around.report(error)
        text = f"{what}: {type(error).__name__}: {error}; the node's log has more"
        return End("failed", _Result.POLICY_FAILED, printable(text))

    def _begin(
        self, handle: ServerGoalHandle | None, prompt: str, longest: float, topic: str
    ) -> End | None:
        """Obey from now on; returns how it ended, if it did."""
        now = self._now()
        goal = _Goal(handle, prompt, longest, now, now, self._around.executed(), time.monotonic())
        self._goal = goal
        if handle is not None:
            handle.execute()
        loop = self._around.loop()
        if loop is None:
            text = f"the node is {self._around.state()}, not active; configure and activate it"
            return End("deactivated", _Result.DEACTIVATED, text)
        problem = self._topic_problem(topic) if topic else ""
        if longest < 0:
            problem = f"max_duration is {longest:g} s; give 0 for no limit"
        problem = problem or loop.buffer.prompt_problem(prompt)
        if problem:
            return End("invalid", _Result.INVALID_GOAL, problem)
        if topic:
            problem = self._listen(goal, topic)
            if problem:
                return End("invalid", _Result.INVALID_GOAL, problem)
        if not self._enable.enabled:
            enabled, why = self._around.enable()
            if not enabled:
                return End("disabled", _Result.NOT_ENABLED, f"motion is not enabled: {why}")
        loop.reset()
        loop.buffer.put_instruction(prompt)
        self._node.get_logger().info(f"goal: {prompt!r}")
        self._timer.reset()
        return None

    def _listen(self, goal: _Goal, topic: str) -> str:
        """Hear the goal's success; returns why the middleware does not take the topic, or ""."""
        try:
            goal.success = AnyQosSubscription(
                self._node,
                Bool,
                topic,
                lambda message, _: self._on_success(goal, message.data),
                QoSProfile(depth=10),
                lambda text: self._log.warning("success", f"{topic}: {text}"),
                latched=False,  # of a goal before this one
            )
        except Exception as error:  # rclpy's, of several kinds: the middleware bounds names
            return f"success_topic {topic[:80]!r} cannot be subscribed to: {error}"
        return ""

    def _topic_problem(self, topic: str) -> str:
        """Why nothing could be heard on it; "" where something could."""
        if not TOPIC.fullmatch(topic) or "__" in topic or len(topic) > _LONGEST_NAME:
            return f"success_topic {topic[:80]!r} is not a ROS topic name"
        name = self._node.resolve_topic_name(topic)
        there = dict(self._node.get_topic_names_and_types()).get(name, [_BOOL])
        if _BOOL not in there:
            return f"success_topic {name} has the type {' and '.join(there)}, expected {_BOOL}"
        return ""

    def _on_success(self, goal: _Goal, done: bool) -> None:
        if done and goal is self._goal:
            self._stop(_SUCCEEDED)

    def enable_problem(self) -> str:
        """Why motion is not enabled at the moment; "" if it may be."""
        if self._goal is None or self._goal.end is None:
            return ""
        return f"the goal {self._goal.prompt!r} of ~/run_policy is stopping; wait for its result"

    def instruction_problem(self) -> str:
        """Why another instruction is not taken at the moment; "" if it is."""
        if self._goal is None:
            return ""
        return f"a goal of ~/run_policy is being obeyed, {self._goal.prompt!r}; cancel it first"

    def deactivate(self) -> None:
        """The node leaves the state active: the goal ends at once."""
        if self._goal is not None:
            self._brake()
            text = "the node was deactivated, which ends the goal; activate it and send the goal"
            self._finish(self._goal.end or End("deactivated", _Result.DEACTIVATED, f"{text} again"))

    def _look(self) -> None:
        """Every PERIOD while there is a goal."""
        goal, loop = self._goal, self._around.loop()
        if goal is None or loop is None:
            return
        if goal.end is None:
            end = self._ended(goal, loop)
            if end is not None:
                self._stop(end)
        if goal.end is not None and loop.executor.rests(self._now()):
            self._finish(goal.end)
            return
        if goal.handle is not None and goal.looks % FEEDBACK_EVERY == 0:
            goal.handle.publish_feedback(self._feedback(goal, loop))
        goal.looks += 1

    def _ended(self, goal: _Goal, loop: ControlLoop) -> End | None:
        """Why the goal ends now, if it does."""
        if goal.handle is not None and goal.handle.is_cancel_requested:
            return _CANCELED
        enable = self._enable
        if enable.latched:
            text = f"stopped by {enable.latched}; call ~/reset when it is safe"
            return End("stopped", _Result.STOPPED, text)
        if not enable.enabled:
            return End("disabled", _Result.NOT_ENABLED, f"motion was disabled: {enable.cause}")
        if 0 < goal.longest <= self._elapsed(goal):
            text = f"max_duration of {goal.longest:g} s passed; give more, or a success_topic"
            return End("timed out", _Result.TIMED_OUT, text)
        refusal = loop.progress.refusal
        if refusal is None or refusal.reason not in (Reason.FAILED, Reason.TIMEOUT):
            goal.progress_at = time.monotonic()
        elif time.monotonic() - goal.progress_at > PATIENCE:
            text = f"no chunk for {PATIENCE:g} s: {refusal}"
            return End("failed", _Result.POLICY_FAILED, printable(text))
        return None

    def _stop(self, end: End) -> None:
        """Brake; `_look` ends the goal when nothing moves any more."""
        goal = self._goal
        if goal is None:
            return
        end = goal.end = goal.end or end  # the first one stays, but whoever wants a stop gets it
        self._enable.disable(f"the goal {goal.prompt!r} ended: {end.error_msg or end.termination}")
        self._brake()

    def _brake(self) -> None:
        """Motion is disabled: stop what moves. Where that fails, the control loop tries again."""
        try:
            self._around.stop()
        except Exception as error:
            self._around.report(error)

    def _finish(self, end: End) -> None:
        """Tell the result; where that fails, that it did."""
        goal, self._goal = self._goal, None
        handle = goal.handle
        try:
            result = self._close(goal, end)
            canceled = handle is not None and handle.is_cancel_requested
        except Exception as error:
            end = self._failed(f"the goal has ended ({end.termination}), with", error)
            self._last, result, canceled = end.error_msg, end.result(), False
        if handle is None:
            return
        try:
            if end is _SUCCEEDED:
                handle.succeed()
            elif canceled:
                handle.canceled()
            else:
                handle.abort()
        except Exception as error:
            self._around.report(error)
        self._server.finish(handle, result)

    def _close(self, goal: _Goal, end: End) -> RunPolicy.Result:
        """Listen and look no more; returns the result."""
        self._timer.cancel()
        if goal.success is not None:
            goal.success.close()
        executed = self._around.executed() - goal.executed
        self._last = f"{end.termination} after {self._elapsed(goal):.1f} s, {executed} chunks"
        self._last += f": {end.error_msg}" if end.error_msg else ""
        self._node.get_logger().info(f"goal {goal.prompt[:_LONGEST]!r}: {self._last}")
        elapsed = Duration(seconds=self._elapsed(goal)).to_msg()
        return end.result(elapsed=elapsed, chunks=executed)

    # Reports ------------------------------------------------------------------------------------

    def _feedback(self, goal: _Goal, loop: ControlLoop) -> RunPolicy.Feedback:
        observed = loop.observed
        return RunPolicy.Feedback(
            elapsed=Duration(seconds=self._elapsed(goal)).to_msg(),
            chunks=self._around.executed() - goal.executed,
            observation_age=math.nan if observed is None else (self._now() - observed) / 1e9,
            state=self._state(goal),
        )

    def _state(self, goal: _Goal) -> str:
        loop = self._around.loop()
        if goal.end is not None or loop is None:
            return "stopping"
        if loop.progress.refusal is not None:
            return f"waiting: {loop.progress.refusal.reason}"
        return "executing" if self._around.executed() > goal.executed else "waiting: first chunk"

    def _now(self) -> int:
        return self._node.get_clock().now().nanoseconds

    def _elapsed(self, goal: _Goal) -> float:
        """Seconds of the node's clock, which may jump back, as where a bag loops."""
        now = self._now()
        goal.began -= max(0, goal.seen - now)
        goal.seen = now
        return (now - goal.began) / 1e9
