"""Parameters: defaults, checks, and the files in config/."""

from pathlib import Path

import pytest
import yaml
from support.harness import JOINTS, configure, given

from pi0_ros.node.parameter_table import (
    CAMERA_SPECS,
    FLOAT64_MULTI_ARRAY,
    JOINT_SPECS,
    JOINT_TRAJECTORY,
    LIVE,
    OUTPUT_SPECS,
    SPECS,
    Spec,
)
from pi0_ros.node.parameters import (
    ParameterError,
    as_yaml,
    changed,
    read_parameters,
    similar_name,
    unknown_names,
    values_of,
)

SAME_TOPIC = "camera.front.topic and camera.wrist.topic: one topic for several cameras: 'cam"
CONFIG = Path(__file__).parents[3] / "config"


def problems(**changes) -> str:
    with pytest.raises(ParameterError) as caught:
        configure(**changes)
    return "\n".join(caught.value.problems)


def test_defaults():
    parameters = configure()
    assert parameters.camera_names == ("front", "wrist")
    assert [camera.topic for camera in parameters.cameras] == ["front/image_raw", "wrist/image_raw"]
    assert parameters.joint_names == ("pan", "lift", "gripper")
    assert {(joint.scale, joint.offset) for joint in parameters.joints} == {(1.0, 0.0)}
    assert (parameters.rate_hz, parameters.action_dt) == (10.0, 0.02)
    assert (parameters.action_mode, parameters.delta_joints) == ("", ())


def test_per_camera_and_per_joint_values():
    parameters = configure(
        cameras=["top"],
        camera__top__topic="/cam/colour",
        camera__top__max_age=0.5,
        joint__gripper__scale=0.0192,
        joint__gripper__offset=-0.17,
    )
    (top,) = parameters.cameras
    assert (top.name, top.topic, top.max_age) == ("top", "/cam/colour", 0.5)
    assert (parameters.joints[2].scale, parameters.joints[2].offset) == (0.0192, -0.17)
    assert parameters.joints[0].scale == 1.0


def test_compressed_topics():
    parameters = configure(image_transport="compressed", camera__wrist__topic="hand/compressed")
    topics = [camera.topic for camera in parameters.cameras]
    assert topics == ["front/image_raw/compressed", "hand/compressed"]


