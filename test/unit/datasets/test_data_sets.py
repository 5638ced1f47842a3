"""LeRobot data sets: read as recordings, taken by replay, eval and diff."""

from __future__ import annotations

import numpy as np
import pytest
from support.data_sets import JOINTS, MAKERS, episode_of, interface_of, numbers, shade, write_robot
from support.recordings import SIX, FakePolicy, parse, run_offline

from pi0_ros.bags.bag import BagError
from pi0_ros.bags.messages import decode
from pi0_ros.datasets.episode import BEGIN, playing
from pi0_ros.datasets.layout import chosen_episodes, open_data_set
from pi0_ros.diff import command as diff
from pi0_ros.errors import UserError
from pi0_ros.eval import command as evaluation
from pi0_ros.eval.command import make_jobs


@pytest.mark.parametrize("version", MAKERS)
def test_an_episode_is_a_recording(sets, version, tmp_path):
    params = write_robot(tmp_path / "robot.yaml")
    recording = episode_of(sets[version], 2, params)
    begin = BEGIN + 12 * 100_000_000
    assert (recording.start, recording.end) == (begin, begin + 500_000_000)
    topics = {topic.name: topic.count for topic in recording.topics}
    assert topics == {
        "action": 6,
        "observation.images.front": 6,
        "observation.images.wrist": 6,
        "observation.state": 6,
        "task": 1,
    }
    types = {topic.name: topic.type for topic in recording.topics}
    seen: dict[str, list] = {name: [] for name in types}
    times = []
    for message in recording.messages(types):
        times.append(message.time)
        seen[message.topic].append(decode(message.data, types[message.topic]))
    assert times == sorted(times)
    assert [m.data for m in seen["task"]] == ["task 0"]
    radians = numbers(2) * 0.5 + 0.25
    states = seen["observation.state"]
    assert list(states[0].name) == list(JOINTS)
    assert np.allclose([m.position for m in states], radians)
    assert np.allclose([m.position for m in seen["action"]], radians + 0.5)
    lead = seen["action"][0].header.stamp.nanosec - states[0].header.stamp.nanosec
    assert lead == 100_000_000
    for i, camera in enumerate(("front", "wrist")):
        for k, message in enumerate(seen[f"observation.images.{camera}"]):
            assert abs(np.mean(message.data) - shade(2, k, i)) < 3, (camera, k)


def test_cameras_are_found_by_name_and_state_by_joint(sets, tmp_path):
    params = write_robot(tmp_path / "robot.yaml", ("gripper", "pan", "lift"))
    interface = interface_of(params)
    recording = episode_of(sets["v3.0"], 0, params)
    _, played = playing(recording, interface)
    assert played["observation.images.wrist"] == "/wrist/image_raw"
    assert played["observation.state"] == "/joint_states"
    assert np.allclose(recording.radians("observation.state")[0], [25.25, 0.25, 5.25])


def test_joints_of_other_names_are_taken_in_order_and_that_is_said(sets, tmp_path, capsys):
    params = write_robot(tmp_path / "robot.yaml", ("j1", "j2", "j3"))
    recording = episode_of(sets["v3.0"], 0, params)
    assert np.allclose(recording.radians("observation.state")[0], [0.25, 5.25, 25.25])
    assert "names its joints pan, lift, gripper; taken in this order" in capsys.readouterr().err


@pytest.mark.parametrize("joints", [SIX, ("pan", "lift", "hand")])
def test_joints_of_another_robot_are_told(sets, tmp_path, joints):
    with pytest.raises(BagError, match="has 3 numbers: pan, lift, gripper; the parameters have"):
        episode_of(sets["v3.0"], 0, write_robot(tmp_path / "robot.yaml", joints))


def test_episodes_are_chosen_by_number(sets):
    data = open_data_set(sets["v2.1"])
    assert chosen_episodes(data, "") == [0, 1, 2]
    assert chosen_episodes(data, "2,0-1, 1") == [2, 0, 1]
    for wrong in ("3", "1-9", "a", "0,,1", "2-1", "-1"):
        with pytest.raises(BagError, match="--episodes"):
            chosen_episodes(data, wrong)


@pytest.mark.parametrize("version", MAKERS)
def test_replay_eval_and_diff_take_data_sets(sets, version, tmp_path, no_plots, capsys):
    params = write_robot(tmp_path / "robot.yaml", max_jump=7.0)
    (tmp_path / "checkpoint").mkdir()
    common = ["--checkpoint", tmp_path / "checkpoint", "--params", params]
    with pytest.raises(UserError, match="has 3: give --episodes N"):
        run_offline([sets[version], "--deterministic", *common])
    out = tmp_path / "out"
    argv = [sets[version], "--deterministic", "--episodes", "1", *common, "--out", out]
    policies = []

    def make(parameters):
        policies.append(FakePolicy(parameters))
        return policies[-1]

    assert run_offline(argv, make) == 0
    seen = policies[0].seen
    assert [o.instruction for o in seen] == ["task 1"] * 6
    assert np.allclose([o.state for o in seen], numbers(1) * 0.5 + 0.25)
    assert np.allclose(
        [o.images["wrist"].mean() for o in seen], [shade(1, k, 1) for k in range(6)], atol=3
    )
    args = parse(diff, "diff", [out, sets[version], "--episodes", "1", "--params", params])
    assert diff.run(args) == 1
    assert "6 in A, 6 in B" in capsys.readouterr().out
    jobs = make_jobs(parse(evaluation, "eval", [sets[version], "--episodes", "0,2", *common]))
    assert [job.episode for job in jobs] == [0, 2]
    assert jobs[1].name.endswith("episode 2")


def test_a_live_replay_of_a_data_set_says_what_to_do(sets, tmp_path):
    from pi0_ros.replay import command as replay

    args = parse(replay, "replay", [sets["v3.0"], "--checkpoint", tmp_path])
    with pytest.raises(UserError, match="replay it with --deterministic"):
        replay.run(args)
