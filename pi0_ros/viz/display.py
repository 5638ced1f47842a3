"""Publishes what people look at: ~/markers, ~/path and ~/preview/joint_states.

It needs the robot's URDF: `robot_description_file`, or the topic `robot_description`. Nothing is
computed while nobody subscribes. A chunk is only noted here; what is made of it comes in a callback
of its own, after its trajectory is out.
"""

from __future__ import annotations

import importlib
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from nav_msgs.msg import Path as PathMessage
from rclpy.clock import Clock, ClockType
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from visualization_msgs.msg import MarkerArray

from pi0_ros.motion.refusal import Refusal
from pi0_ros.motion.urdf import UrdfError
from pi0_ros.policy.types import ActionChunk
from pi0_ros.ros.subscriptions import KeptTopic
from pi0_ros.viz.kinematics import Arm, installed, read_arm
from pi0_ros.viz.messages import ghost_message, marker_array, path_message
from pi0_ros.viz.scene import Scene, tool_path

if TYPE_CHECKING:
    from rclpy.publisher import Publisher

    from pi0_ros.node.node import Pi0Node

DESCRIPTION = "robot_description"

PERIOD = 0.05
"""Seconds between two poses of the ghost, and between two sets of markers at least."""

MARKERS_AT_LEAST = 0.2
"""Seconds between two sets of markers at most: time goes on without new chunks too."""

PAUSE = 0.5
"""Seconds for which the ghost rests at the end of a chunk."""

_HINT_AFTER = 3  # seconds without a description until the log says how to give one
_NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)