def test_a_whole_number_will_do_for_a_fraction():
    parameters = configure(rate_hz=5, joint__pan__scale=2)
    assert isinstance(parameters.rate_hz, float) and parameters.rate_hz == 5.0
    assert isinstance(parameters.joints[0].scale, float)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"checkpoint": ""}, "checkpoint: empty"),
        ({"checkpoint": 12}, "checkpoint: must be a string, got 12"),
        ({"rate_hz": 0.0}, "rate_hz: must be in [0.1, 100.0], got 0.0"),
        ({"rate_hz": True}, "rate_hz: must be a number, got True"),
        ({"rate_hz": float("nan")}, "rate_hz: must be finite"),
        ({"seed": -1}, "seed: must be in"),
        ({"seed": 1.0}, "seed: must be a whole number"),
        ({"action_dt": 0.0}, "action_dt: must be in"),
        ({"max_skew": 0.0}, "max_skew: must be in"),
        ({"image_transport": "theora"}, "image_transport: must be one of ['raw', 'compressed']"),
        ({"controller": "later"}, "controller: must be one of"),
        ({"action_mode": "relative"}, "action_mode: must be one of"),
        ({"dtype": "float64"}, "dtype: must be one of"),
        ({"cameras": None}, "cameras: empty"),
        ({"cameras": "front"}, "cameras: must be a list of strings"),
        ({"workspace_box": ["a"]}, "workspace_box: must be a list of numbers"),
        ({"workspace_box": "123456"}, "workspace_box: must be a list of numbers"),
        ({"workspace_box": [0.0, 0.0, float("nan"), 1.0, 1.0, 1.0]}, "a list of finite numbers"),
        ({"workspace_box": [0.0, 0.0, 0.0]}, "workspace_box: must be xmin, ymin, zmin, xmax"),
        ({"workspace_box": [0, 0, 1, 1, 1, 0], "urdf": "a"}, "each minimum below its maximum"),
        ({"workspace_box": [0, 0, 0, 1, 1, 1]}, "workspace_box: needs the robot's URDF"),
        ({"self_collision": True}, "self_collision: needs the robot's URDF; give the file as urdf"),
        ({"collision_reference": [0.0]}, "collision_reference: must have one number per joint (3)"),
        ({"cameras": ["front", "front"]}, "cameras: named more than once: ['front']"),
        ({"joints": []}, "joints: empty"),
        ({"joints": ["pan", ""]}, "joints: holds an empty name"),
        ({"joints": ["pan", "lift", "pan"]}, "joints: named more than once: ['pan']"),
        ({"camera__front__topic": "front image"}, "camera.front.topic: not a ROS topic name"),
        ({"cameras": ["observation.images.top"]}, "images.top.topic: not a ROS topic name"),
        ({"camera__front__max_age": 0.0}, "camera.front.max_age: must be in"),
        ({"joint_states_topics": [""]}, "joint_states_topics: not a ROS topic name"),
        ({"joint_states_topics": []}, "joint_states_topics: empty"),
        ({"joint_states_topics": ["a", "a"]}, "joint_states_topics: named more than once: ['a']"),
        ({"joint_states_topic": "a"}, "give joint_states_topics: [a]"),
        ({"joint__pan__scale": 0.0}, "joint.pan.scale: must not be 0"),
        ({"joint__pan__offset": float("inf")}, "joint.pan.offset: must be finite"),
        ({"joint__gripp__scale": 0.5}, "did you mean joint.gripper.scale?"),
        ({"joint__pan__scal": 0.5}, "joint.pan.scal: no such parameter"),
        ({"camera__front__topic": "cam", "camera__wrist__topic": "cam"}, SAME_TOPIC),
        (
            {
                "image_transport": "compressed",
                "camera__front__topic": "cam",
                "camera__wrist__topic": "cam/compressed",
            },
            SAME_TOPIC,
        ),
        ({"camera__hand__topic": "hand"}, "camera.hand.topic: no such parameter"),
        ({"action_mode": "delta"}, "give both"),
        ({"delta_joints": ["pan"]}, "give both"),
        ({"action_mode": "delta", "delta_joints": ["pin"]}, "not in joints: ['pin']"),
        ({"precision": "float8", "device": "npu:0"}, "float8 is for GPUs of NVIDIA"),
        ({"precision": "float8"}, "float8 needs the scales"),
        ({"precision": "float8"}, "float8 needs dtype bfloat16, it is 'float32'"),
        ({"precision": "int8", "device": "cuda:0"}, "int8 is for NPUs and CPUs"),
    ],
)
def test_what_is_refused(changes, says):
    assert says in problems(**changes)


def test_delta_joints():
    parameters = configure(action_mode="delta", delta_joints=["pan", "lift"])
    assert parameters.delta_joints == ("pan", "lift")


ARM = {"outputs__arm__topic": "/arm/joint_trajectory", "outputs__arm__joints": ["pan", "lift"]}
GRIPPER = {
    "outputs__gripper__topic": "/gripper/commands",
    "outputs__gripper__joints": ["gripper"],
    "outputs__gripper__type": "std_msgs/msg/Float64MultiArray",
}


def test_two_controllers_yaml_goes_with_the_simulated_arms_parameters():
    values = file_parameters("touch.yaml") | file_parameters("two_controllers.yaml")
    arm, gripper = read_parameters(values | {"checkpoint": "/touch"}).effective_outputs
    assert (len(arm.joints), gripper.joints) == (5, ("gripper",))


def test_without_outputs_one_topic_has_all_joints():
    (only,) = configure().effective_outputs
    assert (only.topic, only.joints) == ("~/joint_trajectory", ("pan", "lift", "gripper"))
    parameters = configure(joint_trajectory_topic="/arm_controller/joint_trajectory")
    assert parameters.outputs == ()
    assert parameters.effective_outputs[0].topic == "/arm_controller/joint_trajectory"


