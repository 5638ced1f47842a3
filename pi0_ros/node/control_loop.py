"""What the node does while it is active: at each tick an observation, an inference, a trajectory.

An image's way: `InputSubscriptions` -> `ObservationBuffer` -> `_on_tick` -> `PolicyWorker` (decodes
and infers in its thread) -> `collect` -> `Executor` -> messages.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

from rclpy.clock import Clock, ClockType, JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.publisher import Publisher

from pi0_ros.motion.enable import MotionEnable
from pi0_ros.motion.executor import Executor, MotionSettings
from pi0_ros.motion.limits import JointLimits
from pi0_ros.motion.planner import Plan
from pi0_ros.motion.refusal import REJECTIONS, Reason, Refusal
from pi0_ros.motion.rtc import RealTimeChunking, RtcCounts, RtcSettings
from pi0_ros.motion.screening import check_shape
from pi0_ros.motion.spline import Motion
from pi0_ros.node.images import decompress, to_rgb
from pi0_ros.node.inputs import InputSubscriptions
from pi0_ros.node.messages import chunk_message
from pi0_ros.node.observation import ObservationBuffer
from pi0_ros.node.outputs import CommandOutputs, Unsent
from pi0_ros.node.parameters import NodeParameters
from pi0_ros.node.progress import Counts, Progress, Timings
from pi0_ros.node.qos import QosProfiles
from pi0_ros.node.stream_health import FUTURE_TOLERANCE, StreamStatus
from pi0_ros.node.worker import Inference, PolicyWorker
from pi0_ros.ros.graph import publishers
from pi0_ros.ros.throttle import ThrottledLog

WATCH_PERIOD = 0.02
"""Seconds between two looks at the deadman, the inference and the executing trajectory."""


@dataclass(frozen=True)
class Outputs:
    """Where the control loop tells what happens; counts and timings outlive it.

    Attributes:
        chunks: publisher.
        commands: takes the trajectories.
        on_refusal: called with every refusal, after it was counted.
        on_unsent: called with every trajectory that could not be sent; latches a fault.
        on_disabled: called whenever motion may have been disabled.
        instruction_problem: why no other instruction is taken at the moment; "" if one is.
        log: takes lines about events that may repeat.
    """

    chunks: Publisher
    commands: CommandOutputs
    on_refusal: Callable[[Refusal], None]
    on_unsent: Callable[[Unsent], None]
    on_disabled: Callable[[], None]
    instruction_problem: Callable[[], str]
    log: ThrottledLog
    counts: Counts = field(default_factory=Counts)
    timings: Timings = field(default_factory=Timings)
    rtc: RtcCounts = field(default_factory=RtcCounts)


class ControlLoop:
    """Owns the policy's worker; ticks from `activate` to `deactivate`.

    Attributes:
        worker: has the policy, loads it and infers; until `close`.
        active: it subscribes, ticks and publishes.
        buffer: the newest messages of the streams; anew at each activation.
        progress: whether chunks come; anew at each activation.
        observed: time of the last observation, nanoseconds; None before the episode's first.
    """

    def __init__(
        self,
        node: Node,
        parameters: NodeParameters,
        qos: QosProfiles,
        limits: JointLimits | None,
        enable: MotionEnable,
        outputs: Outputs,
        check: Callable[[Motion], Refusal | None] | None = None,
    ) -> None:
        """Begin the worker's thread.

        Args:
            node: whose clock, timers and subscriptions are used.
            limits: None: only dry runs.
            check: see `pi0_ros.motion.executor.Executor`.
        """
        self._node, self._clock = node, node.get_clock()
        self._parameters, self._qos, self._limits = parameters, qos, limits
        self._enable, self._motion_check = enable, check
        if limits is not None:
            outputs.commands.set_velocity_limits(limits.velocity)
        self._outputs, self._counts, self._timings = outputs, outputs.counts, outputs.timings
        self._inference_ended = node.create_guard_condition(self.collect)
        self.worker = PolicyWorker(self._inference_ended.trigger)
        self.active = False
        self._episode = 0
        self._start_over()

    def _start_over(self) -> None:
        """Nothing received, nothing published."""
        parameters = self._parameters
        self._joints = parameters.joint_names
        self.buffer = ObservationBuffer(parameters, self._now, self._limits, self._publishers_of)
        self.executor = Executor(
            self._joints,
            self._limits,
            MotionSettings.of(parameters),
            self._enable,
            recorded=parameters.recorded_arm,
            check=self._motion_check,
        )
        self.rtc = RealTimeChunking(RtcSettings.of(parameters), self._outputs.rtc)
        self._episode += 1
        self._reset_wanted = True  # every activation begins an episode
        sim_time = bool(self._node.get_parameter("use_sim_time").value)
        summary = "no tick yet; is /clock published?" if sim_time else "ready"
        self.progress = Progress(sim_time, summary)
        self.observed: int | None = None

    def _now(self) -> int:
        return self._clock.now().nanoseconds

    def _publishers_of(self, topic: str) -> list[str]:
        return publishers(self._node, topic)

    # Activation ---------------------------------------------------------------------------------

    def activate(self) -> None:
        """Subscribe and begin to tick."""
        node, parameters = self._node, self._parameters
        self._start_over()
        self._inputs = InputSubscriptions(
            node,
            parameters,
            self._qos,
            self._on_image,
            self._on_joint_state,
            self._on_instruction,
            self.buffer.reject,
        )
        # Data from before a jump back (a bag that loops) would lie in the future for ever.
        self._jump_handle = self._clock.create_jump_callback(
            JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-FUTURE_TOLERANCE)),
            post_callback=self._on_jump,
        )
        self._tick_timer = node.create_timer(1.0 / parameters.rate_hz, self._on_tick)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._watch_timer = node.create_timer(WATCH_PERIOD, self._on_watch, clock=steady)
        self.active = True

    def deactivate(self) -> None:
        """Unsubscribe and tick no more; a controller finishes the trajectory that it has."""
        if not self.active:
            return
        self.active = False
        self._inputs.close()
        self._jump_handle.unregister()
        self._node.destroy_timer(self._tick_timer)
        self._node.destroy_timer(self._watch_timer)

    def close(self, timeout: float) -> None:
        """End the worker, waiting for at most `timeout` seconds, and free the policy."""
        if self.worker.close(timeout):
            self._node.destroy_guard_condition(self._inference_ended)

    def set_parameters(self, parameters: NodeParameters) -> None:
        """Use other values of live parameters from now on."""
        before, self._parameters = self._parameters, parameters
        self.buffer.set_parameters(parameters)
        self.executor.settings = MotionSettings.of(parameters)
        self.rtc.settings = RtcSettings.of(parameters)
        if self.active and parameters.rate_hz != before.rate_hz:
            self._node.destroy_timer(self._tick_timer)
            self._tick_timer = self._node.create_timer(1.0 / parameters.rate_hz, self._on_tick)

    def reset(self) -> None:
        """Begin a new episode: earlier messages no longer count; what executes goes on."""
        self.buffer.clear()
        self.executor.begin_episode()
        self.rtc.drop("episode")
        self._episode += 1
        self._reset_wanted = True
        self.progress.refusal, self.observed = None, None

    def _on_jump(self, jump: TimeJump) -> None:
        self._node.get_logger().warning(
            f"the clock jumped by {jump.delta.nanoseconds / 1e9:.3f} s: images and joint states"
            " from before are dropped"
        )
        self.buffer.clear()
        self.executor.reset()
        self.rtc.drop("clock")

    # Inputs: the executor of ROS serves every subscription that is ready before it serves the guard
    # condition of the worker, so a chunk that is ready is taken between two messages.

    def _on_image(self, camera: str, message: object) -> None:
        self.buffer.put_image(camera, message)
        self.collect()

    def _on_joint_state(self, topic: str, message: object) -> None:
        self.buffer.put_joint_state(message, topic)
        self.collect()

    def _on_instruction(self, text: str) -> None:
        before = self.buffer.instruction
        problem = self._outputs.instruction_problem() or self.buffer.put_instruction(text)
        if problem:
            self._outputs.log.warning("instruction", f"instruction dropped: {problem}")
        elif text != before:
            self._outputs.log.info("new instruction", f"instruction: {text!r}")

    # Ticks --------------------------------------------------------------------------------------

    def _epoch(self) -> tuple[int, int]:
        return self._episode, self.buffer.epoch

    def _on_tick(self) -> None:
        ticked = time.perf_counter()
        self.progress.on_tick()
        self._counts.ticks += 1
        if self.worker.busy:
            self._counts.busy += 1
            return
        now = self._now()
        try:
            snapshot = self.buffer.snapshot(now)
        except Refusal as refusal:
            self._refuse(refusal)
            return
        self._timings.record("image_age", (now - max(snapshot.image_stamps.values())) / 1e9)
        self.observed = snapshot.stamp
        decode = to_rgb if self._parameters.image_transport == "raw" else decompress
        agreement = self.rtc.prepare(
            self.executor.executing,
            snapshot.stamp,
            snapshot.instruction,
            self._parameters.action_dt,
            self.worker.policy,
        )
        self.worker.infer(snapshot, decode, self._reset_wanted, self._epoch(), ticked, agreement)

    def collect(self) -> None:
        """Publish what the worker's inference led to, if it has ended."""
        try:
            inference = self.worker.take()
            if inference is not None:
                self._check(inference)
                self._publish(inference)
        except Refusal as refusal:
            if refusal.__cause__ is not None:
                lines = traceback.format_exception(refusal.__cause__)
                self._node.get_logger().debug("".join(lines))
            self._refuse(refusal)

    def _check(self, inference: Inference) -> None:
        """Raises Refusal: what the policy saw no longer counts, or its array has a wrong shape."""
        if not self.active or inference.epoch != self._epoch():
            raise Refusal(
                Reason.STALE, "the clock jumped or an episode began while the inference ran"
            )
        self._reset_wanted = False
        if self.rtc.outdated(inference.agreement):
            raise Refusal(
                Reason.STALE, "the trajectory that the chunk agrees with was stopped meanwhile"
            )
        check_shape(inference.chunk, self.worker.policy.horizon, len(self._joints))

    def _publish(self, inference: Inference) -> None:
        """Publish a chunk, and the trajectory that it leads to.

        Raises:
            Refusal: it leads to none; the chunk is published as rejected.
        """
        chunk, now = inference.chunk, self._now()
        unserved = self._outputs.commands.unserved() if self._enable.enabled else ""
        if unserved:  # nobody would execute it, so it must not count as executing
            result = Refusal(Reason.UNSERVED, unserved)
        else:
            result = self.executor.update(chunk, self.buffer.measured(now), now)
        if isinstance(result, Plan) and result.trajectory is not None:
            result = self._send(result, now) or result
        if isinstance(result, Refusal):
            self._counts.rejected += result.reason in REJECTIONS
            self.stop_if_needed()
            self._publish_chunk(inference, False, str(result))
            raise result
        self._counts.clamped.update(result.clamped)
        executed = result.trajectory is not None
        if executed:
            self._counts.trajectories += 1
            self.rtc.executed(chunk, result.splice_at, inference.snapshot.instruction)
        overhead = time.perf_counter() - inference.ticked - inference.seconds
        self._publish_chunk(inference, executed, "")
        self._counts.chunks += 1
        self._counts.deadline_misses += inference.seconds > 1 / self._parameters.rate_hz
        stages = {**chunk.stage_times, "inference": inference.seconds, "overhead": overhead}
        for stage, seconds in stages.items():
            self._timings.record(stage, seconds)
        self.progress.on_chunk(executed)

    def _publish_chunk(self, inference: Inference, executed: bool, rejected: str) -> None:
        message = chunk_message(
            inference.chunk,
            inference.snapshot,
            self._joints,
            self._now(),
            executed,
            rejected,
            inference.agreement,
        )
        self._outputs.chunks.publish(message)

    def _send(self, planned: Plan, now: int) -> Refusal | None:
        """Send a trajectory; where that fails a fault latches, and nothing counts as executing."""
        try:
            self._outputs.commands.publish(planned.trajectory, planned.motion, now)
        except Unsent as error:
            self.executor.unsent(error.joints)
            self.rtc.drop("stop")
            self._outputs.on_unsent(error)
            return Refusal(Reason.UNSERVED, str(error))
        return None

    def stop_if_needed(self) -> None:
        """Stop the executing trajectory if motion was disabled, or if no chunk follows it.

        A stop that could not be sent is sent when this is called again, as `_on_watch` does.
        """
        if self.active:
            now = self._now()
            planned = self.executor.tick(self.buffer.measured(now), now)
            if planned is not None and self._send(planned, now) is None:
                self._counts.stops += 1
                self.rtc.drop("stop")
                self._outputs.log.warning("stop", f"decelerating to a stop: {planned.stop_cause}")
        self._outputs.on_disabled()

    def _on_watch(self) -> None:
        # A guard condition that is triggered just as the executor's wait ends may go unheard.
        self.collect()
        self._enable.check_deadman(time.monotonic())
        lost = self._outputs.commands.lost(self._now()) if self._enable.enabled else ""
        if lost:
            self._enable.latch(lost)
        self.stop_if_needed()
        refusal = self.worker.give_up(self._parameters.inference_timeout)
        if refusal is not None:
            self._refuse(refusal)

    # Reports ------------------------------------------------------------------------------------

    def _refuse(self, refusal: Refusal) -> None:
        """Count a refusal and tell it."""
        self._counts.refused[refusal.reason] += 1
        if not self.active:
            return
        if refusal.stream:
            self.buffer.reject(refusal.stream, refusal.reason, refusal.detail)
        self.progress.on_refusal(refusal)
        self._outputs.on_refusal(refusal)

    def streams(self) -> list[StreamStatus]:
        """How the inputs are; none unless active."""
        return self.buffer.statuses(self._now()) if self.active else []

    def tracking(self) -> tuple[float, dict[str, float]] | None:
        """Seconds of the arm's lag, NaN if not known, and the largest tracking error per unit."""
        following = self.executor.following
        return (following.lag, following.errors()) if self.active else None

    def caution(self) -> str:
        """Why an enabled arm would not move at the moment, in a sentence; "" if it would."""
        refused = ""
        refusal = self.progress.refusal
        if refusal is not None:
            refused = f"the last tick was refused ({refusal.reason}): {refusal.detail}"
        return "; ".join(filter(None, (self._outputs.commands.unserved(), refused)))

    def state(self) -> tuple[bool, str]:
        """See `Progress.state`."""
        return self.progress.state(1 / self._parameters.rate_hz, self.worker.busy)
