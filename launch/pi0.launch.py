"""Runs the node with the transport settings that raw images need, configured and active.

    ros2 launch pi0_ros pi0.launch.py checkpoint:=/data/pi0 params_file:=my_arm.yaml \
        joint_limits:=my_limits.yaml \
        front_image:=/camera/color/image_raw \
        joint_trajectory:=/arm_controller/joint_trajectory

No trajectory goes out until somebody says so:

    ros2 service call /pi0/enable std_srvs/srv/SetBool "{data: true}"
"""

from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import EnvironmentVariable, LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchContext, LaunchDescription

# Raw images do not fit Fast DDS's default shared-memory segment, and glibc hands the memory of each
# one back to the kernel unless told not to; blocks above the first limit it should hand back, for
# they would tear holes into its heap. What the user has set already stays.
_FASTDDS_PROFILE = PathJoinSubstitution([FindPackageShare("pi0_ros"), "config", "fastdds.xml"])
_ENVIRONMENT = {
    "FASTRTPS_DEFAULT_PROFILES_FILE": _FASTDDS_PROFILE,  # Fast DDS 2: Humble, Jazzy
    "FASTDDS_DEFAULT_PROFILES_FILE": _FASTDDS_PROFILE,  # Fast DDS 3: Kilted
    "MALLOC_MMAP_THRESHOLD_": "16777216",
    "MALLOC_TRIM_THRESHOLD_": "268435456",
}

_ARGUMENTS = (
    ("checkpoint", "", "Directory of the pi0 checkpoint; empty: as in params_file."),
    (
        "params_file",
        PathJoinSubstitution([FindPackageShare("pi0_ros"), "config", "pi0.yaml"]),
        "Parameters of the node.",
    ),
    ("joint_limits", "", "ros2_control joint limits or URDF; empty: as in params_file."),
    ("autostart", "true", "Configure and activate; false: wait for a lifecycle manager."),
    ("start_enabled", "false", "Publish trajectories at once, without a call of ~/enable."),
    ("namespace", "", "Namespace of the node and its relative topics."),
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


def _node(context: LaunchContext) -> list[LifecycleNode]:
    switches = ("use_sim_time", "autostart", "start_enabled")
    values = {name: ParameterValue(LaunchConfiguration(name), value_type=bool) for name in switches}
    for name in ("checkpoint", "joint_limits"):
        if LaunchConfiguration(name).perform(context):
            values[name] = ParameterValue(LaunchConfiguration(name), value_type=str)
    parameters = [LaunchConfiguration("params_file"), values]
    return [
        LifecycleNode(
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
            OpaqueFunction(function=_node),
        ]
    )
