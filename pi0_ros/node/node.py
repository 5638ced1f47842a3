"""The node: it wires streams, policy and publishers together; the work is done elsewhere.

An image's way: `_on_image` buffer -> `_on_tick` snapshot -> (worker thread) decode and infer ->
`_on_outcome` plan and publish. All but the worker's part runs in the executor's thread.
"""

from __future__ import annotations

import math
import time
import traceback
from functools import partial
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType, JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.task import Future
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from pi0_ros.msg import ActionChunk as ActionChunkMessage
from pi0_ros.node.contract import (
    LoadError,
    LoadPolicy,
    PolicyLike,
    check_chunk,
    load_policy,
)
from pi0_ros.node.diagnostics import Counts, diagnostics_message
from pi0_ros.node.images import decompress, to_rgb
from pi0_ros.node.inference import Outcome, Worker
from pi0_ros.node.observe import FUTURE_TOLERANCE, ObservationBuffer, Snapshot
from pi0_ros.node.parameters import build, declare, given_values, resolve, unknown_names
from pi0_ros.node.profiling import ProfileAnswer, profile
from pi0_ros.node.refusal import Refusal
from pi0_ros.node.trajectory import chunk_message, plan, trajectory_message
from pi0_ros.policy.types import ActionChunk

LOG_PERIOD = 2.0
"""Seconds between two log lines about the same reason."""

SILENCE = 1.0
"""Seconds of steady time without a chunk that /diagnostics warns after; three periods of the ticks
if that is longer."""

# Newest message only, and whatever reliability the publisher offers.
_NEWEST_IMAGE = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
# Deeper, because messages about other robots' joints may lie between two of ours.
_JOINT_STATES = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
_NEWEST_RELIABLE = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
_LATCHED = QoSProfile(
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)


