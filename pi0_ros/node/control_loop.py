"""What runs while the node is active: at each tick an observation, an inference, a chunk.

An image's way: `Inputs` -> `ObservationBuffer` -> `_on_tick` snapshot -> (worker thread) decode and
infer -> `on_outcome` -> `Executor`. All but the worker's part runs in the executor's thread.
"""

from __future__ import annotations

import math
import time
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rclpy.clock import Clock, ClockType, JumpThreshold, TimeJump
from rclpy.duration import Duration

from pi0_ros.motion.executor import Executor, MotionSettings
from pi0_ros.motion.planner import Plan
from pi0_ros.motion.refusal import REJECTIONS, Reason, Refusal
from pi0_ros.node.images import decompress, to_rgb
from pi0_ros.node.inputs import Inputs
from pi0_ros.node.messages import chunk_message, trajectory_message
from pi0_ros.node.observation import ObservationBuffer, Snapshot
from pi0_ros.node.preflight import PolicyLike, check_chunk
from pi0_ros.node.stream_health import FUTURE_TOLERANCE
from pi0_ros.node.worker import Outcome
from pi0_ros.policy.types import ActionChunk
from pi0_ros.serve.process import PolicyProcess

if TYPE_CHECKING:
    from pi0_ros.node.node import Pi0Node

SILENCE = 1.0
"""Seconds of steady time without a chunk that /diagnostics warns after; three periods of the ticks
if that is longer."""

WATCH_PERIOD = 0.02
"""Seconds between two looks at the deadman, the running inference and the running trajectory."""


@dataclass(frozen=True)
class Inference:
    """A chunk and how it came about.

    Attributes:
        epoch: of the streams and the episode when the tick came.
        ticked: time.perf_counter() at the tick.
        seconds: of decoding and inferring.
    """

    epoch: tuple[int, int]
    snapshot: Snapshot
    chunk: ActionChunk
    ticked: float
    seconds: float


