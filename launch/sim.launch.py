"""A simulated arm and the small policy that was trained for it: ask, and it touches.

    ros2 launch pi0_ros sim.launch.py window:=true
    ros2 topic pub -1 /instruction std_msgs/String "{data: touch the red cube}"

What can be asked for is in the log, and on the topic /sim/score. The arm moves at once: it hurts
nobody. Every argument of pi0.launch.py can be given too.
"""

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from pi0_ros.ros.launching import end_with
from pi0_ros.sim.task import TOUCH_CHECKPOINT

_SHARE = FindPackageShare("pi0_ros")
# What pi0.launch.py leaves empty and the simulation knows.
_POLICY_ARGUMENTS = (
    ("checkpoint", str(TOUCH_CHECKPOINT), "Directory of the pi0 checkpoint."),
    (
        "params_file",
        PathJoinSubstitution([_SHARE, "config", "touch.yaml"]),
        "Parameters of the node pi0.",
    ),
    (
        "joint_limits",
        PathJoinSubstitution([_SHARE, "config", "so101_limits.yaml"]),
        "ros2_control joint limits or URDF.",
    ),
    ("joint_trajectory", "joint_trajectory", "Topic between the node pi0 and the arm."),
    ("start_enabled", "true", "Move at once, without a call of ~/enable."),
    ("use_sim_time", "false", "Simulated time on /clock instead of the system's clock."),
    ("namespace", "", "Namespace of both nodes and their relative topics."),
)
_SIM_ARGUMENTS = (
    ("seed", "0", "Of the first scene."),
    ("variant", "touch", "Of the task: touch or wrist."),
    ("speed", "1.0", "Simulated per real time, with use_sim_time."),
    ("window", "false", "Show the simulation; needs a display."),
)


def _is_true(context: LaunchContext, name: str) -> bool:
    return LaunchConfiguration(name).perform(context).lower() in ("true", "1")


def _sim(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The simulated robot, with which everything ends."""
    arguments = ["--seed", LaunchConfiguration("seed"), "--variant", LaunchConfiguration("variant")]
    if _is_true(context, "use_sim_time"):
        arguments += ["--clock", "--speed", LaunchConfiguration("speed")]
    if _is_true(context, "window"):
        arguments.append("--window")
    sim = Node(
        package="pi0_ros",
        executable="pi0_sim",
        name="sim",
        namespace=LaunchConfiguration("namespace"),
        arguments=arguments,
        remappings=[("joint_trajectory", LaunchConfiguration("joint_trajectory"))],
        output="screen",
    )
    return [end_with(sim, "the simulation"), sim]


def generate_launch_description() -> LaunchDescription:
    policy = PathJoinSubstitution([_SHARE, "launch", "pi0.launch.py"])
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=description)
                for name, default, description in (*_POLICY_ARGUMENTS, *_SIM_ARGUMENTS)
            ),
            # First, so that its environment variables apply to the publisher of the images too.
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(policy),
                launch_arguments={
                    name: LaunchConfiguration(name) for name, _, _ in _POLICY_ARGUMENTS
                }.items(),
            ),
            OpaqueFunction(function=_sim),
        ]
    )
