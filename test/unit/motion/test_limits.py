"""Limits from files: what is read, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pi0_ros.motion.limits import LimitsError, read_limits

ROOT = Path(__file__).parents[3]
LIFT = {
    "has_position_limits": True,
    "min_position": -1.0,
    "max_position": 2,
    "has_velocity_limits": True,
    "max_velocity": 3.0,
    "has_acceleration_limits": True,
    "max_acceleration": 20.0,
}
URDF = """<?xml version="1.0"?>
<robot name="arm">
  <joint name="lift" type="revolute"><axis xyz="0 0 1"/>
    <limit lower="-1.0" upper="2.0" effort="3" velocity="3.5"/></joint>
  <joint name="wheel" type="continuous"><limit effort="3" velocity="8"/></joint>
  <joint name="base" type="fixed"/>
  <transmission name="t"><joint name="lift"><limit velocity="99"/></joint></transmission>
  <ros2_control><joint name="wheel"><limit velocity="99"/></joint></ros2_control>
</robot>
"""


def write(folder: Path, content: object, name: str = "limits.yaml") -> Path:
    path = folder / name
    text = content if isinstance(content, str) else yaml.safe_dump(content)
    path.write_text(text)
    return path


def problems(path: Path | list[Path], *joints: str) -> str:
    with pytest.raises(LimitsError) as caught:
        read_limits([path] if isinstance(path, Path) else path, joints, 5.0)
    assert str(caught.value) == "; ".join(caught.value.problems)
    return "\n".join(caught.value.problems)


@pytest.mark.parametrize(
    "nest",
    [
        lambda limits: {"joint_limits": limits},
        lambda limits: {"/**": {"ros__parameters": {"joint_limits": limits}}},
        lambda limits: {"robot_description_planning": {"joint_limits": limits}},
        lambda limits: {"default_velocity_scaling_factor": 0.1, "joint_limits": limits},
    ],
)
def test_yaml_as_ros2_control_and_moveit_write_it(tmp_path, nest):
    wheel = {"has_position_limits": False, "has_velocity_limits": True, "max_velocity": 9}
    path = write(tmp_path, nest({"lift": LIFT, "wheel": wheel, "other": {}}))
    limits = read_limits([path], ["wheel", "lift"], 5.0)
    assert limits.names == ("wheel", "lift")
    np.testing.assert_array_equal(limits.lower, [-math.inf, -1.0])
    np.testing.assert_array_equal(limits.upper, [math.inf, 2.0])
    np.testing.assert_array_equal(limits.velocity, [9.0, 3.0])
    np.testing.assert_array_equal(limits.acceleration, [5.0, 20.0])
    assert limits.lower.dtype == limits.velocity.dtype == np.float64


def test_tighter_of_two_limits_counts(tmp_path):
    more = {
        "has_deceleration_limits": True,
        "max_deceleration": 8.0,
        "has_soft_limits": True,
        "soft_lower_limit": -0.5,
        "soft_upper_limit": 5.0,
    }
    limits = read_limits([write(tmp_path, {"joint_limits": {"lift": LIFT | more}})], ["lift"], 5.0)
    assert (limits.lower, limits.upper, limits.acceleration) == (-0.5, 2.0, 8.0)


@pytest.mark.parametrize(
    ("said", "lower"),
    [({}, -0.5), ({"has_soft_limits": False}, -1.0), ({"has_soft_limits": 1}, None)],
)
def test_soft_limits_count_unless_the_file_says_that_there_are_none(tmp_path, said, lower):
    lift = LIFT | {"soft_lower_limit": -0.5, "soft_upper_limit": 1.5} | said
    path = write(tmp_path, {"joint_limits": {"lift": lift}})
    if lower is None:
        assert "has_soft_limits must be true or false, got 1" in problems(path, "lift")
    else:
        assert read_limits([path], ["lift"], 5.0).lower == lower


def test_limits_that_are_switched_off_do_not_count(tmp_path):
    off = LIFT | {"has_acceleration_limits": False, "max_acceleration": 0.0}
    limits = read_limits([write(tmp_path, {"joint_limits": {"lift": off}})], ["lift"], 5.0)
    assert limits.acceleration == 5.0
    off = LIFT | {"has_velocity_limits": False}
    assert "velocity limit is needed" in problems(
        write(tmp_path, {"joint_limits": {"lift": off}}), "lift"
    )


def test_everything_that_is_wrong_is_listed(tmp_path):
    declared = {
        "a": LIFT | {"max_position": "deg(90)", "max_velocity": True},
        "b": {"has_velocity_limits": True, "max_velocity": 0.0},
        "c": LIFT | {"min_position": 2.0},
        "d": LIFT | {"max_acceleration": math.nan, "has_velocity_limits": "yes"},
        "e": 7,
        "g": LIFT | {"max_position": 1e300, "max_velocity": "${pi}"},
    }
    found = problems(write(tmp_path, {"joint_limits": declared}), "a", "b", "c", "d", "e", "f", "g")
    for words in (
        "joint a: max_position must be a number, got 'deg(90)'",
        "joint a: max_velocity must be a number, got True",
        "joint b: no position limits. Without them the arm may go anywhere",
        "joint b: the velocity limit must be above 0",
        "joint c: the lower position limit 2 is not below the upper one 2",
        "joint d: max_acceleration must be finite",
        "joint d: has_velocity_limits must be true or false, got 'yes'",
        "joint e: expected a mapping of limits, got 7",
        "joint f has no limits; the file has those of: a, b, c, d, e, g",
        "joint g: max_position must be finite",
        "joint g: max_velocity must be a number, got '${pi}': xacro and launch files fill it in",
    ):
        assert words in found, f"{words}\n---\n{found}"
    assert "has_position_limits: false" not in found


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "expected a mapping"),
        ("[1, 2]", "expected a mapping"),
        ("joint_limits: 3", "expected a mapping"),
        ("a: {joint_limits: {a: {}}}\nb: {joint_limits: {a: {}}}", "joint a is declared twice"),
        ("joint_limits: {a: {}, a: {}}", "limits.yaml: line 1: joint_limits.a is declared twice"),
        ("b: &b {a: {}}\njoint_limits: {a: {}, <<: *b}", "line 2: joint_limits.a is declared"),
        ("joint_limits: {a: {x: 1, x: 1}}", "line 1: joint_limits.a.x is declared twice"),
        ("joint_limits: {a: {max_position: !degrees 90}}", "!degrees is xacro's; write 1.5708"),
        ("joint_limits: {a: {max_position: 0x" + "f" * 500 + "}}", "a number of 502 characters"),
        ("joint_limits: {a: [", "limits.yaml: no YAML"),
        ("joint_limits: {a: !!python/object/apply:os.system [ls]}", "python/object"),
        ("\0", "no YAML"),
        ("&a {self: *a}", "line 1: the alias *a stands for nothing before it"),
        ("[" * 50_000, "deeper than 50 levels"),
    ],
)
def test_files_that_are_none(tmp_path, content, words):
    assert words in problems(write(tmp_path, content), "a")


def test_aliases_are_not_multiplied(tmp_path):
    """Nine levels of ten references each: a billion mappings, if every path were walked."""
    lines = ["a0: &a0 {x: 1}"]
    for level in range(1, 10):
        inner = ", ".join(f"k{i}: *a{level - 1}" for i in range(10))
        lines.append(f"a{level}: &a{level} {{{inner}}}")
    assert "with its aliases written out" in problems(write(tmp_path, "\n".join(lines)), "a")


def test_files_that_cannot_be_read(tmp_path):
    assert "No such file" in problems(tmp_path / "none.yaml", "a")
    assert "Is a directory" in problems(tmp_path, "a")
    large = tmp_path / "large.yaml"
    with large.open("wb") as file:
        file.truncate(2**30)
    assert "larger than" in problems(large, "a")


def test_urdf(tmp_path):
    limits = read_limits([write(tmp_path, URDF, "arm.urdf")], ["wheel", "lift"], 5.0)
    np.testing.assert_array_equal(limits.lower, [-math.inf, -1.0])
    np.testing.assert_array_equal(limits.upper, [math.inf, 2.0])
    np.testing.assert_array_equal(limits.velocity, [8.0, 3.5])
    np.testing.assert_array_equal(limits.acceleration, [5.0, 5.0])


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('velocity="3.5"', "", "joint lift: a velocity limit is needed"),
        ('upper="2.0"', 'upper="${pi}"', "'${pi}' is xacro, which is to be processed first: xacro"),
        ('upper="2.0"', 'upper="inf"', "<limit upper> must be a number, got 'inf'"),
        ('lower="-1.0" upper="2.0"', "", "lower position limit 0 is not below the upper one 0"),
        ('upper="2.0"', 'upper="deg"', "<limit upper> must be a number, got 'deg'"),
        ('"revolute"', '"fixed"', "joint lift: type 'fixed'; expected revolute, prismatic or"),
        ('name="wheel"', 'name="lift"', "joint 'lift' is there more than once"),
        (
            "<joint",
            "<xacro:arm prefix=''/><joint",
            "<xacro:arm> is xacro, which is to be",
        ),
        ('velocity="3.5"/>', 'velocity="3.5"/><limit lower="-9"/>', "<limit> more than once"),
        ("</robot>", "", "no XML"),
        ("<robot", "<mujoco", "expected a URDF (<robot>), the root is <mujoco>"),
        ('name="lift"', 'name="left"', "joint lift has no limits; the file has those of: left"),
    ],
)
def test_urdf_that_does_not_do(tmp_path, old, new, words):
    path = write(tmp_path, URDF.replace(old, new, 1), "arm.urdf")
    assert words in problems(path, "lift")


def test_a_document_type_is_not_read(tmp_path):
    bomb = '<!DOCTYPE robot [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'
    secret = f'<!DOCTYPE robot [<!ENTITY a SYSTEM "file://{tmp_path}/x">]>'
    for declared in (bomb, secret):
        text = URDF.replace("<robot", f"{declared}<robot").replace("2.0", "&b;")
        assert "document type" in problems(write(tmp_path, text, "arm.xml"), "lift")


def test_the_limits_of_the_demo_arm_are_those_of_its_model():
    joints = ["shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper"]
    limits = read_limits([ROOT / "config/so101_limits.yaml"], joints, 5.0)
    model = (ROOT / "pi0_ros/sim/so101.xml").read_text()
    for i, joint in enumerate(joints):
        low, high = (
            model.split(f'<joint name="{joint}"')[1].split('range="')[1].split('"')[0].split()
        )
        assert (limits.lower[i], limits.upper[i]) == (float(low), float(high))
    assert (limits.acceleration > 5.0).all(), "of the file, not the default"


SOFT = '<safety_controller soft_lower_limit="-0.5" soft_upper_limit="{}" k_velocity="1"/></joint>'
COMMANDS = """
  <ros2_control name="h" type="system"><joint name="lift">
    <command_interface name="position"><param name="min">-0.25</param><param name="max"> 9</param>
    </command_interface>
    <command_interface name="velocity"><param name="min">-0.5</param><param name="max">0.75</param>
    </command_interface>
    <param name="max">0.001</param></joint></ros2_control></robot>"""


def of_urdf(folder: Path, old: str, new: str) -> tuple[float, float, float]:
    path = write(folder, URDF.replace(old, new, 1), "arm.urdf")
    limits = read_limits([path], ["lift"], 5.0)
    return float(limits.lower[0]), float(limits.upper[0]), float(limits.velocity[0])


def test_tighter_limits_of_a_urdf_count(tmp_path):
    assert of_urdf(tmp_path, "</joint>", SOFT.format("0.5")) == (-0.5, 0.5, 3.5)
    assert of_urdf(tmp_path, "</joint>", SOFT.format("7")) == (-0.5, 2.0, 3.5)
    assert of_urdf(tmp_path, "</joint>", SOFT.format("")) == (-0.5, 2.0, 3.5), "no value"
    assert of_urdf(tmp_path, "</joint>", '<safety_controller k_velocity="1"/></joint>')[0] == -1.0
    assert of_urdf(tmp_path, "</robot>", COMMANDS) == (-0.25, 2.0, 0.5)
    path = write(tmp_path, URDF.replace("</joint>", SOFT.format("x"), 1), "arm.urdf")
    assert "<safety_controller soft_upper_limit> must be a number, got 'x'" in problems(
        path, "lift"
    )


def moveit(**more: object) -> dict:
    """What MoveIt's setup assistant writes: no positions, and accelerations that are off."""
    one = {"has_velocity_limits": True, "max_velocity": 2.0}
    one |= {"has_acceleration_limits": False, "max_acceleration": 0, **more}
    return {"default_velocity_scaling_factor": 0.1, "joint_limits": {"lift": one, "wheel": one}}


