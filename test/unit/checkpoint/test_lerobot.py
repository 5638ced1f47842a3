"""LeRobot 0.5 to 0.6.1: relative actions, contradictions, statistics as fine-tunes have them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pi0_ros.checkpoint.directory import CONFIG
from pi0_ros.checkpoint.errors import CheckpointError
from pi0_ros.checkpoint.formats import read_checkpoint
from pi0_ros.checkpoint.steps import POSTPROCESSOR, PREPROCESSOR
from pi0_ros.policy.policy import Policy
from pi0_ros.policy.types import Observation

NAMES = [
    "shoulder_pan.pos",
    "shoulder_lift.pos",
    "elbow_flex.pos",
    "wrist_flex.pos",
    "wrist_roll.pos",
    "Gripper.pos",
]
ALL = (True,) * 6
Edit = Callable[[dict[str, Any]], object]


@pytest.fixture
def copy(demo_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(demo_checkpoint, tmp_path / "checkpoint"))


def edit(file: Path, change: Edit) -> None:
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))


def step(file: Path, name: str, change: Edit) -> None:
    """Change the settings of a step."""

    def one(document: dict[str, Any]) -> None:
        (found,) = [s for s in document["steps"] if s["registry_name"] == name]
        change(found["config"])

    edit(file, one)


def refused(path: Path) -> str:
    with pytest.raises(CheckpointError) as error:
        read_checkpoint(path)
    return str(error.value)


def add_steps(
    path: Path,
    enabled: bool = True,
    names: list[str] | None = None,
    exclude: tuple[str, ...] = ("gripper",),
    relative: str = "relative_actions_processor",
) -> None:
    """What LeRobot from 0.5.1 writes."""
    settings = {"enabled": enabled, "exclude_joints": list(exclude), "action_names": names}
    before = {"registry_name": relative, "config": settings}
    after = {"registry_name": "absolute_actions_processor", "config": {"enabled": enabled}}
    edit(path / PREPROCESSOR, lambda d: d["steps"].insert(5, before))
    edit(path / POSTPROCESSOR, lambda d: d["steps"].insert(1, after))
    declared = {"use_relative_actions": enabled, "relative_exclude_joints": list(exclude)}
    edit(path / CONFIG, lambda d: d.update(declared, action_feature_names=names))


@pytest.mark.parametrize("name", ["relative_actions_processor", "delta_actions_processor"])
def test_disabled_steps_are_nothing(copy: Path, name: str) -> None:
    add_steps(copy, enabled=False, relative=name)
    read = read_checkpoint(copy)
    assert (read.action_mode, read.delta_mask) == ("absolute", None)


@pytest.mark.parametrize(
    "names,exclude,mask",
    [
        (NAMES, ("gripper",), (True,) * 5 + (False,)),
        (NAMES, ("WRIST", "pan"), (False, True, True, False, False, True)),
        (NAMES, (), ALL),
        (NAMES, ("",), ALL),
        (None, ("gripper",), ALL),
        (NAMES[3:], ("gripper",), (True, True, False, True, True, True)),
        ([*NAMES, "base"], ("gripper",), (True,) * 5 + (False,)),
    ],
)
def test_the_mask_of_relative_actions(
    copy: Path, names: list[str] | None, exclude: tuple[str, ...], mask: tuple[bool, ...]
) -> None:
    add_steps(copy, names=names, exclude=exclude)
    read = read_checkpoint(copy)
    assert (read.action_mode, read.delta_mask) == ("delta", mask)


def test_relative_actions_are_added_to_the_state(copy: Path, demo_checkpoint: Path) -> None:
    add_steps(copy, names=NAMES)
    image = np.zeros((480, 640, 3), np.uint8)
    state = np.array([0.5, -0.5, 0.25, 1.0, 2.0, 0.125], np.float32)
    observation = Observation({"front": image, "wrist": image}, state, "push the cube")
    absolute, relative = (Policy.load(path).infer(observation) for path in (demo_checkpoint, copy))
    moved = relative.positions - absolute.positions
    expected = np.where([True] * 5 + [False], state, 0.0)
    np.testing.assert_allclose(moved, np.broadcast_to(expected, moved.shape), atol=1e-6)


def test_parameters_must_not_contradict_relative_actions(copy: Path) -> None:
    add_steps(copy, names=NAMES)
    with pytest.raises(ValueError, match="contradicts the checkpoint, whose actions are delta"):
        Policy.load(copy, action_mode="absolute")
    with pytest.raises(ValueError, match="whose relative actions are"):
        Policy.load(copy, action_mode="delta", delta_mask=[True] * 6)
    mask = [True] * 5 + [False]
    Policy.load(copy, action_mode="delta", delta_mask=mask)


CONTRADICTIONS: dict[str, tuple[Callable[[Path], object], str]] = {
    "relative actions without steps": (
        lambda p: edit(p / CONFIG, lambda d: d.update(use_relative_actions=True)),
        "use_relative_actions is True, but the processors' steps are disabled or not there",
    ),
    "steps without relative actions": (
        lambda p: (
            add_steps(p),
            edit(p / CONFIG, lambda d: d.update(use_relative_actions=False)),
        ),
        "use_relative_actions is False, but the processors' steps are enabled",
    ),
    "one direction only": (
        lambda p: (
            add_steps(p),
            step(
                p / POSTPROCESSOR, "absolute_actions_processor", lambda c: c.update(enabled=False)
            ),
        ),
        "converted in one direction only",
    ),
    "other excluded joints": (
        lambda p: (
            add_steps(p, names=NAMES),
            edit(p / CONFIG, lambda d: d.update(relative_exclude_joints=[])),
        ),
        "relative_exclude_joints is (), the step has ('gripper',)",
    ),
    "relative after normalised": (
        lambda p: (add_steps(p), edit(p / PREPROCESSOR, lambda d: d["steps"].reverse())),
        "the order must be relative_actions_processor, then normalizer_processor",
    ),
    "a step twice": (
        lambda p: edit(p / POSTPROCESSOR, lambda d: d["steps"].append(d["steps"][0])),
        "has the step 'unnormalizer_processor' twice",
    ),
    "a step of the other processor": (
        lambda p: edit(
            p / POSTPROCESSOR,
            lambda d: d["steps"].append({"registry_name": "normalizer_processor"}),
        ),
        "has the step 'normalizer_processor', which this package does not know there",
    ),
    "longer prompts": (
        lambda p: step(p / PREPROCESSOR, "tokenizer_processor", lambda c: c.update(max_length=64)),
        "max_length is 64, config.json and the model need 48",
    ),
    "padded on the left": (
        lambda p: step(
            p / PREPROCESSOR, "tokenizer_processor", lambda c: c.update(padding_side="left")
        ),
        "padding_side is 'left'",
    ),
    "another tokenizer": (
        lambda p: step(
            p / PREPROCESSOR, "tokenizer_processor", lambda c: c.update(tokenizer_name="gpt2")
        ),
        "tokenizer_name is 'gpt2'",
    ),
    "no new line": (
        lambda p: edit(p / PREPROCESSOR, lambda d: d["steps"].pop(2)),
        "no step 'pi0_new_line_processor'",
    ),
    "migrated": (
        lambda p: edit(p / CONFIG, lambda d: d.update(resize_imgs_with_padding=[224, 224])),
        "resize_imgs_with_padding is a setting of LeRobot up to 0.3",
    ),
    "ALOHA": (
        lambda p: edit(p / CONFIG, lambda d: d.update(adapt_to_pi_aloha=True)),
        "adapt_to_pi_aloha is set",
    ),
    "depth": (
        lambda p: edit(
            p / CONFIG,
            lambda d: d["input_features"]["observation.images.front"].update(shape=[1, 480, 640]),
        ),
        "observation.images.front: the images have shape [1, 480, 640]",
    ),
    "memory": (
        lambda p: edit(p / CONFIG, lambda d: d.update(use_proprioceptive_memory=True)),
        "a policy with memory of earlier observations (MEM)",
    ),
    "several observations": (
        lambda p: edit(p / CONFIG, lambda d: d.update(n_obs_steps=2)),
        "n_obs_steps is not 1",
    ),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_contradictions_are_refused(copy: Path, name: str) -> None:
    bend, expected = CONTRADICTIONS[name]
    bend(copy)
    assert expected in refused(copy)


def test_all_contradictions_make_one_list(copy: Path) -> None:
    names = ["relative actions without steps", "longer prompts", "no new line", "migrated", "ALOHA"]
    names += ["depth", "memory"]
    # The step that goes is the second; so those that are found by their name are changed first.
    for name in names:
        CONTRADICTIONS[name][0](copy)
    message = refused(copy)
    assert all(CONTRADICTIONS[name][1] in message for name in names)
    assert message.count("\n  - ") == len(names)


@pytest.mark.parametrize("feature", ["observation.state", "action"])
def test_a_feature_of_the_base_s_size_takes_the_statistics_size(copy: Path, feature: str) -> None:
    key = "output_features" if feature == "action" else "input_features"
    edit(copy / CONFIG, lambda d: d[key][feature].update(shape=[32]))
    read = read_checkpoint(copy)
    assert (read.joints, read.state.size, read.action.size) == (6, 6, 6)


def test_statistics_in_bfloat16(copy: Path, demo_checkpoint: Path) -> None:
    for file in copy.glob("policy_*.safetensors"):
        save_file({k: v.bfloat16() for k, v in load_file(file).items()}, file)
    read, exact = read_checkpoint(copy), read_checkpoint(demo_checkpoint)
    rounded = torch.tensor(exact.state.scale).bfloat16().float().numpy()
    np.testing.assert_allclose(read.state.scale, rounded, rtol=1e-6)


def test_a_feature_without_images_in_its_name_is_a_camera(copy: Path) -> None:
    def rename(document: dict[str, Any]) -> None:
        inputs = document["input_features"]
        inputs["observation.image"] = inputs.pop("observation.images.front")

    edit(copy / CONFIG, rename)
    assert set(read_checkpoint(copy).cameras) == {"image", "wrist"}


def test_what_an_editor_of_windows_leaves(copy: Path) -> None:
    file = copy / CONFIG
    file.write_bytes(b"\xef\xbb\xbf" + file.read_text().replace("\n", "\r\n").encode())
    assert read_checkpoint(copy).joints == 6


def test_the_demo_s_statistics_are_the_arm_s(demo_checkpoint: Path) -> None:
    """Strided arrays were once written in the wrong order."""
    from pi0_ros.checkpoint.random import JOINTS

    mean, deviation = zip(*JOINTS.values(), strict=True)
    read = read_checkpoint(demo_checkpoint)
    for norm in (read.state, read.action):
        np.testing.assert_allclose(norm.offset, mean, rtol=1e-6)
        np.testing.assert_allclose(norm.inverse_scale, deviation, rtol=1e-6)


@pytest.mark.parametrize("declared", [None, 0, 10])
def test_the_delay_that_a_policy_was_trained_with(copy: Path, declared: int | None) -> None:
    edit(copy / CONFIG, lambda d: d.update(rtc_training_max_delay=declared))
    assert read_checkpoint(copy).rtc_max_delay == (declared or 0)


@pytest.mark.parametrize("declared", [-1, 50, "ten", 2.5])
def test_a_delay_beyond_the_chunk_is_refused(copy: Path, declared: object) -> None:
    edit(copy / CONFIG, lambda d: d.update(rtc_training_max_delay=declared))
    assert "rtc_training_max_delay must be" in refused(copy)
