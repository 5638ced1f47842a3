"""Parameters, checkpoint, limits and graph that do not fit each other; and loading the policy."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from support.harness import configure

pytest.importorskip("torch")

from pi0_ros.node.interface import node_topics
from pi0_ros.node.loading import load_policy
from pi0_ros.node.preflight import PreflightError, load_limits, preflight

JOINTS = [f"joint{number}" for number in range(6)]
MEAN = np.array([0.0, -0.4, 0.5, 1.0, 0.0, 0.4], np.float32)
STD = np.array([0.4, 0.5, 0.4, 0.4, 0.3, 0.3], np.float32)


@pytest.fixture
def checkpoint(demo_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the demo checkpoint, to be spoiled."""
    return statistics(Path(shutil.copytree(demo_checkpoint, tmp_path / "checkpoint")), MEAN, STD)


def statistics(path: Path, mean: np.ndarray, std: np.ndarray) -> Path:
    values = {"mean": mean.astype(np.float32), "std": std.astype(np.float32)}
    for file in path.glob("policy*.safetensors"):
        kept = load_file(file)
        save_file({name: values.get(name.rsplit(".")[-1], kept[name]) for name in kept}, file)
    return path


def problems(checkpoint: Path, **changes: Any) -> list[str]:
    values = {"checkpoint": str(checkpoint), "joints": JOINTS, **changes}
    return preflight(configure(**values), None)


def limits_file(folder: Path, **ranges: tuple[float, float]) -> str:
    """joint_limits.yaml; every joint from -3 to 3 rad but for those given."""
    lines = ["joint_limits:"]
    for joint in JOINTS:
        low, high = ranges.get(joint, (-3.0, 3.0))
        lines.append(
            f"  {joint}: {{has_position_limits: true, min_position: {low}, max_position: {high},"
            " has_velocity_limits: true, max_velocity: 2.0}"
        )
    path = folder / "limits.yaml"
    path.write_text("\n".join([*lines, ""]))
    return str(path)


def test_what_fits_has_no_problems(checkpoint: Path, tmp_path: Path) -> None:
    assert problems(checkpoint) == []
    assert problems(checkpoint, joint_limits=limits_file(tmp_path)) == []
    assert problems(checkpoint, cameras=["wrist"], instruction="") == []


@pytest.mark.parametrize("path", ["~nobody_of_this_name/x", "x" * 5000])
@pytest.mark.parametrize("name", ["checkpoint", "tokenizer", "joint_limits", "urdf"])
def test_paths_that_cannot_be_are_problems(checkpoint: Path, path: str, name: str) -> None:
    values = {"checkpoint": str(checkpoint), "joints": JOINTS, name: path}
    assert any(path in problem for problem in preflight(configure(**values), None))


def test_limits_in_degrees_are_refused_unless_allowed(checkpoint: Path, tmp_path: Path) -> None:
    degrees = limits_file(tmp_path, joint1=(-180.0, 180.0))
    (problem,) = problems(checkpoint, joint_limits=degrees)
    assert problem.startswith("joint joint1: position limits -180 to 180 rad are 57.3 turns: degre")
    assert "set allow_wide_limits: true" in problem
    assert problems(checkpoint, joint_limits=degrees, allow_wide_limits=True) == []


def test_the_urdf_completes_the_limits(checkpoint: Path, tmp_path: Path) -> None:
    velocities = "".join(f"  {joint}: {{max_velocity: 1.0}}\n" for joint in JOINTS)
    moveit = tmp_path / "moveit.yaml"
    moveit.write_text(f"joint_limits:\n{velocities}")
    found = problems(checkpoint, joint_limits=str(moveit))
    assert len(found) == len(JOINTS) and all("parameter `urdf`" in problem for problem in found)
    joints = "".join(
        f'<joint name="{j}" type="revolute"><limit lower="-3" upper="3" velocity="2"/></joint>'
        for j in JOINTS
    )
    urdf = tmp_path / "arm.urdf"
    urdf.write_text(f"<robot>{joints}</robot>")
    assert problems(checkpoint, joint_limits=str(moveit), urdf=str(urdf)) == []
    both = configure(joint_limits=[str(moveit)], urdf=str(urdf), joints=JOINTS)
    np.testing.assert_array_equal(load_limits(both).velocity, [1.0] * len(JOINTS))
    assert load_limits(configure(joint_limits=str(urdf), joints=JOINTS)) is not None
    assert load_limits(configure(joint_limits="", joints=JOINTS)) is None