def test_positions_that_a_file_lacks_come_from_the_urdf(tmp_path):
    alone = write(tmp_path, moveit())
    found = problems(alone, "lift")
    assert "joint lift: no position limits" in found and "by the parameter `urdf`" in found
    assert "has_position_limits" not in found
    limits = read_limits([alone, write(tmp_path, URDF, "arm.urdf")], ["lift", "wheel"], 5.0)
    np.testing.assert_array_equal(limits.lower, [-1.0, -math.inf])
    np.testing.assert_array_equal(limits.upper, [2.0, math.inf])
    np.testing.assert_array_equal(limits.velocity, [2.0, 2.0])
    np.testing.assert_array_equal(limits.acceleration, [5.0, 5.0])


def test_of_several_files_the_tightest_limit_counts(tmp_path):
    urdf = write(tmp_path, URDF, "arm.urdf")
    arm = write(tmp_path, moveit(has_position_limits=False), "arm.yaml")
    limits = read_limits([arm, urdf], ["lift"], 5.0)
    assert (limits.lower, limits.upper, limits.velocity) == (-1.0, 2.0, 2.0), "not switched off"
    hand = write(tmp_path, {"joint_limits": {"finger": LIFT}}, "hand.yaml")
    both = read_limits([hand, arm, urdf], ["finger", "lift"], 5.0)
    np.testing.assert_array_equal(both.acceleration, [20.0, 5.0])
    apart = LIFT | {"min_position": 3.0, "max_position": 4.0}
    other = write(tmp_path, {"joint_limits": {"lift": apart}}, "other.yaml")
    assert "other.yaml and arm.urdf: joint lift: the lower position limit 3 is not below" in (
        problems([other, urdf], "lift")
    )
    assert "hand.yaml and arm.urdf: joint neck has no limits; they have those of: finger, lift" in (
        problems([hand, urdf], "neck")
    )


