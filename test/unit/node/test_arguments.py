"""Parameter files, -p and -r without ROS, compared with rcl where it is installed."""

from pathlib import Path

import pytest

from pi0_ros.node.arguments import ArgumentsError, read_arguments
from pi0_ros.node.interface import read_interface

FILE = """
/**:
  ros__parameters:
    joints: [a, b]
    rate_hz: 1e1
    cameras: []
    instruction: "yes"
    camera:
      front: {topic: x/y}
    seed: 0x10
    blend: .5
pi0:
  ros__parameters: {rate_hz: 5.0, autostart: on, threads: 3}
ns:
  pi0:
    ros__parameters: {rate_hz: 7.0}
/*:
  ros__parameters: {threads: 5, max_skew: 0.3}
/**/pi0:
  ros__parameters: {starve_timeout: 0.7}
other:
  ros__parameters: {starve_timeout: 0.9}
"""
VALUES = (
    "1", "-3", "+5", "0x1F", "010", "1.", ".5e-3", "1e3", "1_000", "0o7", "0b1", ".inf", "-.inf",
    "infinity", "true", "TRUE", "y", "Off", "null", "~", '"1"', '"y"', "''", "word", "a.b/c",
    "2023-01-01", "[]", "[a, b]", "[1, 2]", "[1.5]", "[true, false]", "'it''s'", "1 2",
)  # fmt: skip
WRONG = ("", "[1, 2.5]", "[1, x]", "{a: 1}", "a: b", "[")


def test_parameters_for_a_node_of_another_name_are_told(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("arm_pi0:\n  ros__parameters: {checkpoint: /data, joints: [a]}\n")
    with pytest.raises(ArgumentsError) as error:
        read_interface(["--params-file", str(path)])
    assert "parameters are given for /arm_pi0, and this node is /pi0: write /pi0:" in (
        str(error.value)
    )
    read_interface(["--params-file", str(path), "-r", "__node:=arm_pi0"])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text(FILE)
    return path


def by_rcl(arguments: list[str]) -> tuple[str, dict, list[str]]:
    """The node's name, its parameters and three topics, as ROS understands the arguments."""
    rclpy = pytest.importorskip("rclpy", reason="ROS is not installed")
    from rclpy.node import Node

    from pi0_ros.node.parameters import given_values

    context = rclpy.Context()
    rclpy.init(args=["--ros-args", *arguments], context=context)
    try:
        node = Node("pi0", context=context, enable_rosout=False, start_parameter_services=False)
        topics = [node.resolve_topic_name(name) for name in ("~/x", "front/image_raw", "/js")]
        found = node.get_fully_qualified_name(), given_values(node), topics
        node.destroy_node()
    finally:
        rclpy.shutdown(context=context)
    return found


def ours(arguments: list[str]) -> tuple[str, dict, list[str]]:
    read = read_arguments(arguments)
    topics = [read.absolute(name) for name in ("~/x", "front/image_raw", "/js")]
    return read.full_name, read.overrides, topics


@pytest.mark.parametrize(
    "more",
    [
        [],
        ["-p", "rate_hz:=3.0", "-p", "cameras:=[x, z]", "-p", "pi0:max_jump:=0.1"],
        ["--param", "other:rate_hz:=3.0", "-r", "other:front/image_raw:=/not"],
        ["-r", "__ns:=/ns", "-r", "pi0:front/image_raw:=cam", "-r", "~/x:=/out"],
        ["-r", "__node:=bob", "--remap", "front/image_raw:=/z", "-r", "/js:=other"],
    ],
)
def test_files_names_and_rules_are_read_as_rcl_reads_them(file, more):
    arguments = ["--params-file", str(file), *more]
    expected = by_rcl(arguments)
    assert ours(arguments) == expected
    assert list(ours(arguments)[1]) == list(expected[1])


@pytest.mark.parametrize("value", VALUES)
def test_values_are_read_as_rcl_reads_them(value):
    arguments = ["-p", f"name:={value}"]
    expected = by_rcl(arguments)[1]["name"]
    found = ours(arguments)[1]["name"]
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize("value", WRONG)
def test_what_rcl_refuses_is_refused(value):
    with pytest.raises(Exception, match="failed to initialize rcl"):
        by_rcl(["-p", f"name:={value}"])
    with pytest.raises(ArgumentsError, match="-p name:="):
        ours(["-p", f"name:={value}"])


def test_a_later_file_wins_over_an_earlier_one(tmp_path):
    files = []
    for number in (1, 2):
        path = tmp_path / f"{number}.yaml"
        path.write_text(f"/**:\n  ros__parameters: {{seed: {number}, only_{number}: true}}\n")
        files += ["--params-file", str(path)]
    assert ours(files)[1] == {"seed": 2, "only_1": True, "only_2": True}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n", "expected node names"),
        ("pi0: 3\n", "pi0: expected the name of a node"),
        ("ros__parameters: {a: 1}\n", "needs a node's name above it"),
        ("a: [\n", "no YAML"),
        ("/**: {ros__parameters: {a: 1, a: 2}}", r"line 1: /\*\*.ros__parameters.a is declared"),
        ("/**: {ros__parameters: {a: &x 1, b: *x}}", r"line 1: the alias \*x; ROS reads none"),
        ("/**: {ros__parameters: {a: !degrees 90}}", "line 1: the tag !degrees is xacro.s; write"),
        ("/**: {ros__parameters: {a: 99999999999999999999}}", "beyond 64 bits"),
        ("[" * 50_000, "deeper than 50 levels"),
    ],
)
def test_files_that_are_no_parameters(tmp_path, text, message):
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(ArgumentsError, match=message):
        read_arguments(["--params-file", str(path)])


def test_other_arguments_are_refused():
    with pytest.raises(ArgumentsError, match="--remote: expected --params-file"):
        read_arguments(["--remote", "debug"])
    with pytest.raises(ArgumentsError, match="expected something behind it"):
        read_arguments(["-p"])
