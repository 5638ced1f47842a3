"""A stand-in for the robot of this example: python examples/own_robot/stand_in.py

It publishes what the drivers of such a robot publish, and moves as its controllers would: a
joint_trajectory_controller for the arm, a forward_command_controller for the gripper. It prints how
far the arm has moved, once a second.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from pi0_ros.ros.environment import image_profile
from pi0_ros.sim.controller import Controller
from pi0_ros.sim.points import Rejected, points_of

ARM = ("joint1", "joint2", "joint3", "joint4", "joint5", "joint6", "joint7")
GRIPPER = ("finger",)
HOME = np.radians([20.0, -45.0, 15.0, -135.0, 10.0, 90.0, 45.0])
LAG = 0.05  # s: how far the arm is behind its command


def main() -> None:
    # Raw images need a larger shared-memory segment than Fast DDS takes by default.
    os.environ.update(image_profile(os.environ))
    import rclpy
    from rclpy.executors import ExternalShutdownException

    rclpy.init()
    node = rclpy.create_node("stand_in")
    robot = Robot(node)
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        print(f"the arm moved {robot.way:.3f} rad in all", flush=True)


class Robot:
    """Attributes:
    way: radians that the arm's joints have moved, summed up.
    """

    def __init__(self, node: Any) -> None:
        from sensor_msgs.msg import Image, JointState
        from std_msgs.msg import Float64MultiArray
        from trajectory_msgs.msg import JointTrajectory

        self._node, self.way = node, 0.0
        self._arm, self._finger = HOME.copy(), 0.02
        self._controller, self._finger_command = Controller(ARM), 0.02
        create = node.create_publisher
        self._states = create(JointState, "/joint_states", 10)
        self._gripper_states = create(JointState, "/gripper/joint_states", 10)
        self._cameras = [
            create(Image, f"/{name}_camera/color/image_raw", 10) for name in ("base", "wrist")
        ]
        node.create_subscription(
            JointTrajectory, "/arm_controller/joint_trajectory", self._on_trajectory, 10
        )
        node.create_subscription(
            Float64MultiArray, "/gripper_controller/commands", self._on_finger, 10
        )
        node.create_timer(0.01, self._move)
        node.create_timer(0.05, self._show)
        node.create_timer(1.0, lambda: print(f"the arm moved {self.way:.3f} rad", flush=True))

    def _on_trajectory(self, message: Any) -> None:
        try:
            self._controller.accept(points_of(message), self._now())
        except Rejected as error:
            print(f"the controller rejects the trajectory: {error}", flush=True)

    def _on_finger(self, message: Any) -> None:
        self._finger_command = message.data[0]

    def _now(self) -> int:
        return self._node.get_clock().now().nanoseconds

    def _move(self) -> None:
        """A cycle of the controllers: the joints follow their commands with a lag."""
        command = self._controller.command(self._now(), self._arm)
        step = (command - self._arm) * (0.01 / LAG)
        self._arm += step
        self._finger += (self._finger_command - self._finger) * (0.01 / LAG)
        self.way += float(np.abs(step).sum())
        self._publish(self._states, ARM, self._arm)
        self._publish(self._gripper_states, GRIPPER, [self._finger])

    def _publish(self, publisher: Any, names: Any, positions: Any) -> None:
        from sensor_msgs.msg import JointState

        message = JointState(name=list(names), position=[float(p) for p in positions])
        message.header.stamp = self._node.get_clock().now().to_msg()
        publisher.publish(message)

    def _show(self) -> None:
        """Noise in place of what the cameras see."""
        from sensor_msgs.msg import Image

        for camera in self._cameras:
            pixels = np.random.default_rng().integers(0, 255, (240, 320, 3), np.uint8)
            message = Image(height=240, width=320, encoding="rgb8", step=320 * 3)
            message.header.stamp = self._node.get_clock().now().to_msg()
            message.data = pixels.tobytes()
            camera.publish(message)


if __name__ == "__main__":
    main()