def test_one_file_may_hold_several_mappings(tmp_path):
    parts = {"arm": {"joint_limits": {"lift": LIFT}}, "hand": {"joint_limits": {"finger": LIFT}}}
    assert read_limits([write(tmp_path, parts)], ["finger", "lift"], 5.0).names == (
        "finger",
        "lift",
    )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"min_position": -180, "max_position": 180}, "-180 to 180 rad are 57.3 turns: degrees?"),
        ({"min_position": 0, "max_position": 90}, "0 to 90 rad are 14.3 turns: degrees?"),
        ({"max_velocity": 120}, "joint lift: 120 rad/s: degrees per second?"),
        ({"max_velocity": 20}, "joint lift: 20 rad/s: degrees per second?"),
    ],
)
def test_implausible_limits(tmp_path, changes, says):
    path = write(tmp_path, {"joint_limits": {"lift": LIFT | changes}})
    found = problems(path, "lift")
    assert says in found and "set allow_wide_limits: true" in found
    limits = read_limits([path], ["lift"], 5.0, allow_wide=True)
    assert len(limits.wide) == 1 and says in limits.wide[0]


def test_wide_limits_that_are_plausible(tmp_path):
    """Two turns, as UR's arms have; 2.5, as Fanuc's wrists have."""
    for turns in (2.0, 2.5):
        span = {"min_position": -turns * math.pi, "max_position": turns * math.pi}
        path = write(tmp_path, {"joint_limits": {"lift": LIFT | span | {"max_velocity": 12.0}}})
        assert read_limits([path], ["lift"], 5.0).wide == ()


