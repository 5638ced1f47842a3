"""The command pi0_node: arguments, the executor, and a clean end."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

from pi0_ros.console import DONE
from pi0_ros.errors import UserError
from pi0_ros.node.parameter_table import CAMERA_SPECS, JOINT_SPECS, OUTPUT_SPECS, SPECS, Spec
from pi0_ros.node.parameters import describe
from pi0_ros.ros.running import ros, run_command

STOP_TIMEOUT = 0.5
"""Seconds that an inference may still run once the node is told to end."""

DESCRIPTION = """\
Runs a pi0 checkpoint as the managed ROS 2 node `pi0`: camera images, joint states and an
instruction in, trajectories out. It waits to be configured and activated
(parameter autostart: does so itself), and publishes no trajectory until it is enabled.

subscribes   <camera>/image_raw   sensor_msgs/Image or CompressedImage, one per camera
             joint_states         sensor_msgs/JointState
             instruction          std_msgs/String
             emergency_stop       std_msgs/Bool: true disables at once, until ~/reset
             deadman              std_msgs/Header, if deadman_timeout is set
publishes    ~/joint_trajectory   trajectory_msgs/JointTrajectory, while enabled; or one topic for
                                  each of `outputs`, also as std_msgs/Float64MultiArray
             ~/action_chunk       pi0_ros/ActionChunk
             /diagnostics         diagnostic_msgs/DiagnosticArray
services     ~/enable             std_srvs/SetBool: publish trajectories, or stop and do not
             ~/reset              std_srvs/Trigger: a new episode; clears what disabled the node
             ~/run_policy/start, cancel, status   std_srvs/Trigger: as the action
             ~/change_state ...   lifecycle_msgs
action       ~/run_policy         pi0_ros/RunPolicy: obey an instruction until it succeeds, its time
                                  is up or it is cancelled; enables motion, and brakes at the end
"""

EXAMPLES = """\
examples:
  pi0_node --ros-args --params-file config/demo.yaml -p checkpoint:=/data/pi0 -p autostart:=true
  pi0_node --ros-args --params-file my_arm.yaml -p checkpoint:=/data/pi0 \\
      -p joint_trajectory_topic:=/arm_controller/joint_trajectory \\
      -r front/image_raw:=/camera/color/image_raw
  ros2 launch pi0_ros pi0.launch.py checkpoint:=/data/pi0 params_file:=my_arm.yaml

SIGINT and SIGTERM end the node with status 0, unusable parameters with status 1. A checkpoint that
cannot be used leaves the node unconfigured; the log and /diagnostics say why."""


def main(argv: Sequence[str] | None = None, **stand_ins: Any) -> int:
    """Run the node until a signal ends it.

    Args:
        argv: arguments after the program's name; default: the process's own.
        stand_ins: for the loader, the check and the timings of `pi0_ros.node.node.Pi0Node`.

    Returns:
        The process's exit status.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    own = arguments[: arguments.index("--ros-args")] if "--ros-args" in arguments else arguments
    _parser().parse_args(own)
    return run_command("pi0_node", lambda: _run(arguments, stand_ins), "pi0_ros.action")


def _run(arguments: list[str], stand_ins: dict[str, Any]) -> None:
    import rclpy
    from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

    from pi0_ros.node.node import Pi0Node

    node = None
    with ros(arguments):
        try:
            node = Pi0Node(**stand_ins)
            executor = SingleThreadedExecutor()
            executor.add_node(node)
            while rclpy.ok():
                try:
                    executor.spin_once()
                except ExternalShutdownException:
                    break
                except Exception as error:
                    # A signal may have shut ROS down in the middle of a callback. Anything else is
                    # told and counted, but it does not take the node away from the arm.
                    if rclpy.ok():
                        node.report_error(error)
        except UserError as error:
            raise UserError(f"{error}{_strangers(arguments)}") from error
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the end has a bound of its own
            if node is not None and not node.stop(STOP_TIMEOUT):
                rclpy.try_shutdown()
                # The model cannot be interrupted, and an interpreter that winds down under a thread
                # in native code may crash: leave without it.
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(DONE)
            if node is not None:
                node.destroy_node()


def _strangers(arguments: list[str]) -> str:
    """What the parameter files say for nodes of other names, which rcl does not tell."""
    from pi0_ros.node.arguments import ArgumentsError, read_arguments

    try:
        return read_arguments(arguments[arguments.index("--ros-args") + 1 :]).strangers()
    except (ArgumentsError, ValueError):  # none are given, or some that only rcl reads
        return ""


def _parser() -> argparse.ArgumentParser:
    specs = (*SPECS, *CAMERA_SPECS, *JOINT_SPECS, *OUTPUT_SPECS)
    table = "\n".join(map(_entry, specs))
    return argparse.ArgumentParser(
        prog="pi0_node",
        usage="%(prog)s [-h] [--ros-args [-p NAME:=VALUE] [--params-file FILE] [-r FROM:=TO] ...]",
        description=DESCRIPTION,
        epilog=f"parameters (config/pi0.yaml has them all):\n{table}\n\n{EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _entry(spec: Spec) -> str:
    default = list(spec.default) if isinstance(spec.default, tuple) else spec.default
    shown = "" if default == "" else f" Default: {default}."
    text = textwrap.fill(describe(spec) + shown, 72)
    return f"  {spec.name}\n{textwrap.indent(text, ' ' * 6)}"
