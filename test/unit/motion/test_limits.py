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


def problems(path: Path, *joints: str) -> str:
    with pytest.raises(LimitsError) as caught:
        read_limits(path, joints, 5.0)
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
    limits = read_limits(path, ["wheel", "lift"], 5.0)
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
    limits = read_limits(write(tmp_path, {"joint_limits": {"lift": LIFT | more}}), ["lift"], 5.0)
    assert (limits.lower, limits.upper, limits.acceleration) == (-0.5, 2.0, 8.0)


def test_limits_that_are_switched_off_do_not_count(tmp_path):
    off = LIFT | {"has_acceleration_limits": False, "max_acceleration": 0.0}
    limits = read_limits(write(tmp_path, {"joint_limits": {"lift": off}}), ["lift"], 5.0)
    assert limits.acceleration == 5.0
    off = LIFT | {"has_velocity_limits": False}
    assert "velocity limit is needed" in problems(
        write(tmp_path, {"joint_limits": {"lift": off}}), "lift"
    )


def test_everything_that_is_wrong_is_listed(tmp_path):
    declared = {
        "a": LIFT | {"max_position": "1e3", "max_velocity": True},
        "b": {"has_velocity_limits": True, "max_velocity": 0.0},
        "c": LIFT | {"min_position": 2.0},
        "d": LIFT | {"max_acceleration": math.nan, "has_velocity_limits": "yes"},
        "e": 7,
        "g": LIFT | {"max_position": 10**400},
    }
    found = problems(write(tmp_path, {"joint_limits": declared}), "a", "b", "c", "d", "e", "f", "g")
    for words in (
        "joint a: max_position must be a number, got '1e3'",
        "joint a: max_velocity must be a number, got True",
        "joint b: min_position and max_position are needed, or has_position_limits: false",
        "joint b: the velocity limit must be above 0",
        "joint c: the lower position limit 2 is not below the upper one 2",
        "joint d: max_acceleration must be finite",
        "joint d: has_velocity_limits must be true or false, got 'yes'",
        "joint e has no limits",
        "joint f has no limits; the file has those of: a, b, c, d, e, g",
        "joint g: max_position must be finite",
    ):
        assert words in found, f"{words}\n---\n{found}"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "expected one mapping"),
        ("[1, 2]", "expected one mapping"),
        ("joint_limits: 3", "expected one mapping"),
        ("a: {joint_limits: {}}\nb: {joint_limits: {}}", "found 2"),
        ("joint_limits: {a: [", "is no YAML"),
        ("joint_limits: {a: !!python/object/apply:os.system [ls]}", "is no YAML"),
        ("\0", "is no YAML"),
        ("&a {self: *a}", "expected one mapping"),
        ("[" * 50_000, "is no YAML"),
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
    assert "found none" in problems(write(tmp_path, "\n".join(lines)), "a")


def test_files_that_cannot_be_read(tmp_path):
    assert "No such file" in problems(tmp_path / "none.yaml", "a")
    assert "Is a directory" in problems(tmp_path, "a")
    large = tmp_path / "large.yaml"
    with large.open("wb") as file:
        file.truncate(2**30)
    assert "larger than" in problems(large, "a")


def test_urdf(tmp_path):
    limits = read_limits(write(tmp_path, URDF, "arm.urdf"), ["wheel", "lift"], 5.0)
    np.testing.assert_array_equal(limits.lower, [-math.inf, -1.0])
    np.testing.assert_array_equal(limits.upper, [math.inf, 2.0])
    np.testing.assert_array_equal(limits.velocity, [8.0, 3.5])
    np.testing.assert_array_equal(limits.acceleration, [5.0, 5.0])


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('velocity="3.5"', "", "joint lift: <limit velocity> must be a number, got None"),
        ('upper="2.0"', 'upper="${pi}"', "<limit upper> must be a number, got '${pi}'"),
        ('upper="2.0"', 'upper="inf"', "<limit upper> must be a number, got 'inf'"),
        ('lower="-1.0" upper="2.0"', "", "lower position limit 0 is not below the upper one 0"),
        ('"revolute"', '"fixed"', "joint lift is of type 'fixed'"),
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
    limits = read_limits(ROOT / "config/so101_limits.yaml", joints, 5.0)
    model = (ROOT / "pi0_ros/sim/so101.xml").read_text()
    for i, joint in enumerate(joints):
        low, high = (
            model.split(f'<joint name="{joint}"')[1].split('range="')[1].split('"')[0].split()
        )
        assert (limits.lower[i], limits.upper[i]) == (float(low), float(high))
    assert (limits.acceleration > 5.0).all(), "of the file, not the default"


def test_scaling(tmp_path):
    path = write(tmp_path, {"joint_limits": {"lift": LIFT}})
    limits = read_limits(path, ["lift"], 5.0)
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
        limits = read_limits(path, ["lift"], 5.0)
    except LimitsError as error:
        assert error.problems and all(isinstance(p, str) and p for p in error.problems)
        return
    assert limits.lower < limits.upper
    assert 0 < limits.velocity < math.inf and 0 < limits.acceleration < math.inf
