"""The node pi0_viz: markers, path and ghost robot of the chunks that the node pi0 publishes.

It runs in a process of its own: whatever it draws takes no time from the control loop, and its best
effort subscription cannot hold up the publisher. It needs the robot's URDF.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from nav_msgs.msg import Path as PathMessage
from rcl_interfaces.msg import IntegerRange, ParameterDescriptor
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from visualization_msgs.msg import MarkerArray

from pi0_ros.collision.check import colliding
from pi0_ros.collision.kinematics import Arm, read_urdf_file
from pi0_ros.motion.urdf import UrdfError
from pi0_ros.msg import ActionChunk
from pi0_ros.ros.subscriptions import LatchedSubscription, subscribe
from pi0_ros.ros.throttle import ThrottledLog, printable
from pi0_ros.share import user_path
from pi0_ros.viz.chunk import EXECUTED, REJECTED, Chunk, ChunkError, read_chunk
from pi0_ros.viz.messages import ghost_message, marker_array, path_message
from pi0_ros.viz.scene import TRAIL, Scene, tool_path

NAME = "pi0_viz"
CHUNKS = "pi0/action_chunk"
DESCRIPTION = "robot_description"

PERIOD = 0.05
"""Seconds between two poses of the ghost, and between two sets of markers at least."""

MARKERS_AT_LEAST = 0.2
"""Seconds between two sets of markers at most: time passes without new chunks too."""

PAUSE = 0.5
"""Seconds for which the ghost rests at the end of a chunk."""

AHEAD = 1.0
"""Seconds by which a chunk's stamp may lie ahead of this node's clock."""

LOG_PERIOD = 5.0
"""Seconds between two log lines with the same text."""

PARAMETERS: dict[str, tuple[str | int, str]] = {
    "robot_description_file": ("", "URDF file of the robot; empty: the topic robot_description."),
    "tool_frame": (
        "",
        "Link whose path is drawn; empty: a link without children at the end of the joints' chain.",
    ),
    "preview_step": (
        -1,
        "Step of the newest chunk at which the ghost stands; -1: the ghost plays the chunk in a"
        " loop. May change while the node runs.",
    ),
}
"""Name -> default and meaning."""

_HINT = (
    "nothing to draw without the robot's URDF: set robot_description_file, or publish it on {}"
    " (robot_state_publisher does)"
)
_NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
# Deep enough for a few chunks that come while one is drawn.
_CHUNKS = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)


class VizNode(Node):
    """Chunks and a URDF in; ~/markers, ~/path and ~/preview/joint_states out.

    Nothing is computed for a topic without subscribers.

    Attributes:
        arm: the robot with the joints of the newest chunk; None until both are known.
        chunk: the newest chunk that was not rejected; None if there is none, or it is over.
    """

    def __init__(self, **options: Any) -> None:
        """Subscribe.

        Args:
            options: go to rclpy's Node.

        Raises:
            UrdfError: robot_description_file cannot be used, or pinocchio is not installed.
        """
        super().__init__(NAME, **options)
        self._declare_parameters()
        self._log = ThrottledLog(self.get_logger(), LOG_PERIOD)
        self._urdf_text = ""
        self._refused: tuple[str, tuple[str, ...]] | None = None  # text and joints
        self.arm: Arm | None = None
        self._forget()
        self._markers = self.create_publisher(MarkerArray, "~/markers", _NEWEST)
        self._path = self.create_publisher(PathMessage, "~/path", _NEWEST)
        self._ghost = self.create_publisher(JointState, "~/preview/joint_states", _NEWEST)
        file = self.get_parameter("robot_description_file").value
        if file:
            self._urdf_text = read_urdf_file(user_path(file))
        else:
            LatchedSubscription(
                self, String, DESCRIPTION, self._on_description, _NEWEST, self._warn
            )
        subscribe(self, ActionChunk, CHUNKS, self._on_chunk, _CHUNKS, self._warn)
        self.create_timer(PERIOD, self._on_timer, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _declare_parameters(self) -> None:
        for name, (default, text) in PARAMETERS.items():
            live = name == "preview_step"
            descriptor = ParameterDescriptor(description=text, read_only=not live)
            if live:
                descriptor.integer_range = [IntegerRange(from_value=-1, to_value=100_000)]
            self.declare_parameter(name, default, descriptor)

    def _now(self) -> int:
        return self.get_clock().now().nanoseconds

    def _warn(self, text: str) -> None:
        """Log, unless the same text was logged just now."""
        self._log.warning(text, printable(text))

    def _forget(self) -> None:
        self._scene = Scene()
        self.chunk: Chunk | None = None
        self._markers_at = 0.0  # steady seconds

    def _watched(self) -> bool:
        return any(map(_viewers, (self._markers, self._path, self._ghost)))

    # The robot ----------------------------------------------------------------------------------

    def _on_description(self, message: String) -> None:
        if message.data != self._urdf_text:
            self._urdf_text, self.arm = message.data, None

    def _arm_with(self, joints: tuple[str, ...]) -> Arm | None:
        """The robot with these joints; None, and a line in the log, if there is none."""
        if self.arm is not None and self.arm.joints == joints:
            return self.arm
        if not self._urdf_text:
            self._warn(_HINT.format(self.resolve_topic_name(DESCRIPTION)))
            return None
        if self._refused == (self._urdf_text, joints):
            return None
        try:
            arm = Arm(self._urdf_text, joints, self.get_parameter("tool_frame").value)
        except UrdfError as error:
            self._refused = self._urdf_text, joints
            self._warn(f"the robot description cannot be used: {error}")
            return None
        self._forget()
        self.arm, self._refused = arm, None
        self.get_logger().info(
            f"drawing the path of {arm.tool} in {arm.root} (parameter tool_frame: another link)"
        )
        return arm

    # Chunks -------------------------------------------------------------------------------------

    def _on_chunk(self, message: ActionChunk) -> None:
        if not self._watched():
            return
        try:
            chunk = read_chunk(message)
        except ChunkError as error:
            self._warn(f"a chunk cannot be drawn: {error}")
            return
        now = self._now()
        age = (now - chunk.stamp) / 1e9
        if not -AHEAD <= age <= chunk.duration + TRAIL:
            self._warn(
                f"chunks are not drawn while they are {age:.3g} s old by the clock of this node, at"
                f" a duration of {chunk.duration:.3g} s: set use_sim_time as for pi0, or"
                " synchronise the clocks"
            )
            return
        arm = self._arm_with(chunk.joints)
        if arm is None:
            return
        if chunk.verdict == REJECTED:
            places = arm.tool_poses(chunk.finite)[0]
            self._scene.reject(places, chunk.reason, now, self._collision(arm, chunk))
            self._publish_markers(arm, now)
            return
        path = tool_path(arm, chunk, chunk.verdict == EXECUTED)
        self._scene.add(path, now)
        self.chunk = chunk
        if _viewers(self._path):
            self._path.publish(path_message(path, arm.root))
        if time.monotonic() - self._markers_at >= PERIOD:
            self._publish_markers(arm, now)

    def _collision(self, arm: Arm, chunk: Chunk) -> tuple[str, np.ndarray] | None:
        """The links of which the chunk was rejected, and about where they are then."""
        found = colliding(chunk.reason)
        if found is None or not {found[0], found[1]} <= set(arm.urdf.links):
            return None
        first, second, share = found
        rows = len(chunk.finite)
        if not rows:
            return None
        row = chunk.finite[max(min(round(share * rows), rows) - 1, 0)]
        poses = arm.link_poses(dict(zip(arm.joints, row, strict=True)))
        return f"{first} and {second}", np.array([poses[first][0], poses[second][0]])

    def _on_timer(self) -> None:
        arm, chunk = self.arm, self.chunk
        if arm is None or not self._watched():
            return
        now = self._now()
        if chunk is not None:
            # pi0 was deactivated, or the clock jumped: the chunk no longer holds.
            if not -AHEAD <= (now - chunk.stamp) / 1e9 <= chunk.duration + TRAIL:
                self._forget()
            elif _viewers(self._ghost):
                self._publish_ghost(arm, chunk, now)
        if time.monotonic() - self._markers_at >= MARKERS_AT_LEAST:
            self._publish_markers(arm, now)

    # Publishing ---------------------------------------------------------------------------------

    def _publish_markers(self, arm: Arm, now: int) -> None:
        self._markers_at = time.monotonic()
        if _viewers(self._markers):
            message = marker_array(self._scene, arm.root, now)
            if message.markers:
                self._markers.publish(message)

    def _publish_ghost(self, arm: Arm, chunk: Chunk, now: int) -> None:
        steps = len(chunk.positions)
        step = self.get_parameter("preview_step").value
        if step < 0:
            # By steady time, not by each chunk's begin: new chunks come before one is played.
            step = int(time.monotonic() / chunk.dt) % (steps + round(PAUSE / chunk.dt))
        row = chunk.positions[min(step, steps - 1)].tolist()
        values = dict.fromkeys(arm.moving, 0.0) | dict(zip(arm.joints, row, strict=True))
        self._ghost.publish(ghost_message(values, now))


def _viewers(publisher: Any) -> int:
    return publisher.get_subscription_count()
