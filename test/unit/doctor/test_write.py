"""Parameter files that the doctor drafts: of a bag, and of robots that are put together here."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.doctor_cases import JOINTS, copy_checkpoint, write_bag

from pi0_ros.checkpoint.checkpoint import Checkpoint
from pi0_ros.checkpoint.formats import read_checkpoint
from pi0_ros.checkpoint.metadata import Declared
from pi0_ros.checkpoint.normalization import Normalization
from pi0_ros.cli import main
from pi0_ros.doctor.draft import Draft, as_yaml, draft, guess_unit
from pi0_ros.doctor.robot import Listener, Robot
from pi0_ros.motion.limit_files import Limit
from pi0_ros.node.interface import read_interface
from pi0_ros.node.parameter_table import FLOAT64_MULTI_ARRAY, JOINT_TRAJECTORY
from pi0_ros.node.parameters import NodeParameters
from pi0_ros.node.preflight import preflight
from pi0_ros.plain_yaml import read_yaml

LIMIT = '<axis xyz="0 0 1"/><limit lower="-3.0" upper="3.0" velocity="2" effort="1"/>'


def urdf_joint(number: int, name: str) -> str:
    """A joint below the link of the one before, with its link."""
    kind = "prismatic" if name == "grip" else "revolute"
    ends = f'<parent link="l{number}"/><child link="l{number + 1}"/>'
    joint = f'<joint name="{name}" type="{kind}">{ends}{LIMIT}</joint>'
    return f'<link name="l{number + 1}"/>{joint}'


LINKS = "".join(map(urdf_joint, range(len(JOINTS)), JOINTS))
URDF = f'<robot name="arm"><link name="l0"/>{LINKS}</robot>'


@pytest.fixture(scope="module")
def checkpoint(demo_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_checkpoint(demo_checkpoint, tmp_path_factory.mktemp("write") / "checkpoint")


def read(file: Path) -> NodeParameters:
    return read_interface(["--params-file", str(file)]).parameters


def test_a_bag_of_a_robot_leads_to_parameters_that_the_node_takes(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    urdf = tmp_path / "arm.urdf"
    urdf.write_text(URDF)
    bag, file = write_bag(tmp_path / "bag"), tmp_path / "out" / "my_arm.yaml"
    words = ["doctor", "--bag", str(bag), "--checkpoint", str(checkpoint), "--write", str(file)]
    assert main([*words, "--urdf", str(urdf)]) == 0
    assert "GUESS" in capsys.readouterr().out
    parameters = read(file)
    assert parameters.joint_names == tuple(JOINTS)
    assert [camera.topic for camera in parameters.cameras] == [
        "/front/image_raw",
        "/wrist/image_raw",
    ]
    assert parameters.urdf == str(urdf)
    assert {joint.name: joint.unit for joint in parameters.joints}["grip"] == "m"
    assert preflight(parameters, None) == []
    # Every parameter but the plain ones has a reason or a guess above it.
    text = file.read_text()
    assert "# GUESS: the checkpoint records no names: prove the order with its data set" in text
    assert "# GUESS: the checkpoint does not tell the pace of its data" in text
    assert "# GUESS: no controller was seen" in text
    # Its own judgement of it goes on from there.
    assert main(["doctor", "--bag", str(bag), "--params", str(file)]) in (0, 1)
    assert "FAIL  preflight" not in capsys.readouterr().out

    assert main([*words, "--urdf", str(urdf)]) == 1, "it is there already"
    assert "--overwrite" in capsys.readouterr().err
    assert main([*words, "--urdf", str(tmp_path / "none.urdf"), "--overwrite"]) == 1
    file.with_suffix(".urdf").write_text(URDF)
    own = ["--urdf", str(file.with_suffix(".urdf"))]
    file.unlink()
    assert main([*words, *own]) == 0, "the robot's own URDF beside it is no file that it writes"
    for name, options in ((urdf, own), ("robot.urdf", [])):
        with_name = [*words[:-1], str(name), *options, "--overwrite"]
        assert main(with_name) == 1 and "expected the name of a YAML" in capsys.readouterr().err
    assert urdf.read_text() == URDF


@pytest.mark.parametrize(
    "name",
    [
        "no",
        "null",
        "1e3",
        "0x1",
        "a: b",
        "- a",
        "#",
        "ü",
        "\U0001f600",
        "\\ud83d\\ude00",
        '"',
        "\n",
    ],
)
def test_names_stay_what_they_are_in_yaml(name: str) -> None:
    draft = Draft()
    draft.add("joints", [name], "because")
    draft.add(f"joint.{name}.scale", 1e-5, "")
    assert read_yaml("\n".join(draft.lines)) == {"joints": [name], f"joint.{name}.scale": 1e-5}


@pytest.mark.parametrize("options", [["--write", "x.yaml"], ["--urdf", "a.urdf"], ["--overwrite"]])
def test_options_that_do_not_go_together(options: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["doctor", *options])
    assert ended.value.code == 2


def statistics(low: float, high: float) -> Normalization:
    middle, half = np.float32([(low + high) / 2]), np.float32([(high - low) / 2])
    return Normalization(offset=middle, scale=half, inverse_scale=half)


ARM = Limit(-1.7, 1.7, 2.0, math.nan, "rad")
FINGER = Limit(0.0, 0.04, 0.1, math.nan, "m")


@pytest.mark.parametrize(
    ("low", "high", "limit", "scale", "offset", "word"),
    [
        (-0.5, 1.2, ARM, 1.0, 0.0, "radians"),
        (-60.0, 80.0, ARM, math.pi / 180, 0.0, "degrees"),
        (-60.0, 80.0, None, math.pi / 180, 0.0, "degrees"),
        (-0.5, 1.2, None, 1.0, 0.0, "radians"),
        (0.001, 0.039, FINGER, 1.0, 0.0, "metres"),
        (1.0, 39.0, FINGER, 0.001, 0.0, "millimetres"),
        (2.0, 95.0, FINGER, 0.0004, 0.0, "0 to 100 %"),
        (5.0, 99.0, Limit(-0.17, 1.75, 6, 60, "rad"), 0.0192, -0.17, "0 to 100 %"),
        (-98.0, 95.0, Limit(-0.5, 1.5, 6, 60, "rad"), 0.01, 0.5, "-100 to 100 %"),
        (-900.0, 900.0, ARM, 1.0, 0.0, "beyond its limits"),
    ],
)
def test_units_are_guessed_from_the_data_and_the_limits(
    low: float, high: float, limit: Limit | None, scale: float, offset: float, word: str
) -> None:
    found = guess_unit(statistics(low, high), 0, limit, "gripper" if offset == -0.17 else "elbow")
    assert found[:2] == pytest.approx((scale, offset), rel=1e-6)
    assert word in found[2] and "the training's states lie in" in found[2]


Drafted = Callable[..., dict[str, Any]]
NOTHING = Declared()


@pytest.fixture
def drafted(checkpoint: Path) -> Drafted:
    """The parameters of a robot with all joints, as the file has them; fields are Robot's."""
    whole: Checkpoint = read_checkpoint(checkpoint)

    def make(declared: Declared = NOTHING, **fields: Any) -> dict[str, Any]:
        robot = Robot("here", positions={"/joint_states": dict.fromkeys(JOINTS, 0.0)})
        robot.types = {"/front/image_raw": ("sensor_msgs/msg/Image",)}
        robot.counts, robot.seconds = {"/joint_states": 100}, 1.0
        for name, value in fields.items():
            setattr(robot, name, value)
        text = as_yaml(draft(robot, whole, declared, {}, ""), robot, "today")
        return read_yaml(text)["/**"]["ros__parameters"]

    return make