def test_files_of_the_collision_check_are_read(checkpoint: Path, tmp_path: Path) -> None:
    pytest.importorskip("pinocchio")
    urdf = tmp_path / "arm.urdf"
    parts = ["<link name='l0'/>"]
    for number, joint in enumerate(JOINTS):
        mesh = f"<collision><geometry><mesh filename='{number}.stl'/></geometry></collision>"
        parts.append(
            f"<link name='l{number + 1}'>{mesh}</link><joint name='{joint}' type='revolute'>"
            f"<parent link='l{number}'/><child link='l{number + 1}'/>"
            "<limit lower='-3' upper='3' velocity='2' effort='1'/></joint>"
        )
    urdf.write_text(f"<robot name='a'>{''.join(parts)}</robot>")
    given = {"urdf": str(urdf), "self_collision": True}
    assert problems(checkpoint, urdf=str(urdf)) == [], "it is off"
    found = problems(checkpoint, **given)
    assert len(found) == len(JOINTS)
    assert found[0] == "collision check: link l1: no mesh file 0.stl"
    given = {"urdf": str(urdf), "workspace_box": [-1, -1, -1, 1, 1, 1], "tool_frame": "hand"}
    (problem,) = problems(checkpoint, **given)
    assert "collision check: robot description" in problem and "no link is called 'hand'" in problem
    assert problems(checkpoint, **given | {"tool_frame": "l6"}) == []


def test_everything_wrong_is_in_one_list(checkpoint: Path, tmp_path: Path) -> None:
    found = preflight(
        configure(
            checkpoint=str(checkpoint),
            cameras=["top"],
            joints=["a", "b"],
            joint_limits=str(tmp_path / "none.yaml"),
            rate_hz=0.5,
            tokenizer=str(tmp_path / "none"),
        ),
        {"/joint_states": ["std_msgs/msg/String"]},
        lambda name: f"/{name}",
    )
    text = str(PreflightError(found))
    for part in (
        "none.yaml",
        "cameras ['top'] are not the checkpoint's",
        "2 joints are given, the checkpoint has 6",
        "rate_hz: a chunk lasts 1 s (50 steps of action_dt 0.02), and a tick comes every 2 s",
        "no tokenizer in",
        "/joint_states (joint states) has the type std_msgs/msg/String, the node subscribes to"
        " sensor_msgs/msg/JointState",
    ):
        assert part in text
    assert text.startswith(f"{len(found)} problem(s)")
    assert PreflightError(found).problems == tuple(found)


def test_a_broken_checkpoint_does_not_hide_the_rest(tmp_path: Path) -> None:
    found = preflight(
        configure(checkpoint=str(tmp_path / "gone"), joint_limits=str(tmp_path / "none.yaml")),
        {"/front/image_raw": ["sensor_msgs/msg/CompressedImage"]},
        lambda name: f"/{name}",
    )
    assert len(found) == 3
    assert "none.yaml" in found[0]
    assert "a pi0 checkpoint has config.json" in found[1]
    assert "/front/image_raw (camera front)" in found[2]


def test_statistics_that_cannot_normalise(checkpoint: Path) -> None:
    statistics(checkpoint, MEAN, STD * [1, 1, 0, 1, 1, 1])
    found = problems(checkpoint)
    assert len(found) == 2  # state and action
    assert "the checkpoint's state never varied in its data: number 2 (always 0.5)" in found[0]
    statistics(checkpoint, MEAN * np.nan, STD)
    (broken,) = problems(checkpoint)
    assert "'mean' is not finite" in broken
    statistics(checkpoint, MEAN[:5], STD[:5])
    (short,) = problems(checkpoint)
    assert "'mean' has 5 values, 6 are needed" in short


def test_a_chunk_outlasts_the_tick_and_the_starving(checkpoint: Path) -> None:
    (tick,) = problems(checkpoint, action_dt=0.002, rate_hz=8.0, starve_timeout=0.05)
    assert "a chunk lasts 0.1 s" in tick
    assert "set rate_hz above 10" in tick
    (starve,) = problems(checkpoint, starve_timeout=1.5)
    assert starve.startswith("starve_timeout: a chunk lasts 1 s")
    assert "set starve_timeout below 1" in starve


