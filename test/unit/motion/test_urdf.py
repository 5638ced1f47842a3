"""Reading URDFs, and the errors of those that cannot be used."""

import pytest
from support.arm_urdf import arm_urdf
from support.harness import JOINTS

from pi0_ros.motion.urdf import MOST_LINKS, UrdfError, joint_problems, parse_urdf, tool_link

CHAIN = "".join(
    f'<link name="l{i}"/><joint name="j{i}" type="fixed"><parent link="l{i}"/>'
    f'<child link="l{i + 1}"/></joint>'
    for i in range(MOST_LINKS)
)


def test_names():
    urdf = parse_urdf(arm_urdf(extra='<ros2_control><joint name="pan"/></ros2_control>'))
    assert urdf.root == "base"
    assert [joint.name for joint in urdf.way_to("tool")] == ["tool_joint", "lift", "pan"]
    assert joint_problems(urdf, JOINTS) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no XML"),
        ("<robot>", "no XML"),
        ("solid cube", "no XML"),
        ("<mujoco/>", "expected a URDF (<robot>), the root is <mujoco>"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><robot/>', "document type"),
        ("<robot/>", "no links"),
        ('<robot><link name="a"/><link name="a"/></robot>', "link 'a' is there more than once"),
        ('<robot><link name="a"/><link name="b"/></robot>', "nobody's child, found a, b"),
        (
            '<robot><link name="a"/><joint name="j"><parent link="a"/><child link="b"/></joint>'
            "</robot>",
            "joint j: its child 'b' is no link",
        ),
        (
            '<robot><link name="a"/><link name="b"/><link name="c"/>'
            '<joint name="j"><parent link="b"/><child link="c"/></joint>'
            '<joint name="k"><parent link="c"/><child link="b"/></joint></robot>',
            "form a circle",
        ),
        (f'<robot>{CHAIN}<link name="l{MOST_LINKS}"/></robot>', f"{MOST_LINKS + 1} links"),
    ],
)
def test_what_is_no_robot(text, says):
    with pytest.raises(UrdfError) as caught:
        parse_urdf(text)
    assert says in str(caught.value)


def test_joints_of_another_robot():
    (problem,) = joint_problems(parse_urdf(arm_urdf()), ["shoulder", "lift"])
    assert problem == "no joint is called shoulder; those that move: pan, lift, gripper, wheel"
    (problem,) = joint_problems(parse_urdf(arm_urdf()), ["tool_joint"])
    assert problem == "joint tool_joint is of type 'fixed'; expected one that moves by itself"


def test_the_tool_is_at_the_end_of_the_chain():
    urdf = parse_urdf(arm_urdf())
    assert tool_link(urdf, JOINTS) == "tool", "not the finger beside it, nor the wheel"
    assert tool_link(urdf, JOINTS, "finger") == "finger"
    for wanted, says in (("tol", "no link is called 'tol'"), ("wheel_link", "moves wheel_link")):
        with pytest.raises(UrdfError, match=says):
            tool_link(urdf, JOINTS, wanted)
