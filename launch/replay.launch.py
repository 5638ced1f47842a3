"""Plays a bag to the node in the bag's own time; ends with the bag.

    ros2 launch pi0_ros replay.launch.py bag:=/data/run1 checkpoint:=/data/pi0 \
        params_file:=my_arm.yaml

Playing starts when the node says that it is ready, because a checkpoint can take minutes to load.
`pi0 replay` does the same without ros2 and measures what comes out. Every argument of
pi0.launch.py can be given too.
"""

from pathlib import Path

from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.event_handlers import OnProcessIO
from launch.events.process import ProcessIO
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

from launch import LaunchContext, LaunchDescription
from pi0_ros.ros.launching import end_with


def _says_ready(event: ProcessIO) -> bool:
    return event.process_name.startswith("pi0_node") and b"]: ready: " in event.text


def _play(context: LaunchContext) -> list[RegisterEventHandler]:
    """Waits for the node's line, plays the bag once, and ends the launch with it."""
    bag = Path(LaunchConfiguration("bag").perform(context)).expanduser()
    if not bag.exists():
        raise RuntimeError(f"bag:={bag}: there is no such recording")
    command = ["ros2", "bag", "play", LaunchConfiguration("bag"), "--clock", "100"]
    command += ["--rate", LaunchConfiguration("rate")]
    if LaunchConfiguration("loop").perform(context).lower() == "true":
        command.append("--loop")
    player = ExecuteProcess(cmd=command, name="bag_player", output="screen")
    started = []

    def play_when_ready(event: ProcessIO) -> list[ExecuteProcess] | None:
        if started or not _says_ready(event):
            return None
        started.append(True)
        return [player]

    return [
        RegisterEventHandler(OnProcessIO(on_stdout=play_when_ready, on_stderr=play_when_ready)),
        end_with(player, "the bag's player"),
    ]


def generate_launch_description() -> LaunchDescription:
    node = PathJoinSubstitution([FindPackageShare("pi0_ros"), "launch", "pi0.launch.py"])
    return LaunchDescription(
        [
            DeclareLaunchArgument("bag", description="rosbag2 directory to play."),
            DeclareLaunchArgument("rate", default_value="1.0", description="Speed of playing."),
            DeclareLaunchArgument("loop", default_value="false", description="Play for ever."),
            OpaqueFunction(function=_play),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(node),
                launch_arguments={"use_sim_time": "true"}.items(),
            ),
        ]
    )