def test_the_pace_that_the_checkpoint_records(checkpoint: Path) -> None:
    (checkpoint / "info.json").write_text(json.dumps({"fps": 30}))
    (problem,) = problems(checkpoint)
    assert "action_dt: 0.02 s, but the checkpoint's actions are 0.03333 s apart" in problem
    assert "1.67 times as fast" in problem
    assert problems(checkpoint, action_dt=0.033) == []


def record_names(checkpoint: Path, names: list[str]) -> None:
    features = {"observation.state": {"shape": [6], "names": names}}
    (checkpoint / "info.json").write_text(json.dumps({"features": features}))


def test_the_order_that_the_checkpoint_records(checkpoint: Path) -> None:
    record_names(checkpoint, [f"{name}.pos" for name in JOINTS])
    assert problems(checkpoint) == []
    swapped = [JOINTS[1], JOINTS[0], *JOINTS[2:]]
    (problem,) = problems(checkpoint, joints=swapped)
    assert "joints: not in the checkpoint's order" in problem
    assert "joint1 is number 0, there it is number 1; joint0 is number 1" in problem
    assert "info.json: observation.state" in problem
    # Other names leave the order unknown.
    assert problems(checkpoint, joints=list("abcdef")) == []


def test_units_against_the_limits(checkpoint: Path, tmp_path: Path) -> None:
    limits = limits_file(tmp_path)
    statistics(checkpoint, np.rad2deg(MEAN), np.rad2deg(STD))
    found = problems(checkpoint, joint_limits=limits)
    # joint3 lies wholly outside, the others are far too wide; each for states and actions.
    assert len(found) == 12
    assert "joint.joint3: the checkpoint's states lie in [34.38, 80.21] rad" in found[3]
    assert "wholly outside the limits [-3, 3]" in found[3]
    assert "wider than the limits [-3, 3] allow" in found[0]
    scales = {f"joint.{name}.scale": float(np.pi / 180) for name in JOINTS}
    assert problems(checkpoint, joint_limits=limits, **scales) == []
    # Without limits: only values that no joint reaches.
    assert len(problems(checkpoint)) == 12


def test_relative_actions_that_the_checkpoint_declares(checkpoint: Path, tmp_path: Path) -> None:
    """LeRobot's: they lie around nothing, without `delta_joints`."""
    limits = limits_file(tmp_path, joint3=(0.5, 2.5))
    file = next(checkpoint.glob("policy_postprocessor*.safetensors"))
    tensors = load_file(file)
    tensors["action.mean"] = np.zeros(6, np.float32)
    tensors["action.std"] = np.full(6, 0.05, np.float32)
    save_file(tensors, file)
    assert len(problems(checkpoint, joint_limits=limits)) == 1
    settings = {"enabled": True, "exclude_joints": [], "action_names": None}
    for name, place in (("pre", 5), ("post", 1)):
        step = {"pre": "relative", "post": "absolute"}[name] + "_actions_processor"
        path = checkpoint / f"policy_{name}processor.json"
        document = json.loads(path.read_text())
        document["steps"].insert(place, {"registry_name": step, "config": settings})
        path.write_text(json.dumps(document))
    assert problems(checkpoint, joint_limits=limits) == []


def test_units_that_the_checkpoint_was_converted_for(checkpoint: Path, tmp_path: Path) -> None:
    import torch

    from pi0_ros.checkpoint.convert import convert, tokenizer_files
    from pi0_ros.checkpoint.formats import read_checkpoint
    from pi0_ros.checkpoint.metadata import Declared

    declared = Declared(
        tuple(JOINTS), fps=50.0, unit_scale=(1.0,) * 5 + (0.5,), unit_offset=(0.0,) * 6
    )
    out = tmp_path / "out"
    convert(
        read_checkpoint(checkpoint), out, torch.float32, declared, tokenizer_files([checkpoint])
    )
    assert problems(out, **{"joint.joint5.scale": 0.5}) == []
    (found,) = problems(out)
    assert found.startswith("joint.joint5: scale 1 and offset 0, but the checkpoint was converted")
    (found,) = problems(out, **{"joint.joint5.scale": 0.5, "action_dt": 0.033})
    assert found.startswith("action_dt: 0.033 s, but the checkpoint's actions are 0.02 s apart")


