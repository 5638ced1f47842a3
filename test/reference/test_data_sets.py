"""Data sets beside LeRobot's own: its loader reads what `pi0 convert` writes, and this package
reads what LeRobot 0.3.3 (v2.1) and 0.6.1 (v3.0) write.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reference.oracle_runner import oracle_environment, reference_dir
from support.recordings import arm_at_work, parse, write_bag, write_params

pytest.importorskip("pyarrow")
pytest.importorskip("av")

from pi0_ros.bags.messages import decode
from pi0_ros.convert import command as convert
from pi0_ros.datasets.episode import open_episode
from pi0_ros.datasets.layout import open_data_set
from pi0_ros.node.arguments import write_arguments
from pi0_ros.node.interface import read_interface

JOINTS, FPS, EPISODES, LENGTH = ("pan", "lift", "gripper"), 10, 2, 6
"""Of what `reference.oracle_data_set` writes."""
VERSIONS = {"0.3.3": "v2.1", "0.6.1": "v3.0"}


def lerobot(version: str, verb: str, path: Path, home: Path) -> Any:
    """What LeRobot's data set printed as JSON; None of nothing."""
    import av

    if version == "0.6.1" and not hasattr(av, "option"):
        pytest.skip(f"LeRobot 0.6.1 reads av.option, which PyAV {av.__version__} has no more")
    folder = reference_dir("data-sets")
    env = oracle_environment(version, folder) | {"HF_HOME": str(home)}
    # httpx, which `datasets` needs, lies beside LeRobot 0.6.1; pyarrow and av may lie in a path of
    # the caller's.
    more = [folder / "data-sets", folder / "lerobot-0.6.1", os.environ.get("PYTHONPATH", "")]
    env["PYTHONPATH"] = os.pathsep.join([env["PYTHONPATH"], *map(str, more)])
    command = [sys.executable, "-m", "reference.oracle_data_set", verb, str(path)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return json.loads(lines[-1]) if lines else None


def test_lerobots_loader_reads_what_was_converted(tmp_path):
    joints = ("shoulder", "elbow", "gripper")
    bag = write_bag(tmp_path / "bag", arm_at_work(2.0, camera_hz=30))
    scales = "".join(f"\n        {name}: {{scale: 0.5}}" for name in joints)
    params = write_params(tmp_path / "robot.yaml", joints, action_dt=0.1, joint=scales)
    out = tmp_path / "set"
    assert convert.run(parse(convert, "convert", [bag, out, "--params", params])) == 0
    found = lerobot("0.6.1", "read", out, tmp_path)
    data = open_data_set(out)
    recording = open_episode(
        data, 0, read_interface(write_arguments([params], {"checkpoint": "none"})).parameters
    )
    frames = found["frames"]
    assert (found["fps"], found["episodes"], len(frames)) == (10, 1, recording.episode.length)
    assert {frame["task"] for frame in frames} == {"touch the red cube"}
    assert np.allclose([f["time"] for f in frames], np.arange(len(frames)) / 10)
    state = recording.radians("observation.state")
    assert np.allclose(np.array([f["state"] for f in frames]) * 0.5, state, atol=1e-6)
    kind = "sensor_msgs/msg/Image"
    for camera in ("observation.images.front", "observation.images.wrist"):
        ours = [np.mean(decode(m.data, kind).data) for m in recording.messages({camera: kind})]
        assert np.allclose([f["grey"][camera] for f in frames], ours, atol=1.5)
    statistics = found["statistics"]
    actions = np.array([f["action"] for f in frames])
    assert np.allclose(frames[3]["chunk"], actions[3:7])
    assert np.allclose(statistics["action"]["mean"], actions.mean(0), atol=1e-5)
    assert np.allclose(statistics["action"]["q99"], np.quantile(actions, 0.99, axis=0), atol=1e-5)
    assert np.shape(statistics["observation.images.front"]["std"]) == (3, 1, 1)


@pytest.mark.parametrize("version", VERSIONS)
def test_what_lerobot_writes_is_read(version, tmp_path):
    path = tmp_path / "set"
    lerobot(version, "write", path, tmp_path)
    params = write_params(tmp_path / "robot.yaml", JOINTS)
    parameters = read_interface(write_arguments([params], {"checkpoint": "none"})).parameters
    data = open_data_set(path)
    assert (data.version, data.fps, len(data.episodes)) == (VERSIONS[version], FPS, EPISODES)
    recording = open_episode(data, 1, parameters)
    assert recording.tasks == ["task 1"] * LENGTH
    expected = np.arange(LENGTH)[:, None] + np.arange(3) * 10 + 1
    assert np.allclose(recording.radians("observation.state"), expected)
    assert np.allclose(recording.radians("action"), expected + 1)
    kind, name = "sensor_msgs/msg/Image", "observation.images.front"
    greys = [np.mean(decode(m.data, kind).data) for m in recording.messages({name: kind})]
    assert np.allclose(greys, 20 * np.arange(LENGTH), atol=3)
