"""Recordings become episodes of a LeRobot data set."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support.data_sets import episode_of, interface_of, write_robot
from support.recordings import (
    START,
    arm_at_work,
    joint_state,
    motion,
    parse,
    text,
    write_bag,
    write_params,
)

from pi0_ros.bags.bag import BagError
from pi0_ros.convert import command as convert
from pi0_ros.datasets.episode import open_episode
from pi0_ros.datasets.layout import is_data_set, open_data_set
from pi0_ros.errors import UserError

# Bags to a data set -------------------------------------------------------------------------------


def convert_bags(*argv: object) -> int:
    return convert.run(parse(convert, "convert", argv))


def test_bags_become_episodes_by_instruction(tmp_path, capsys):
    entries = arm_at_work(4.0, camera_hz=30)
    entries.append((START + 2_000_000_000, "/instruction", text("touch the blue cube")))
    bags = [write_bag(tmp_path / "one", entries), write_bag(tmp_path / "two", arm_at_work(2.0))]
    three = ("shoulder", "elbow", "gripper")
    params = write_robot(tmp_path / "robot.yaml", three, joint_states_max_age=0.5)
    out = tmp_path / "set"
    assert convert_bags(*bags, out, "--params", params) == 0
    data = open_data_set(out)
    assert sorted(data.tasks.values()) == ["touch the blue cube", "touch the red cube"]
    assert len(data.episodes) == 3
    assert "2 frames were left out: missing" in capsys.readouterr().out
    recording = open_episode(data, 1, interface_of(params).parameters)
    assert recording.tasks == ["touch the blue cube"] * recording.episode.length
    state, action = (recording.radians(name) for name in ("observation.state", "action"))
    # The state at the images' time, the action a period of 0.1 s later.
    assert np.allclose(action[:-1], state[1:], atol=0.01)
    begin = float(np.arcsin(state[0, 0] / 0.5))
    assert np.allclose(state[0], motion(begin / 2.0, 3), atol=0.01) or begin
    statistics = json.loads((out / "meta" / "stats.json").read_text())
    scaled = (np.concatenate([recording.radians("action")]) - 0.25) / 0.5
    assert statistics["action"]["max"][0] >= scaled[:, 0].max() - 1e-5
    assert np.shape(statistics["observation.images.front"]["mean"]) == (3, 1, 1)
    assert not is_data_set(bags[0])


def test_an_observation_that_the_node_refuses_ends_an_episode(tmp_path, capsys):
    entries = [e for e in arm_at_work(4.0, camera_hz=30) if not 1.5 < (e[0] - START) / 1e9 < 2.5]
    bag = write_bag(tmp_path / "bag", entries)
    three = ("shoulder", "elbow", "gripper")
    params = write_robot(tmp_path / "robot.yaml", three)
    out = tmp_path / "set"
    assert convert_bags(bag, out, "--params", params, "--json", tmp_path / "figures.json") == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert len(figures["episodes"]) == 2
    assert figures["refused"]["stale"] > 3
    with pytest.raises(UserError, match="--overwrite"):
        convert_bags(bag, out, "--params", params)
    assert convert_bags(bag, out, "--params", params, "--least", "3", "--overwrite") == 1
    assert "2 episodes shorter than 3 s were left out" in capsys.readouterr().out
    assert not is_data_set(out) and not list(out.glob("**/*.mp4"))


def test_commands_are_the_actions_where_asked_for(tmp_path):
    entries = arm_at_work(2.0, camera_hz=30)
    entries += [
        (START + k * 10_000_000, "/leader", joint_state(START + k * 10_000_000, THREE, np.ones(3)))
        for k in range(220)
    ]
    bag = write_bag(tmp_path / "bag", entries, types={"/leader": "sensor_msgs/msg/JointState"})
    params = write_robot(tmp_path / "robot.yaml", THREE)
    out = tmp_path / "set"
    assert convert_bags(bag, out, "--params", params, "--target", "/leader") == 0
    recording = episode_of(out, 0, params)
    assert np.allclose(recording.radians("action"), 1.0, atol=1e-6)


THREE = ("shoulder", "elbow", "gripper")


def test_what_convert_needs_for_bags_is_said(tmp_path):
    bag = write_bag(tmp_path / "bag", arm_at_work(1.0))
    with pytest.raises(UserError, match="give its parameter file as --params"):
        convert_bags(bag, tmp_path / "set")
    with pytest.raises(UserError, match="no rosbag2 recordings"):
        convert_bags(tmp_path, tmp_path, tmp_path / "set")
    params = write_params(tmp_path / "robot.yaml", THREE, action_dt=0.15)
    with pytest.raises(BagError, match=r"6\.67 frames per second"):
        convert_bags(bag, tmp_path / "set", "--params", params)
