"""How a user's parameters and ROS arguments become topics; needs ROS."""

import pytest

pytest.importorskip("rclpy", reason="ROS is not installed")

from pi0_ros.bags.bag import NeededTopic
from pi0_ros.replay.environment import environment, free_domain
from pi0_ros.replay.interface import InterfaceError, resolve_interface

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED = "sensor_msgs/msg/CompressedImage"


@pytest.fixture(autouse=True)
def loopback():
    variables = {
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "ROS_DOMAIN_ID": str(free_domain()),
    }
    with environment(variables):
        yield


def names(ros_args: list[str]) -> dict[str, str]:
    """Topic -> message type."""
    interface = resolve_interface([*ros_args, "-p", "checkpoint:=/c"])
    return {need.name: need.type for need in interface.needed}


def test_topics_follow_from_the_defaults(params):
    interface = resolve_interface(["--params-file", str(params), "-p", "checkpoint:=/c"])
    assert interface.name == "/pi0"
    assert interface.outputs == {
        "joint_trajectory": "/pi0/joint_trajectory",
        "action_chunk": "/pi0/action_chunk",
        "diagnostics": "/diagnostics",
    }
    assert interface.output_types["/pi0/action_chunk"] == "pi0_ros/msg/ActionChunk"
    assert [(need.name, need.type, need.required) for need in interface.needed] == [
        ("/front/image_raw", IMAGE, True),
        ("/wrist/image_raw", IMAGE, True),
        ("/joint_states", "sensor_msgs/msg/JointState", True),
        ("/instruction", "std_msgs/msg/String", True),
    ]
    assert isinstance(interface.needed[0], NeededTopic)


def test_files_are_read_by_the_rules_of_ros(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(
        """\
/**:
  ros__parameters:
    cameras: [top, side]
    joints: [a, b]
    delta_joints: []
    joint_states_topic: states
    camera.top.topic: /overview/image
/arm/pi0:
  ros__parameters:
    camera:
      side: {topic: side_view, max_age: 1.0}
other_node:
  ros__parameters:
    cameras: [none]
"""
    )
    arguments = ["--params-file", str(path)]
    assert list(names(arguments))[:3] == ["/overview/image", "/side/image_raw", "/states"]
    namespaced = [*arguments, "-r", "__ns:=/arm", "-r", "states:=/robot/states"]
    assert list(names(namespaced)) == [
        "/overview/image",
        "/arm/side_view",
        "/robot/states",
        "/arm/instruction",
    ]


def test_compressed_images_have_their_own_topics_and_type(params):
    found = names(["--params-file", str(params), "-p", "image_transport:=compressed"])
    assert found["/front/image_raw/compressed"] == COMPRESSED
    assert found["/wrist/image_raw/compressed"] == COMPRESSED


def test_an_instruction_parameter_makes_the_topic_optional(params):
    arguments = ["--params-file", str(params), "-p", "checkpoint:=/c", "-p", "instruction:=pick it"]
    needed = resolve_interface(arguments).needed
    assert [need.required for need in needed if need.name == "/instruction"] == [False]


def test_what_the_node_would_not_take_is_an_error_with_the_reason(params, tmp_path, capfd):
    with pytest.raises(InterfaceError, match="cameras: must be a list"):
        names(["--params-file", str(params), "-p", "cameras:=front"])
    with pytest.raises(InterfaceError, match="joints: empty"):
        names([])
    with pytest.raises(InterfaceError, match=r"no\.yaml"):
        names(["--params-file", str(tmp_path / "no.yaml")])
    broken = tmp_path / "broken.yaml"
    broken.write_text("pi0: [")
    with pytest.raises(InterfaceError, match=r"broken\.yaml"):
        names(["--params-file", str(broken)])
