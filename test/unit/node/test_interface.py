"""How a user's parameters and ROS arguments become topics."""

from __future__ import annotations

import pytest

from pi0_ros.node.arguments import ArgumentsError, write_arguments
from pi0_ros.node.interface import node_topics, read_interface

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED = "sensor_msgs/msg/CompressedImage"


def names(ros_args: list[str]) -> dict[str, str]:
    """Topic -> message type."""
    interface = read_interface([*ros_args, "-p", "checkpoint:=/c"])
    return {topic.name: topic.type for topic in interface.observed}


def test_topics_follow_from_the_defaults(params):
    interface = read_interface(["--params-file", str(params), "-p", "checkpoint:=/c"])
    assert interface.name == "/pi0" and not interface.use_sim_time
    sent = {topic.name for topic in node_topics(interface.parameters) if topic.sent}
    assert {interface.absolute(name) for name in sent} >= {
        "/pi0/joint_trajectory",
        "/pi0/action_chunk",
        "/diagnostics",
    }
    assert [(topic.name, topic.type, topic.required) for topic in interface.observed] == [
        ("/front/image_raw", IMAGE, True),
        ("/wrist/image_raw", IMAGE, True),
        ("/joint_states", "sensor_msgs/msg/JointState", True),
        ("/instruction", "std_msgs/msg/String", True),
    ]


def test_files_are_read_by_the_rules_of_ros(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(
        """\
/**:
  ros__parameters:
    cameras: [top, side]
    joints: [a, b]
    delta_joints: []
    joint_states_topics: [states]
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
    observed = read_interface(arguments).observed
    assert [topic.required for topic in observed if topic.name == "/instruction"] == [False]


def test_what_the_node_would_not_take_is_an_error_with_the_reason(params, tmp_path):
    with pytest.raises(ArgumentsError, match="cameras: must be a list"):
        names(["--params-file", str(params), "-p", "cameras:=front"])
    with pytest.raises(ArgumentsError, match="joints: empty"):
        names([])
    with pytest.raises(ArgumentsError, match=r"no\.yaml"):
        names(["--params-file", str(tmp_path / "no.yaml")])
    broken = tmp_path / "broken.yaml"
    broken.write_text("pi0: [")
    with pytest.raises(ArgumentsError, match=r"broken\.yaml"):
        names(["--params-file", str(broken)])


def test_arguments_are_written_as_they_are_read(tmp_path):
    folder = tmp_path / 'it is "2024": é'
    given = {"checkpoint": str(folder), "use_sim_time": True, "rate_hz": 5.0, "joints": ["a", "b"]}
    file = tmp_path / "p.yaml"
    file.write_text("/**:\n  ros__parameters: {cameras: [front], rate_hz: 2.0, action_dt: 0.05}\n")
    interface = read_interface(write_arguments([file], given))
    parameters = interface.parameters
    assert (parameters.checkpoint, parameters.rate_hz) == (str(folder), 5.0)
    assert (parameters.joint_names, parameters.action_dt) == (("a", "b"), 0.05)
    assert interface.use_sim_time
