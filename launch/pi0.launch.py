"""Runs the node pi0 with the transport settings that raw images need, configured and active.

    ros2 launch pi0_ros pi0.launch.py checkpoint:=/data/pi0 params_file:=my_arm.yaml \
        joint_limits:=my_limits.yaml \
        front_image:=/camera/color/image_raw \
        joint_trajectory:=/arm_controller/joint_trajectory

The node publishes no trajectory until it is enabled:

    ros2 service call /pi0/enable std_srvs/srv/SetBool "{data: true}"

With viz:=true the node pi0_viz draws the chunks beside it; see view.launch.py for RViz. A node that
dies ends the launch with status 1 (required:=false: it does not).
"""

from pathlib import Path

from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.substitutions import EnvironmentVariable, LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode, Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from pi0_ros.ros.launching import end_with

# Raw images do not fit Fast DDS's default shared-memory segment. glibc returns the memory of each
# image to the kernel by default; the second limit prevents that. Blocks above the first limit are
# returned, because they would leave holes in the heap. Variables that the user has set stay.
_FASTDDS_PROFILE = PathJoinSubstitution([FindPackageShare("pi0_ros"), "config", "fastdds.xml"])
_ENVIRONMENT = {
    "FASTRTPS_DEFAULT_PROFILES_FILE": _FASTDDS_PROFILE,  # Fast DDS 2: Humble, Jazzy
    "FASTDDS_DEFAULT_PROFILES_FILE": _FASTDDS_PROFILE,  # Fast DDS 3: Kilted, Lyrical
    "MALLOC_MMAP_THRESHOLD_": "16777216",
    "MALLOC_TRIM_THRESHOLD_": "268435456",
}

_ARGUMENTS = (
    ("checkpoint", "", "Directory of the pi0 checkpoint; empty: as in params_file."),
    (
        "params_file",
        PathJoinSubstitution([FindPackageShare("pi0_ros"), "config", "pi0.yaml"]),
        "Parameters of the nodes.",
    ),
    ("joint_limits", "", "ros2_control joint limits or URDF; empty: as in params_file."),
    ("required", "true", "End the launch with the node; false: in the launch of a whole robot."),
    ("autostart", "true", "Configure and activate; false: wait for a lifecycle manager."),
    ("start_enabled", "false", "Publish trajectories at once, without a call of ~/enable."),
    ("namespace", "", "Namespace of the nodes and their relative topics."),
    ("viz", "false", "Also run pi0_viz, which draws the chunks for RViz."),
    ("use_sim_time", "false", "Follow /clock instead of the system's clock."),
    ("front_image", "front/image_raw", "Topic in place of front/image_raw."),
    ("wrist_image", "wrist/image_raw", "Topic in place of wrist/image_raw."),
    ("joint_states", "joint_states", "Topic in place of joint_states."),
    ("instruction", "instruction", "Topic in place of instruction."),
    ("joint_trajectory", "~/joint_trajectory", "Topic in place of ~/joint_trajectory."),
)

# Name in the node -> launch argument and what follows it. Cameras of other names, or topics set by
# camera.<name>.topic in params_file, are not touched.
_REMAPS = {
    "front/image_raw": ("front_image", ""),
    "front/image_raw/compressed": ("front_image", "/compressed"),
    "wrist/image_raw": ("wrist_image", ""),
    "wrist/image_raw/compressed": ("wrist_image", "/compressed"),
    "joint_states": ("joint_states", ""),
    "instruction": ("instruction", ""),
    "~/joint_trajectory": ("joint_trajectory", ""),
}


def _nodes(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    file = Path(LaunchConfiguration("params_file").perform(context)).expanduser()
    if not file.is_file():
        raise RuntimeError(f"params_file:={file}: there is no such file")
    switches = ("use_sim_time", "autostart", "start_enabled")
    values = {name: ParameterValue(LaunchConfiguration(name), value_type=bool) for name in switches}
    for name in ("checkpoint", "joint_limits"):
        if LaunchConfiguration(name).perform(context):
            values[name] = ParameterValue(LaunchConfiguration(name), value_type=str)
    parameters = [LaunchConfiguration("params_file"), values]
    node = LifecycleNode(
        package="pi0_ros",
        executable="pi0_node",
        name="pi0",
        namespace=LaunchConfiguration("namespace"),
        parameters=parameters,
        remappings=[
            (name, [LaunchConfiguration(argument), suffix])
            for name, (argument, suffix) in _REMAPS.items()
        ],
        output="screen",
    )
    required = LaunchConfiguration("required").perform(context).lower() in ("true", "1")
    return [
        *([end_with(node, "pi0_node")] if required else []),
        node,
        Node(
            package="pi0_ros",
            executable="pi0_viz",
            name="pi0_viz",
            namespace=LaunchConfiguration("namespace"),
            parameters=[
                LaunchConfiguration("params_file"),
                {"use_sim_time": values["use_sim_time"]},
            ],
            condition=IfCondition(LaunchConfiguration("viz")),
            output="screen",
        ),
    ]


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=description)
                for name, default, description in _ARGUMENTS
            ),
            *(
                SetEnvironmentVariable(name, EnvironmentVariable(name, default_value=value))
                for name, value in _ENVIRONMENT.items()
            ),
            OpaqueFunction(function=_nodes),
        ]
    )