def test_a_joint_at_another_place(checkpoint: Path, tmp_path: Path) -> None:
    found = problems(checkpoint, joint_limits=limits_file(tmp_path, joint1=(0.5, 2.0)))
    assert [problem.split(":")[0] for problem in found] == ["joint.joint1"] * 2
    assert (
        "[-0.9, 0.1] rad with scale 1 and offset 0, wholly outside the limits [0.5, 2]"
        in (found[0])
    )


def test_relative_actions_lie_around_nothing(
    checkpoint: Path, tmp_path: Path, as_openpi: Any
) -> None:
    openpi = as_openpi(checkpoint)  # means of 1 to 6
    cameras = ["base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb"]
    ranges = {joint: (n + 0.9, n + 1.1) for n, joint in enumerate(JOINTS)}
    limits = limits_file(tmp_path, **ranges)
    modes = {"action_mode": "delta", "delta_joints": JOINTS[:5]}
    found = problems(openpi, cameras=cameras, joint_limits=limits, **modes)
    kinds = [problem.split("'s ")[1].split()[0] for problem in found]
    assert kinds.count("states") == 6
    assert kinds.count("actions") == 1


def test_topics_of_other_types() -> None:
    parameters = configure(image_transport="compressed", deadman_timeout=0.5)
    types = {topic.name: topic.type for topic in node_topics(parameters)}
    graph = {f"/{name.replace('~', 'pi0').lstrip('/')}": [kind] for name, kind in types.items()}

    def found(**changes: list[str]) -> list[str]:
        changed = {**graph, **{name.replace("__", "/"): kind for name, kind in changes.items()}}
        return [
            problem
            for problem in preflight(
                parameters, changed, lambda name: f"/{name.replace('~', 'pi0').lstrip('/')}"
            )
            if "has the type" in problem
        ]

    assert found() == []
    (image,) = found(**{"/front/image_raw/compressed": ["sensor_msgs/msg/Image"]})
    assert "sensor_msgs/msg/Image, the node subscribes to sensor_msgs/msg/CompressedImage" in image
    (sent,) = found(**{"/pi0/joint_trajectory": ["std_msgs/msg/String"]})
    assert "the node publishes trajectory_msgs/msg/JointTrajectory" in sent
    (stop,) = found(**{"/emergency_stop": ["std_msgs/msg/Empty"]})
    assert "(emergency stop)" in stop
    (beat,) = found(**{"/deadman": ["std_msgs/msg/Empty"]})
    assert "(deadman)" in beat
    # The right one is there as well: not the node's to refuse.
    assert found(**{"/joint_states": ["a/msg/B", "sensor_msgs/msg/JointState"]}) == []


def test_the_check_reads_no_weights(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pi0_ros.checkpoint.checkpoint as module

    def never(*arguments: Any) -> None:
        raise AssertionError("the weights were read")

    monkeypatch.setattr(module, "load_weights", never)
    assert problems(checkpoint) == []
    with pytest.raises(AssertionError, match="the weights were read"):
        load_policy(configure(checkpoint=str(checkpoint), joints=JOINTS))


def test_the_home_directory_in_the_checkpoint_and_the_tokenizer(
    demo_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pi0_ros.policy.prompt import TokenizerError

    monkeypatch.setenv("HOME", str(demo_checkpoint.parent))
    here = f"~/{demo_checkpoint.name}"
    parameters = {"checkpoint": here, "joints": JOINTS, "graph": "eager"}
    policy = load_policy(configure(**parameters, tokenizer=here))
    assert policy.horizon == 50
    with pytest.raises(TokenizerError, match=f"{demo_checkpoint.parent}/elsewhere"):
        load_policy(configure(**parameters, tokenizer="~/elsewhere"))
    elsewhere = preflight(configure(**parameters, tokenizer="~/elsewhere"), None)
    assert any(f"{demo_checkpoint.parent}/elsewhere" in problem for problem in elsewhere)


def test_trained_chunking_needs_a_checkpoint_that_was_trained_so(checkpoint: Path) -> None:
    (problem,) = problems(checkpoint, rtc="trained")
    assert "set rtc to guided" in problem and "rtc_max_delay" in problem
    assert problems(checkpoint, rtc="trained", rtc_max_delay=8) == []
    assert problems(checkpoint, rtc="guided") == []