def test_outputs():
    parameters = configure(**ARM, **GRIPPER, outputs__gripper__rate_hz=50)
    arm, gripper = parameters.effective_outputs
    assert (arm.name, arm.topic, arm.joints) == ("arm", "/arm/joint_trajectory", ("pan", "lift"))
    assert (arm.type, gripper.type) == (JOINT_TRAJECTORY, FLOAT64_MULTI_ARRAY)
    assert gripper.rate_hz == 50.0
    values = values_of(parameters)
    assert values["outputs.gripper.joints"] == ("gripper",)
    assert read_parameters(values) == parameters
    with pytest.raises(ParameterError, match=r"outputs\.arm\.topic: read only"):
        changed(parameters, {"outputs.arm.topic": "/other"}, configured=False)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (ARM, "outputs: joints that no output has: ['gripper']"),
        (
            ARM | GRIPPER | {"outputs__gripper__joints": ["gripper", "lift"]},
            "outputs: joint 'lift' is named more than once: in arm and gripper",
        ),
        (
            ARM | GRIPPER | {"outputs__arm__joints": ["pan", "lift", "pan"]},
            "outputs: joint 'pan' is named more than once: in arm and arm",
        ),
        (
            ARM | GRIPPER | {"outputs__gripper__joints": ["gripper", "finger"]},
            "outputs: not in joints: ['finger']",
        ),
        (
            ARM | GRIPPER | {"outputs__gripper__topic": "/arm/joint_trajectory"},
            "outputs: one topic for arm and gripper: '/arm/joint_trajectory'",
        ),
        (ARM | GRIPPER | {"outputs__arm__joints": None}, "outputs.arm.joints: empty"),
        (ARM | GRIPPER | {"outputs__arm__topic": ""}, "outputs.arm.topic: not a ROS topic name"),
        (
            ARM | GRIPPER | {"outputs__arm__topik": "/arm"},
            "outputs.arm.topik: no such parameter for an output (outputs.<name>.topic, .joints,"
            " .type, .rate_hz); did you mean outputs.arm.topic?",
        ),
        (ARM | GRIPPER | {"outputs__arm__type": "Float64"}, "outputs.arm.type: must be one of"),
        (ARM | GRIPPER | {"outputs__arm__rate_hz": 0.0}, "outputs.arm.rate_hz: must be in [10.0"),
        ({"outputs": ["arm", "gripper"]}, "outputs: no such parameter for an output"),
        (ARM | GRIPPER | {"joint_trajectory_topic": "/all"}, "give one of them"),
    ],
)
def test_which_outputs_are_refused(changes, says):
    assert says in problems(**changes)


def test_everything_wrong_is_listed_at_once():
    text = problems(rate_hz=0.0, cameras=[], joint__elbow__scale=1.0, image_transport="x")
    assert len(text.splitlines()) == 4


@pytest.mark.parametrize("name", ["checkpoint", "joints"])
def test_a_value_of_the_wrong_type_is_one_problem(name):
    text = problems(**{name: 2024})
    assert "got 2024" in text and len(text.splitlines()) == 1


def test_names_of_other_nodes_are_reported_not_refused():
    values = given(rate=5.0, use_sim_time=True, **{"qos_overrides.x": 1})
    assert unknown_names(read_parameters(values), values) == ["rate"]


def test_long_texts_are_refused_and_not_repeated_whole():
    assert "instruction: 1001 characters, allowed are 1000" in problems(instruction="x" * 1001)
    assert len(problems(dtype="x" * 100_000)) < 500


def test_values_make_the_same_parameters():
    parameters = configure(image_transport="compressed", joint__pan__scale=0.5, cameras=["a", "b"])
    values = values_of(parameters)
    assert values["joint.pan.scale"] == 0.5 and values["cameras"] == ("a", "b")
    assert read_parameters(values) == parameters


def test_off_needs_no_quotes_in_yaml() -> None:
    """There it is false."""
    assert configure(rtc=False).rtc == configure(rtc="off").rtc == "off"
    with pytest.raises(ParameterError, match="rtc: must be a string, got True"):
        configure(rtc=True)


# Changes ----------------------------------------------------------------------------------------


def test_every_live_parameter_changes():
    """To a bound of it, and nothing else changes with it."""
    before = values_of(configure())
    live = {
        name: spec
        for name, spec in specs_by_name().items()
        if spec.changes == LIVE and name in before
    }
    assert {"max_skew", "frozen_frames", "camera.wrist.max_age", "velocity_scale"} <= set(live)
    for name, spec in live.items():
        text = spec.choices[-1] if spec.choices else "pick"
        value = {str: text, tuple: (JOINTS[0],)}.get(type(spec.default), spec.low)
        if value == before[name]:
            value = spec.high
        after = values_of(changed(configure(), {name: value}))
        assert after == before | {name: value}, name


