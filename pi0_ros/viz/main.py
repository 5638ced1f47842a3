"""The command pi0_viz: arguments, the executor, and a clean end."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Sequence

from pi0_ros.errors import UserError
from pi0_ros.ros.running import run_command

DESCRIPTION = """\
Draws the chunks of the node pi0 for RViz, as the ROS 2 node `pi0_viz`: the path of the tool, which
part of it was executed, replaced or rejected, and a ghost robot. It needs pinocchio and the URDF.

subscribes   pi0/action_chunk        pi0_ros/ActionChunk
             robot_description       std_msgs/String, unless robot_description_file is set
publishes    ~/markers               visualization_msgs/MarkerArray
             ~/path                  nav_msgs/Path: the tool's pose at each step
             ~/preview/joint_states  sensor_msgs/JointState of the ghost
"""

EXAMPLES = """\
examples:
  pi0_viz --ros-args -p robot_description_file:=my_arm.urdf
  pi0_viz --ros-args -r pi0/action_chunk:=/left/pi0/action_chunk -p use_sim_time:=true
  ros2 launch pi0_ros view.launch.py urdf:=my_arm.urdf          with RViz

SIGINT and SIGTERM end it with status 0; a URDF file that cannot be used, with status 1."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node until a signal ends it.

    Args:
        argv: arguments after the program's name; default: the process's own.

    Returns:
        The process's exit status.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    return run_command("pi0_viz", lambda: _run(arguments))


def _run(arguments: list[str]) -> None:
    import rclpy
    from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException

    from pi0_ros.ros.running import ros
    from pi0_ros.viz.node import VizNode

    own = arguments[: arguments.index("--ros-args")] if "--ros-args" in arguments else arguments
    _parser().parse_args(own)
    with ros(arguments):
        try:
            node = VizNode()
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            raise UserError(str(error)) from error
        try:
            rclpy.spin(node)
        finally:
            node.destroy_node()


def _parser() -> argparse.ArgumentParser:
    from pi0_ros.viz.node import PARAMETERS

    table = "\n".join(
        f"  {name}\n{textwrap.indent(textwrap.fill(text, 72), ' ' * 6)}"
        for name, (_, text) in PARAMETERS.items()
    )
    return argparse.ArgumentParser(
        prog="pi0_viz",
        usage="%(prog)s [-h] [--ros-args [-p NAME:=VALUE] [-r FROM:=TO] ...]",
        description=DESCRIPTION,
        epilog=f"parameters:\n{table}\n\n{EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