class ControlLoop:
    """From activation to deactivation.

    Attributes:
        buffer: the streams.
        executor: makes the trajectories.
    """

    def __init__(self, node: Pi0Node, policy: PolicyLike) -> None:
        """Subscribe and begin to tick."""
        self._node = node
        self._policy = policy
        self.buffer = ObservationBuffer(node.parameters, node.now)
        self.executor = Executor(
            node.parameters.joint_names,
            node.limits,
            MotionSettings.of(node.parameters),
            node.motion_enable,
        )
        self._inputs = Inputs(node, self.buffer)
        self._summary = "no tick yet; is /clock published?" if node.sim_time() else "ready"
        self._episode = node.next_episode()
        self._reset_wanted = True  # every activation begins an episode
        # Steady seconds, since /clock may stand still; being ready counts as a chunk and a tick.
        self._chunk_at = self._tick_at = time.monotonic()
        self._refused_at = -math.inf
        self._refusal: Refusal | None = None
        self._refused_since_report = False

        # Data from before a jump back (a bag that loops) would lie in the future for ever.
        self._jump_handle = node.get_clock().create_jump_callback(
            JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-FUTURE_TOLERANCE)),
            post_callback=self._on_jump,
        )
        self._tick_timer = node.create_timer(1.0 / node.parameters.rate_hz, self._on_tick)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._watch_timer = node.create_timer(WATCH_PERIOD, self._on_watch, clock=steady)

    def close(self) -> None:
        """Unsubscribe and tick no more."""
        self._inputs.close()
        self._jump_handle.unregister()
        self._node.destroy_timer(self._tick_timer)
        self._node.destroy_timer(self._watch_timer)

    def set_rate(self, rate_hz: float) -> None:
        """Tick at another rate from now on."""
        self._node.destroy_timer(self._tick_timer)
        self._tick_timer = self._node.create_timer(1.0 / rate_hz, self._on_tick)

    def reset(self) -> None:
        """Begin a new episode: what was seen before no longer counts; what moves goes on."""
        self.buffer.clear()
        self._episode = self._node.next_episode()
        self._reset_wanted = True

    def _on_jump(self, jump: TimeJump) -> None:
        self._node.get_logger().warning(
            f"the clock jumped by {jump.delta.nanoseconds / 1e9:.3f} s: images and joint states"
            " from before are dropped"
        )
        self.buffer.clear()
        self.executor.reset()

    # Ticks --------------------------------------------------------------------------------------

    def _epoch(self) -> tuple[int, int]:
        return self._episode, self.buffer.epoch

    def _on_tick(self) -> None:
        ticked = time.perf_counter()
        node = self._node
        node.counts.ticks += 1
        self._tick_at = time.monotonic()
        if node.worker.busy:
            node.counts.busy += 1
            return
        now = node.now()
        try:
            snapshot = self.buffer.snapshot(now)
        except Refusal as refusal:
            self._refuse(refusal)
            return
        decode = to_rgb if node.parameters.image_transport == "raw" else decompress
        policy, epoch = self._policy, self._epoch()
        node.timings.record("image_age", (now - max(snapshot.image_stamps.values())) / 1e9)
        reset, self._reset_wanted = self._reset_wanted, False

        def infer() -> Inference:
            started = time.perf_counter()
            if reset:
                policy.reset()
            chunk = policy.infer(snapshot.observation(decode))
            return Inference(epoch, snapshot, chunk, ticked, time.perf_counter() - started)

        node.worker.submit(infer)

    def on_outcome(self, outcome: Outcome) -> None:
        """The worker has done what a tick gave to it."""
        try:
            self._publish(self._result(outcome))
        except Refusal as refusal:
            self._refuse(refusal)

    def _result(self, outcome: Outcome) -> Inference:
        """The inference of an outcome.

        Raises:
            Refusal: it failed, or what it saw no longer counts.
        """
        error = outcome.error
        if isinstance(error, Refusal):
            raise error
        if error is not None:
            lines = traceback.format_exception(type(error), error, error.__traceback__)
            self._node.get_logger().debug("".join(lines))
            raise Refusal(Reason.FAILED, f"{type(error).__name__}: {error}") from error
        inference = outcome.value
        if inference.epoch != self._epoch():
            raise Refusal(
                Reason.STALE, "the clock jumped or an episode began while the inference ran"
            )
        try:
            check_chunk(inference.chunk, self._policy, len(self._node.parameters.joints))
        except ValueError as wrong:
            raise Refusal(Reason.FAILED, str(wrong)) from wrong
        return inference

    def _publish(self, inference: Inference) -> None:
        node, chunk, now = self._node, inference.chunk, self._node.now()
        result = self.executor.update(chunk, self.buffer.measured(now), now)
        if isinstance(result, Refusal):
            node.counts.rejected += result.reason in REJECTIONS
            self.stop_if_disabled()
            raise result
        node.counts.clamped.update(result.clamped)
        moved = result.trajectory is not None
        if moved:
            self._send(result)
            node.counts.trajectories += 1
        overhead = time.perf_counter() - inference.ticked - inference.seconds
        joints = node.parameters.joint_names
        node.chunks.publish(chunk_message(chunk, inference.snapshot, joints, node.now()))
        node.counts.chunks += 1
        node.counts.deadline_misses += inference.seconds > 1 / node.parameters.rate_hz
        stages = {**chunk.stage_times, "inference": inference.seconds, "overhead": overhead}
        for stage, seconds in stages.items():
            node.timings.record(stage, seconds)
        self._chunk_at, self._refusal = time.monotonic(), None
        self._summary = "publishing" if moved else "publishing chunks only: not enabled (dry run)"

    def stop_if_disabled(self) -> None:
        """Stop the executing trajectory if motion was disabled, or if no chunk follows it."""
        node, now = self._node, self._node.now()
        planned = self.executor.tick(self.buffer.measured(now), now)
        node.controls.tell_if_disabled()
        if planned is not None:
            self._send(planned)
            node.counts.stops += 1
            node.log_throttled("stop", f"slowing down to a stop: {planned.stop_cause}")

    def _send(self, planned: Plan) -> None:
        node = self._node
        message = trajectory_message(planned.trajectory, node.parameters.joint_names)
        node.trajectories.publish(message)

    def _on_watch(self) -> None:
        # A guard condition that is triggered just as the executor's wait ends may go unheard.
        self._node.collect()
        node = self._node
        node.motion_enable.check_deadman(time.monotonic())
        self.stop_if_disabled()
        running_for, limit = node.worker.running_for(), node.parameters.inference_timeout
        if running_for is None or running_for <= limit:
            return
        # A process that starts again takes as long as loading does, and reports failure itself.
        remote = self._policy if isinstance(self._policy, PolicyProcess) else None
        if (remote is None or not remote.loading) and node.worker.abandon():
            self._refuse(
                Refusal(Reason.TIMEOUT, f"the inference runs for {running_for:.1f} s; given up")
            )
            if remote is not None:
                remote.kill()  # it begins anew with the next tick

    # Reports ------------------------------------------------------------------------------------

    def _refuse(self, refusal: Refusal) -> None:
        """Count a refusal, tell /diagnostics at once and the log now and then."""
        if refusal.stream:
            self.buffer.blame(refusal.stream, refusal.reason, refusal.detail)
        self._refusal = refusal
        self._node.counts.refused[refusal.reason] += 1
        self._refused_since_report = True
        self._refused_at = time.monotonic()
        self._summary = f"refused ({refusal.reason}): {refusal.detail}"
        self._node.report_refusal(refusal)

    def reported(self) -> None:
        """The report of this second is out."""
        self._refused_since_report = False

    @property
    def refusal(self) -> Refusal | None:
        """Of the last tick; None when a chunk came since."""
        return self._refusal

    def state(self) -> tuple[bool, str]:
        """Whether chunks come as they should, and the state in a sentence."""
        silence = self._silence()
        refused = self._refused_since_report or self._refused_at > self._chunk_at
        return not refused and not silence, silence or self._summary

    def _silence(self) -> str:
        """Why no chunk came for long, in a sentence; "" while chunks come."""
        now = time.monotonic()
        limit = max(SILENCE, 3 / self._node.parameters.rate_hz)
        if now - self._chunk_at <= limit:
            return ""
        if self._refused_since_report:
            return self._summary
        if self._node.worker.busy:
            cause = "the inference is still running"
        elif now - self._tick_at > limit:
            cause = "no tick: is /clock published?" if self._node.sim_time() else "no tick"
        elif self._refused_at > self._chunk_at:
            return self._summary
        else:
            cause = "waiting for the next tick"
        return f"no chunk for {now - self._chunk_at:.1f} s: {cause}"