def test_parameters_of_configure_change_only_before_it():
    parameters = configure()
    new = changed(parameters, {"device": "npu:0", "joint.pan.scale": 0.5}, configured=False)
    assert (new.device, new.joints[0].scale) == ("npu:0", 0.5)
    with pytest.raises(ParameterError) as caught:
        changed(parameters, {"device": "npu:0", "seed": 3, "rate_hz": 5.0}, configured=True)
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["device", "seed"]
    assert "clean up the node first" in str(caught.value)


@pytest.mark.parametrize("name", ["cameras", "graph_cache", "checkpoint", "camera.front.topic"])
def test_parameters_of_the_start_never_change(name):
    with pytest.raises(ParameterError, match=f"{name}: read only"):
        changed(configure(), {name: values_of(configure())[name]}, configured=False)


def test_a_change_is_checked_with_everything_else():
    with pytest.raises(ParameterError) as caught:
        changed(configure(), {"action_mode": "delta", "threads": -1}, configured=False)
    assert "give both" in str(caught.value) and "threads: must be in" in str(caught.value)
    assert changed(configure(), {"use_sim_time": True}) == configure()


# Files ------------------------------------------------------------------------------------------


def flat(tree: dict, prefix: str = "") -> dict:
    out = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            out |= flat(value, f"{prefix}{name}.")
        else:
            out[prefix + name] = tuple(value) if isinstance(value, list) else value
    return out


def file_parameters(name: str) -> dict:
    return flat(yaml.safe_load((CONFIG / name).read_text())["/**"]["ros__parameters"])


def specs_by_name() -> dict[str, Spec]:
    """The table with the default cameras and the joints of `configure`."""
    rows = list(SPECS)
    for camera in ("front", "wrist"):
        rows += [row.of("<camera>", camera) for row in CAMERA_SPECS]
    for joint in configure().joint_names:
        rows += [row.of("<joint>", joint) for row in JOINT_SPECS]
    return {row.name: row for row in rows}


def test_pi0_yaml_is_what_the_table_makes():
    """python -m pi0_ros.node.parameters > config/pi0.yaml"""
    assert (CONFIG / "pi0.yaml").read_text() == as_yaml()


def test_pi0_yaml_has_every_parameter_with_its_default():
    expected = {
        name: spec.default
        for name, spec in specs_by_name().items()
        if not name.startswith("joint.")
    }
    assert file_parameters("pi0.yaml") == expected
    text = (CONFIG / "pi0.yaml").read_text()
    # `joints` and `outputs` are empty by default, so they stand in a comment.
    for spec in (*JOINT_SPECS, *OUTPUT_SPECS):
        assert f"{spec.name.rsplit('.', 1)[1]}:" in text


def test_demo_yaml_needs_only_a_checkpoint():
    parameters = read_parameters({**file_parameters("demo.yaml"), "checkpoint": "/demo"})
    assert parameters.camera_names == ("front", "wrist")
    assert parameters.joint_names == (
        "shoulder_pan",
        "shoulder_lift",
        "elbow_flex",
        "wrist_flex",
        "wrist_roll",
        "gripper",
    )
    assert unknown_names(parameters, file_parameters("demo.yaml")) == []


def test_fps_stands_for_action_dt():
    assert configure(fps=30).action_dt == pytest.approx(1 / 30)
    assert configure(fps=30, action_dt=0.0333).action_dt == 0.0333
    assert changed(configure(fps=30), {"rate_hz": 5.0}).action_dt == pytest.approx(1 / 30)
    for wrong, says in (
        ({"fps": 30, "action_dt": 0.02}, "give one of the two"),
        ({"fps": 0.5}, "0"),
    ):
        with pytest.raises(ParameterError, match=f"fps: .*{says}"):
            configure(**wrong)


def test_a_misspelt_name_is_told_with_the_one_that_is_meant():
    parameters = configure()
    names = ["action_dt_s", "robot_description_file", "use_sim_time", "exposure"]
    assert unknown_names(parameters, names) == ["action_dt_s", "exposure"]
    assert similar_name(parameters, "action_dt_s") == "action_dt"
    assert similar_name(parameters, "exposure") == ""