def test_prismatic_joints_are_metres_and_mimic_joints_are_told(tmp_path):
    finger = (
        '<joint name="{}" type="prismatic"><limit lower="0" upper="{}" velocity="0.2"/>{}</joint>'
    )
    text = finger.format("left", 0.04, "") + finger.format("right", 0.04, '<mimic joint="left"/>')
    path = write(tmp_path, URDF.replace("</robot>", text + "</robot>"), "arm.urdf")
    limits = read_limits([path], ["lift", "left", "right"], 5.0)
    assert limits.units == ("rad", "m", "m") and limits.scaled(0.5, 0.5).units == limits.units
    (remark,) = limits.remarks
    assert remark.startswith("arm.urdf: joint right follows left (<mimic>)")
    path.write_text(URDF.replace("</robot>", finger.format("left", 40, "") + "</robot>"))
    assert "joint left: 40 m between its position limits: millimetres?" in problems(path, "left")


def test_scaling(tmp_path):
    path = write(tmp_path, {"joint_limits": {"lift": LIFT}})
    limits = read_limits([path], ["lift"], 5.0)
    slow = limits.scaled(0.5, 0.1)
    assert (slow.velocity, slow.acceleration) == (1.5, 2.0)
    assert (slow.lower, slow.upper, slow.names) == (-1.0, 2.0, ("lift",))
    assert slow.full is limits and slow.scaled(0.5, 1.0).full is limits and limits.full is limits
    assert limits.velocity == 3.0


VALUES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5))


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(st.sampled_from([*LIFT, "has_soft_limits", "soft_lower_limit"]), VALUES),
    st.booleans(),
)
def test_whatever_the_file_says_limits_are_sound_or_refused(tmp_path_factory, changes, base):
    path = tmp_path_factory.mktemp("limits") / "limits.yaml"
    path.write_text(yaml.safe_dump({"joint_limits": {"lift": (LIFT if base else {}) | changes}}))
    try:
        limits = read_limits([path], ["lift"], 5.0)
    except LimitsError as error:
        assert error.problems and all(isinstance(p, str) and p for p in error.problems)
        return
    assert limits.lower < limits.upper
    assert 0 < limits.velocity < math.inf and 0 < limits.acceleration < math.inf