def test_joints_are_put_into_the_checkpoints_order(drafted: Drafted) -> None:
    names = [f"{name}.pos" for name in reversed(JOINTS)]
    found = drafted(Declared(tuple(names), "config.json: names", 30.0, "config.json: fps"))
    assert found["joints"] == list(reversed(JOINTS))
    assert found["fps"] == 30


def test_joints_in_parts_and_slow_ones(drafted: Drafted) -> None:
    *arm, grip = JOINTS
    found = drafted(
        positions={"/arm/joint_states": dict.fromkeys(arm, 0.0), "/grip/joint_states": {grip: 0.0}},
        counts={"/arm/joint_states": 100, "/grip/joint_states": 5},
    )
    assert found["joint_states_topics"] == ["/arm/joint_states", "/grip/joint_states"]
    assert found["joint_states_max_age"] == 0.5


def test_several_controllers_become_outputs(drafted: Drafted) -> None:
    *arm, grip = JOINTS
    found = drafted(
        listeners=[
            Listener(
                "/arm", "/arm/joint_trajectory", JOINT_TRAJECTORY, tuple(arm), {"joints": arm}
            ),
            Listener("/grip", "/grip/commands", FLOAT64_MULTI_ARRAY, (grip,)),
        ]
    )
    assert found["outputs.arm.joints"] == arm
    assert found["outputs.grip.type"] == FLOAT64_MULTI_ARRAY
    assert "joint_trajectory_topic" not in found


def test_one_controller_that_replaces(drafted: Drafted) -> None:
    values = {"joints": list(JOINTS), "allow_trajectory_replacement": True}
    listener = Listener("/jtc", "/jtc/joint_trajectory", JOINT_TRAJECTORY, tuple(JOINTS), values)
    found = drafted(listeners=[listener])
    assert found["joint_trajectory_topic"] == "/jtc/joint_trajectory"
    assert (found["controller"], found["splice_lead"]) == ("jtc_replacing", 0.1)


def test_cameras_of_other_names_and_compressed_ones(drafted: Drafted) -> None:
    kind = ("sensor_msgs/msg/CompressedImage",)
    topics = ("/camera1/color/image_raw", "/camera2/wrist/image_raw", "/camera1/depth/image_rect")
    found = drafted(types={f"{topic}/compressed": kind for topic in topics})
    assert found["image_transport"] == "compressed"
    assert found["camera.wrist.topic"] == "/camera2/wrist/image_raw"
    assert found["camera.front.topic"] == "/camera1/color/image_raw"


def test_names_from_topics_cannot_break_the_file(drafted: Drafted) -> None:
    """Anybody may have chosen the names of joint states, and written the checkpoint."""
    evil = 'x"\n/**: {ros__parameters: {start_enabled: true}}\n#'
    names = (*list(JOINTS)[:-1], evil)
    found = drafted(
        Declared(names, "config.json\nstart_enabled: true", 30.0, "y\nstart_enabled: true"),
        positions={"/joint_states": dict.fromkeys(names, 0.0)},
    )
    assert found["joints"][-1] == evil
    assert "start_enabled" not in found
