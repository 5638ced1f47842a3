"""The command pi0_sim: a simulated SO-101 arm to talk to over ROS."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from pi0_ros.console import add_choice, add_number
from pi0_ros.errors import UserError
from pi0_ros.ros.environment import image_profile
from pi0_ros.ros.running import run_command
from pi0_ros.sim.task import VARIANTS
from pi0_ros.sim.versions import VERSIONS
from pi0_ros.sim.window import Window
from pi0_ros.sim.wiring import WIRINGS

if TYPE_CHECKING:
    from rclpy.executors import Executor

    from pi0_ros.sim.robot import SimNode

DESCRIPTION = """\
Simulates an SO-101 arm at a table with three objects, and two cameras, as the ROS 2 node `sim`. Ask
it to touch an object on the topic instruction; first contacts are counted.

publishes    front/image_raw, wrist/image_raw   sensor_msgs/Image, rgb8 640x480; with --compressed
                                                CompressedImage on .../image_raw/compressed
             joint_states          sensor_msgs/JointState, 100 Hz
             robot_description     std_msgs/String, the URDF
             ~/touched             std_msgs/String: the first object touched after an instruction
             ~/score               std_msgs/String: the tally so far, as JSON
             /clock                rosgraph_msgs/Clock, with --clock
subscribes   joint_trajectory      trajectory_msgs/JointTrajectory, executed as by ros2_control's
                                   joint_trajectory_controller; with --wiring two
                                   arm_controller/joint_trajectory and
                                   gripper_controller/joint_trajectory, with forward-gripper
                                   gripper_controller/commands (std_msgs/Float64MultiArray) instead
                                   of the latter, with forward all joints as Float64MultiArray on
                                   position_controller/commands
             instruction           std_msgs/String, such as "touch the red cube"
services     ~/next_scene          std_srvs/Trigger: other objects, the arm back home
"""

EPILOG = """\
examples:
  pi0_sim --seed 3 --compressed
  pi0_sim --clock --speed 4 --ros-args -r joint_trajectory:=pi0/joint_trajectory
  ros2 launch pi0_ros sim.launch.py                  with the trained policy
  ros2 topic pub -1 /instruction std_msgs/String '{data: touch the red cube}'

Raw images do not fit the shared memory that Fast DDS takes by default, so it gets this package's
config/fastdds.xml, unless FASTRTPS_DEFAULT_PROFILES_FILE or FASTDDS_DEFAULT_PROFILES_FILE (Kilted)
is set.

SIGINT, SIGTERM and closing the window end it with status 0."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the simulated robot until a signal ends it.

    Args:
        argv: arguments after the program's name; default: the process's own.

    Returns:
        The process's exit status.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    split = arguments.index("--ros-args") if "--ros-args" in arguments else len(arguments)
    parser = _parser()
    args = parser.parse_args(arguments[:split])
    if args.speed != 1 and not args.clock:
        parser.error("--speed needs --clock: without simulated time the robot's time is real")
    return run_command("pi0_sim", lambda: _run(args, arguments[split:]), "mujoco")


def _run(args: argparse.Namespace, ros_arguments: list[str]) -> None:
    from rclpy.executors import SingleThreadedExecutor

    from pi0_ros.ros.running import ros
    from pi0_ros.sim.robot import Options, SimNode

    os.environ.update(image_profile(os.environ))
    node = window = None
    with ros(ros_arguments):
        try:
            executor = SingleThreadedExecutor()  # before the node: a signal may come any time
            names = Options.__dataclass_fields__
            node = SimNode(Options(**{name: getattr(args, name) for name in names}))
            window = Window(node.world) if args.window else None
            _spin(executor, node, window)
        except ValueError as error:
            raise UserError(str(error)) from error
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the end is short
            if window is not None:
                window.close()
            if node is not None:
                node.close()
                node.destroy_node()


def _spin(executor: Executor, node: SimNode, window: Window | None) -> None:
    """Until ROS is shut down or the window closed."""
    import rclpy

    executor.add_node(node)
    while rclpy.ok():
        executor.spin_once(timeout_sec=node.wait())
        node.advance()
        if window is not None and not window.show():
            return


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pi0_sim",
        usage="%(prog)s [options] [--ros-args [-r FROM:=TO] ...]",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    flag = partial(parser.add_argument, action="store_true")
    add_number(parser, "--seed", "N", int, 0, "of the first scene")
    add_choice(parser, "--variant", VARIANTS, "of the task")
    add_number(parser, "--camera-hz", "HZ", float, 25.0, "of each camera")
    flag("--compressed", help="JPEG images instead of raw ones")
    flag("--clock", help="simulated time, published on /clock")
    add_number(parser, "--speed", "F", float, 1.0, "simulated per real time, with --clock")
    text = "version of joint_trajectory_controller"
    add_choice(parser, "--controller", VERSIONS, text, "jazzy")
    text = "new trajectories begin at the last command, not at the measured state"
    flag("--from-desired", help=f"{text} (interpolate_from_desired_state)")
    add_choice(parser, "--wiring", WIRINGS, "which controllers there are; one has all joints")
    flag("--window", help="show it; needs a display")
    return parser


if __name__ == "__main__":
    sys.exit(main())