class Display:
    """From the node's beginning to its end; every method belongs to the executor's thread."""

    def __init__(self, node: Pi0Node) -> None:
        self._node = node
        make = node.create_lifecycle_publisher
        self._markers = make(MarkerArray, "~/markers", _NEWEST)
        self._path = make(PathMessage, "~/path", _NEWEST)
        self._ghost = make(JointState, "~/preview/joint_states", _NEWEST)
        self._arm: Arm | None = None
        self._heard: str | None = None  # a description that was not looked at yet
        self._hint_in: int | None = _HINT_AFTER
        self._description: KeptTopic | None = None
        if not node.parameters.robot_description_file:
            self._description = KeptTopic(
                node, String, DESCRIPTION, self._on_description, self._malformed, depth=1
            )
        self._timer = None
        self._noted = node.create_guard_condition(self._on_noted)
        self.forget()

    def configure(self) -> None:
        """Read the file, or make ready for a description that is heard while the arm moves.

        Raises:
            UrdfError: lists what is wrong with `robot_description_file`.
        """
        p = self._node.parameters
        if p.robot_description_file:
            path = Path(p.robot_description_file).expanduser()
            self._take(read_arm(path, p.joint_names, p.tool_frame))
        elif installed():
            importlib.import_module("pinocchio")  # 0.4 s that would come at a bad time later

    def forget(self) -> None:
        """The clock jumped or the node was deactivated: what was shown no longer holds."""
        self._scene = Scene()
        self._chunk: ActionChunk | None = None
        self._news: list[tuple[ActionChunk, str, bool, Refusal | None]] = []
        self._shown_at = 0.0  # steady seconds

    @property
    def robot(self) -> Arm | None:
        """What the description says; None while there is none."""
        return self._arm

    @property
    def newest(self) -> ActionChunk | None:
        """The chunk that came through last."""
        return self._chunk

    # What happens -------------------------------------------------------------------------------

    def published(self, chunk: ActionChunk, instruction: str, sent: bool) -> None:
        """A chunk came through; `sent` if it went out as a trajectory."""
        self._chunk = chunk
        self._note(chunk, instruction, sent, None)

    def rejected(self, chunk: ActionChunk, refusal: Refusal) -> None:
        """A chunk was refused; shown if it was for what it asks of the arm."""
        if refusal.reason in ("limits", "nonfinite"):
            self._note(chunk, "", False, refusal)

    def _note(
        self, chunk: ActionChunk, instruction: str, sent: bool, refusal: Refusal | None
    ) -> None:
        if self._arm is not None and (_count(self._markers) or _count(self._path)):
            self._news.append((chunk, instruction, sent, refusal))
            self._noted.trigger()

    def look(self) -> None:
        """Look whether somebody looks; to be called once a second."""
        if self._description is not None:
            self._description.look()
        wanted = any(map(_count, (self._markers, self._path, self._ghost)))
        if wanted and self._node.loop is not None:
            self._read_description()
        if wanted != (self._timer is not None):
            if wanted:
                steady = Clock(clock_type=ClockType.STEADY_TIME)
                self._timer = self._node.create_timer(PERIOD, self._on_timer, clock=steady)
            else:
                self._node.destroy_timer(self._timer)
                self._timer = None
                self._scene = Scene()  # it would have a gap when somebody looks again

    # The robot ----------------------------------------------------------------------------------

    def _on_description(self, message: String) -> None:
        if self._arm is None or message.data != self._arm.urdf.text:
            self._heard = message.data

    def _malformed(self, text: str) -> None:
        self._node.log_throttled(DESCRIPTION, f"{DESCRIPTION}: {text}")

    def _read_description(self) -> None:
        node, text = self._node, self._heard
        if text is not None:
            self._heard, self._hint_in = None, None
            try:
                self._take(Arm(text, node.parameters.joint_names, node.parameters.tool_frame))
            except UrdfError as error:
                self._malformed(f"{error}; what was shown before stays")
        elif self._arm is None and self._hint_in is not None:
            self._hint_in -= 1
            if self._hint_in < 0:
                self._hint_in = None
                node.get_logger().info(
                    "nothing to show on ~/markers, ~/path and ~/preview/joint_states without the"
                    " robot's URDF: give robot_description_file, or publish it on"
                    f" {node.resolve_topic_name(DESCRIPTION)} (robot_state_publisher does)"
                )

    def _take(self, arm: Arm) -> None:
        self._arm, self._scene = arm, Scene()
        self._node.get_logger().info(
            f"markers: the path of {arm.tool} in {arm.root} (parameter tool_frame: another link)"
        )

    # Publishing ---------------------------------------------------------------------------------

    def _on_noted(self) -> None:
        news, self._news = self._news, []
        if self._arm is None or self._node.loop is None:
            return
        for chunk, instruction, sent, refusal in news:
            if refusal is None:
                path = tool_path(
                    self._arm,
                    chunk.positions,
                    chunk.stamp,
                    chunk.dt,
                    chunk.sequence,
                    instruction,
                    sent,
                )
                self._scene.add(path, self._node.now())
                if _count(self._path):
                    self._path.publish(path_message(path, self._arm.root))
            else:
                finite = chunk.positions[np.isfinite(chunk.positions).all(axis=1)]
                places, _ = self._arm.tool_poses(finite)
                why = f"{refusal.reason}: {refusal.detail}"
                self._scene.reject(places, why, self._node.now())
        if time.monotonic() - self._shown_at >= PERIOD:
            self._publish_markers()

    def _on_timer(self) -> None:
        if self._arm is None or self._node.loop is None:
            return
        if self._chunk is not None and _count(self._ghost):
            self._publish_ghost(self._arm, self._chunk)
        if time.monotonic() - self._shown_at >= MARKERS_AT_LEAST:
            self._publish_markers()

    def _publish_markers(self) -> None:
        self._shown_at = time.monotonic()
        if not _count(self._markers):
            return
        now = self._node.now()
        message = marker_array(self._scene, self._arm.root, now)
        if message.markers:
            self._markers.publish(message)

    def _publish_ghost(self, arm: Arm, chunk: ActionChunk) -> None:
        last = len(chunk.positions) - 1
        step = self._node.parameters.preview_step
        if step < 0:
            # In steady time, not from each chunk's beginning: a newer one would never let it get
            # beyond the first steps.
            step = int(time.monotonic() / chunk.dt) % (last + 1 + round(PAUSE / chunk.dt))
        row = chunk.positions[min(step, last)].tolist()
        values = dict.fromkeys(arm.moving, 0.0) | dict(zip(arm.joints, row, strict=True))
        self._ghost.publish(ghost_message(values, self._node.now()))


def _count(publisher: Publisher) -> int:
    return publisher.get_subscription_count()
