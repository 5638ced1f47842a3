"""RViz with the cameras, the robot, a ghost that plays the newest chunk, and the tool's path.

    ros2 launch pi0_ros view.launch.py urdf:=my_arm.urdf

It starts pi0_viz, which draws the chunks of pi0 (`viz:=false` where it runs already), and a
robot_state_publisher for the robot (`robot:=false` where one runs already). A second
robot_state_publisher moves the ghost. Convert a xacro file first:
`xacro my_arm.urdf.xacro > my_arm.urdf`.
"""

from pathlib import Path

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchContext, LaunchDescription
from pi0_ros.motion.urdf import UrdfError, parse_urdf

_GHOST = "ghost"
_ARGUMENTS = (
    ("robot", "true", "Start a robot_state_publisher for the robot; false: one runs already."),
    ("viz", "true", "Start pi0_viz; false: it runs already, in the namespace of pi0."),
    ("rviz", "true", "Start RViz; false: only what it needs."),
    (
        "config",
        PathJoinSubstitution([FindPackageShare("pi0_ros"), "config", "pi0.rviz"]),
        "RViz's configuration.",
    ),
    ("node", "/pi0", "Full name of the node pi0."),
    ("tool_frame", "", "Link whose path is drawn; empty: pi0_viz chooses one."),
    ("use_sim_time", "false", "Follow /clock instead of the system's clock."),
    ("front_image", "/front/image_raw", "Topic of the first camera."),
    ("wrist_image", "/wrist/image_raw", "Topic of the second camera."),
    ("joint_states", "/joint_states", "Topic of the robot's joint states."),
    ("robot_description", "/robot_description", "Topic of the robot's URDF."),
)


def _nodes(context: LaunchContext) -> list[Node]:
    path = Path(LaunchConfiguration("urdf").perform(context)).expanduser()
    try:
        text = path.read_text(encoding="utf-8")
        root = parse_urdf(text).root
    except (OSError, UnicodeDecodeError, UrdfError) as error:
        raise RuntimeError(f"urdf:={path}: no URDF can be read from it: {error}") from error
    sim_time = {
        "use_sim_time": ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool)
    }
    description = {"robot_description": ParameterValue(text, value_type=str)}
    node = LaunchConfiguration("node").perform(context)
    namespace = node.rpartition("/")[0]
    viz = f"{namespace}/pi0_viz"

    def state_publisher(namespace: str, joint_states: str, **more: object) -> Node:
        return Node(
            package="robot_state_publisher",
            executable="robot_state_publisher",
            namespace=namespace,
            parameters=[description, sim_time, more.pop("parameters", {})],
            remappings=[("joint_states", joint_states), *more.pop("remappings", [])],
            output="screen",
            **more,
        )

    return [
        state_publisher(
            "",
            LaunchConfiguration("joint_states").perform(context),
            remappings=[("robot_description", LaunchConfiguration("robot_description"))],
            condition=IfCondition(LaunchConfiguration("robot")),
        ),
        state_publisher(
            _GHOST, f"{viz}/preview/joint_states", parameters={"frame_prefix": f"{_GHOST}/"}
        ),
        Node(
            package="pi0_ros",
            executable="pi0_viz",
            name="pi0_viz",
            namespace=namespace,
            parameters=[
                sim_time,
                {"tool_frame": ParameterValue(LaunchConfiguration("tool_frame"), value_type=str)},
            ],
            remappings=[
                ("pi0/action_chunk", f"{node}/action_chunk"),
                ("robot_description", LaunchConfiguration("robot_description")),
            ],
            condition=IfCondition(LaunchConfiguration("viz")),
            output="screen",
        ),
        Node(  # the robot and the ghost stand in the same place
            package="tf2_ros",
            executable="static_transform_publisher",
            name="ghost_base",
            arguments=["--frame-id", root, "--child-frame-id", f"{_GHOST}/{root}"],
            parameters=[sim_time],
        ),
        Node(
            package="rviz2",
            executable="rviz2",
            name="rviz2",
            arguments=["-d", LaunchConfiguration("config"), "-f", root],
            parameters=[sim_time],
            # Topic in the configuration -> topic of this robot.
            remappings=[
                ("/robot_description", LaunchConfiguration("robot_description")),
                ("/front/image_raw", LaunchConfiguration("front_image")),
                ("/wrist/image_raw", LaunchConfiguration("wrist_image")),
                *((f"/pi0_viz/{topic}", f"{viz}/{topic}") for topic in ("markers", "path")),
            ],
            condition=IfCondition(LaunchConfiguration("rviz")),
            output="screen",
        ),
    ]


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            DeclareLaunchArgument("urdf", description="URDF of the robot, a file."),
            *(
                DeclareLaunchArgument(name, default_value=default, description=description)
                for name, default, description in _ARGUMENTS
            ),
            OpaqueFunction(function=_nodes),
        ]
    )