class Pi0Node(Node):
    """Cameras, joint states and an instruction in; JointTrajectory chunks out.

    The policy is loaded by the worker thread, so that signals and parameter services are answered
    meanwhile; streams are subscribed to once it is ready. What goes wrong while loading is raised
    in the executor's thread, out of `spin`.
    """

    def __init__(self, load: LoadPolicy = load_policy, **options: Any) -> None:
        """`options` go to rclpy.node.Node.

        Raises:
            ParameterError: lists every unusable parameter.
        """
        super().__init__("pi0", **options)
        given = given_values(self)
        values = resolve(given)
        declare(self, values)
        self.parameters = build(values)
        for name in unknown_names(values, given):
            self.get_logger().warning(f"parameter {name}: this node has none of that name; ignored")

        self.counts = Counts()
        self._buffer = ObservationBuffer(self.parameters)
        self._policy: PolicyLike | None = None
        self._latched_instruction: Any = None
        self._profile_answer: Future | None = None
        self._epoch = 0
        self._summary = "loading the checkpoint"
        self._job = ""
        self._refused_since_report = False
        # Steady seconds, since /clock may stand still; being ready counts as a chunk and a tick.
        self._chunk_at = self._tick_at = time.monotonic()
        self._refused_at = -math.inf
        self._logged_at: dict[str, float] = {}

        self._trajectories = self.create_publisher(
            JointTrajectory, "~/joint_trajectory", _NEWEST_RELIABLE
        )
        self._chunks = self.create_publisher(ActionChunkMessage, "~/action_chunk", _NEWEST_RELIABLE)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(1.0, self._on_second, clock=steady)

        outcome_ready = self.create_guard_condition(self._on_outcome)
        self._worker = Worker(outcome_ready.trigger)
        self.get_logger().info(f"loading {self.parameters.checkpoint}")
        self._worker.submit(partial(load, self.parameters))

    def stop(self, timeout: float) -> bool:
        """End the worker thread; False if it is still busy after `timeout` seconds."""
        return self._worker.stop(timeout)

    # Streams ------------------------------------------------------------------------------------

    def _start(self, policy: PolicyLike) -> None:
        """Subscribe and begin to tick."""
        parameters = self.parameters
        self._policy = policy
        image_type = Image if parameters.image_transport == "raw" else CompressedImage
        for camera in parameters.cameras:
            self.create_subscription(
                image_type,
                camera.topic,
                partial(self._buffer.put_image, camera.name),
                _NEWEST_IMAGE,
            )
        self.create_subscription(
            JointState, parameters.joint_states_topic, self._buffer.put_joint_state, _JOINT_STATES
        )
        self.create_subscription(String, "instruction", self._on_instruction, _NEWEST_RELIABLE)
        # A group of its own: a callback that waits would hold up all others of its group.
        group = MutuallyExclusiveCallbackGroup()
        self.create_service(Trigger, "~/profile", self._on_profile, callback_group=group)
        # Data from before a jump back (a bag that loops) would lie in the future for ever.
        self._jump_handle = self.get_clock().create_jump_callback(
            JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-FUTURE_TOLERANCE)),
            post_callback=self._on_jump,
        )
        self.create_timer(1.0 / parameters.rate_hz, self._on_tick)
        self._chunk_at = self._tick_at = time.monotonic()
        self._summary = "no tick yet; is /clock published?" if self._sim_time() else "ready"
        self.get_logger().info(
            f"ready: {parameters.rate_hz:g} Hz, {policy.horizon} steps of"
            f" {parameters.action_dt:g} s, cameras {list(parameters.camera_names)},"
            f" joints {list(parameters.joint_names)}"
        )

    async def _on_profile(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Profile at the next free tick; no chunk is published until it is done."""
        if self._profile_answer is not None:
            response.message = "a profile is being made already"
            return response
        self._profile_answer = Future()
        answer = await self._profile_answer
        self._profile_answer = None
        response.success, response.message = answer.success, answer.text
        return response

    def _profile_wanted(self) -> bool:
        return self._profile_answer is not None and not self._profile_answer.done()

    def _on_instruction(self, message: String) -> None:
        if message.data != self._buffer.instruction:
            self.get_logger().info(f"instruction: {message.data!r}")
        self._buffer.instruction = message.data

    def _subscribe_latched_instruction(self) -> None:
        """Also fetch what was published before this node was ready, where a publisher keeps it.

        A volatile subscription hears every publisher but no past message, a transient-local one
        hears past messages but no volatile publisher; so the second joins the first once such a
        publisher is seen. A message that arrives by both sets the same instruction twice.
        """
        if self._latched_instruction is None and any(
            publisher.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
            for publisher in self.get_publishers_info_by_topic("instruction")
        ):
            self._latched_instruction = self.create_subscription(
                String, "instruction", self._on_instruction, _LATCHED
            )

    def _on_jump(self, jump: TimeJump) -> None:
        self.get_logger().warning(
            f"the clock jumped by {jump.delta.nanoseconds / 1e9:.3f} s: images and joint states"
            " from before are dropped"
        )
        self._buffer.clear()
        self._epoch += 1

    def _sim_time(self) -> bool:
        return bool(self.get_parameter("use_sim_time").value)

    # Ticks --------------------------------------------------------------------------------------

    def _now(self) -> int:
        return self.get_clock().now().nanoseconds

    def _on_tick(self) -> None:
        self.counts.ticks += 1
        self._tick_at = time.monotonic()
        if self._worker.busy:
            self.counts.busy += 1
            return
        try:
            snapshot = self._buffer.snapshot(self._now())
        except Refusal as refusal:
            self._refuse(refusal)
            if self._profile_wanted():
                text = f"there is no observation to profile with: {refusal}"
                self._profile_answer.set_result(ProfileAnswer(False, text))
            return
        decode = to_rgb if self.parameters.image_transport == "raw" else decompress
        policy, epoch = self._policy, self._epoch
        if self._profile_wanted():
            directory = self.parameters.profile_dir
            self._job = "a profile is being made"
            self._worker.submit(partial(profile, policy, snapshot, decode, directory))
            return

        def infer() -> tuple[int, Snapshot, ActionChunk]:
            return epoch, snapshot, policy.infer(snapshot.observation(decode))

        self._job = "the inference is still running"
        self._worker.submit(infer)

    def _on_outcome(self) -> None:
        outcome = self._worker.take()
        if outcome is None:
            return
        if self._policy is None:
            if outcome.error is not None:
                self._log_traceback(outcome.error)
                raise LoadError(self.parameters.checkpoint, outcome.error) from outcome.error
            self._start(outcome.value)
            return
        if isinstance(outcome.value, ProfileAnswer):
            self._profile_answer.set_result(outcome.value)
            return
        try:
            self._publish(*self._result(outcome))
        except Refusal as refusal:
            self._refuse(refusal)

    def _result(self, outcome: Outcome) -> tuple[Snapshot, ActionChunk]:
        """The chunk of an outcome.

        Raises:
            Refusal: the inference failed, or the clock jumped while it ran.
        """
        error = outcome.error
        if isinstance(error, Refusal):
            raise error
        if error is not None:
            self._log_traceback(error)
            raise Refusal("failed", f"{type(error).__name__}: {error}") from error
        epoch, snapshot, chunk = outcome.value
        if epoch != self._epoch:
            raise Refusal("stale", "the clock jumped back while the inference ran")
        try:
            check_chunk(chunk, self._policy, len(self.parameters.joints))
        except ValueError as wrong:
            raise Refusal("failed", str(wrong)) from wrong
        return snapshot, chunk

    def _publish(self, snapshot: Snapshot, chunk: ActionChunk) -> None:
        joints = self.parameters.joint_names
        now = self._now()
        trajectory = plan(chunk, self.parameters.trajectory_start, now)
        self._trajectories.publish(trajectory_message(trajectory, joints))
        self._chunks.publish(chunk_message(chunk, snapshot, joints, now))
        self.counts.chunks += 1
        self._chunk_at = time.monotonic()
        self._summary = "publishing"

    # Reports ------------------------------------------------------------------------------------

    def _refuse(self, refusal: Refusal) -> None:
        """Count a refusal, tell /diagnostics at once and the log now and then."""
        reason = refusal.reason
        self.counts.refused[reason] += 1
        self._refused_since_report = True
        self._refused_at = time.monotonic()
        self._summary = f"refused ({reason}): {refusal.detail}"
        self._report()
        if time.monotonic() - self._logged_at.get(reason, -LOG_PERIOD) >= LOG_PERIOD:
            self._logged_at[reason] = time.monotonic()
            count = self.counts.refused[reason]
            self.get_logger().warning(f"nothing published, {reason} ({count}x): {refusal.detail}")

    def _log_traceback(self, error: BaseException) -> None:
        lines = traceback.format_exception(type(error), error, error.__traceback__)
        self.get_logger().debug("".join(lines))

    def _on_second(self) -> None:
        if self._policy is not None:
            self._subscribe_latched_instruction()
        self._report()
        self._refused_since_report = False

    def _report(self) -> None:
        silence = self._silence()
        refused = self._refused_since_report or self._refused_at > self._chunk_at
        ok = self._policy is not None and not refused and not silence
        stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(
            diagnostics_message(self.get_name(), stamp, self.counts, ok, silence or self._summary)
        )

    def _silence(self) -> str:
        """Why no chunk came for long, in a sentence; "" while chunks come or none is due."""
        if self._policy is None:
            return ""
        now = time.monotonic()
        limit = max(SILENCE, 3 / self.parameters.rate_hz)
        if now - self._chunk_at <= limit:
            return ""
        if self._refused_since_report:
            return self._summary
        if self._worker.busy:
            cause = self._job
        elif now - self._tick_at > limit:
            cause = "no tick: is /clock published?" if self._sim_time() else "no tick"
        elif self._refused_at > self._chunk_at:
            return self._summary
        else:
            cause = "waiting for the next tick"
        return f"no chunk for {now - self._chunk_at:.1f} s: {cause}"
