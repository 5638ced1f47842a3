"""pi0 replay --deterministic: the same files to the byte, and errors in one sentence."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.recordings import (
    SIX,
    START,
    THREE,
    FakePolicy,
    arm_at_work,
    joint_state,
    motion,
    run_offline,
    write_bag,
    write_params,
)

from pi0_ros import cli
from pi0_ros.bags.bag import open_bag
from pi0_ros.bags.messages import SAMPLES_TYPE, decode
from pi0_ros.bags.results import read_results
from pi0_ros.errors import UserError

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def bag(tmp_path_factory) -> Path:
    return write_bag(tmp_path_factory.mktemp("offline") / "bag", arm_at_work(seconds=1.0))


@pytest.fixture
def argv(bag, tmp_path) -> list[str]:
    params = write_params(tmp_path / "params.yaml")
    return [str(bag), "--deterministic", "--checkpoint", str(tmp_path), "--params", str(params)]


def contents(folder: Path) -> dict[str, bytes]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.usefixtures("no_plots")
def test_the_results_are_what_a_replay_over_dds_leaves(argv, tmp_path, storage, capsys):
    recording = write_bag(tmp_path / "other", arm_at_work(seconds=1.0), storage)
    out = tmp_path / "out"
    figures = tmp_path / "figures.json"
    words = [str(recording), *argv[1:], "--out", out, "--json", figures]
    assert run_offline(words) == 0
    printed = capsys.readouterr().out
    assert "1.0 s deterministic" in printed
    assert "warning: chunks.png needs matplotlib, which is not installed" in printed
    assert not (out / "chunks.png").exists()
    assert "observations refused                               1 (missing 1)" in printed
    found = json.loads(figures.read_text())
    assert (found["chunks"], found["ticks"], found["busy_ticks"]) == (9, 10, 0)
    assert found["inference_ms"]["p50"] > 0
    kept = json.loads((out / "figures.json").read_text())
    assert kept["inference_ms"] == {"p50": None, "p95": None}, "it differs from run to run"
    assert kept.pop("units") == dict.fromkeys(("shoulder", "elbow", "gripper"), "rad")
    assert {**kept, "inference_ms": 0} == {
        **found, "inference_ms": 0, "latency_s": 0.0, "enabled": False,
    }  # fmt: skip

    results = read_results(out)
    assert [timed.time for timed in results.chunks] == [START + k * 10**8 for k in range(1, 10)]
    first = results.chunks[0]
    assert first.chunk.instruction == "touch the red cube"
    assert first.chunk.camera_names == ("front", "wrist")
    assert first.camera_stamps == (START + 53_000_000, START + 57_000_000)
    assert first.chunk.positions.shape == (50, 3)
    np.testing.assert_allclose(first.chunk.positions[0], motion(0.053, 3), atol=2e-3)
    suffix = {"mcap": ".mcap", "sqlite3": ".db3"}[storage]
    assert [file.suffix for file in (out / "bag").glob("bag.*")] == [suffix]


def test_the_same_inputs_give_the_same_files_to_the_byte(argv, tmp_path):
    for name in ("a", "b"):
        assert run_offline([*argv, "--out", tmp_path / name]) == 0
    a, b = contents(tmp_path / "a"), contents(tmp_path / "b")
    assert set(a) == {"bag/bag.mcap", "bag/metadata.yaml", "chunks.png", "figures.json"}
    assert a == b
    # And another seed others.
    assert run_offline([*argv, "--out", tmp_path / "c", "--ros-args", "-p", "seed:=1"]) == 0
    assert contents(tmp_path / "c")["bag/bag.mcap"] != a["bag/bag.mcap"]


NO_ROS = """
import sys
for name in ("rclpy", "pi0_ros.msg", "sensor_msgs", "std_msgs", "trajectory_msgs"):
    sys.modules[name] = None  # importing it fails
from pi0_ros.cli import main
raise SystemExit(main(sys.argv[1:]))
"""


def test_a_real_checkpoint_without_ros_in_another_process(demo_checkpoint, tmp_path, capsys):
    recording = write_bag(tmp_path / "bag", arm_at_work(seconds=0.6, joints=SIX))
    params = write_params(tmp_path / "params.yaml", SIX)
    words = ["replay", recording, "--deterministic", "--checkpoint", demo_checkpoint]
    words = [str(word) for word in [*words, "--params", params, "--out"]]
    command = [sys.executable, "-c", NO_ROS, *words, str(tmp_path / "a")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    threads = torch.get_num_threads()
    assert cli.main([*words, str(tmp_path / "b")]) == 0
    torch.set_num_threads(threads)  # the parameters say 1
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    chunks = read_results(tmp_path / "a").chunks
    assert [timed.chunk.sequence for timed in chunks] == [1, 2, 3, 4, 5]
    assert np.abs(chunks[0].chunk.positions - chunks[1].chunk.positions).max() > 1e-3


@pytest.mark.usefixtures("no_plots")
def test_chunks_are_computed_again_from_their_observations_and_noise(argv, tmp_path, capsys):
    # Ticks elsewhere than on the grid of the default rate.
    first = [*argv, "--out", tmp_path / "a", "--ros-args", "-p", "rate_hz:=7.0"]
    assert run_offline(first) == 0
    words = [*argv, "--out", tmp_path / "b", "--again", tmp_path / "a"]
    assert run_offline(words) == 0
    a, b = read_results(tmp_path / "a").chunks, read_results(tmp_path / "b").chunks
    assert len(a) == len(b) == 6
    for x, y in zip(a, b, strict=True):
        assert (x.chunk.stamp, x.chunk.sequence) == (y.chunk.stamp, y.chunk.sequence)
        assert x.camera_stamps == pytest.approx(y.camera_stamps, abs=2000)
        np.testing.assert_array_equal(x.chunk.positions, y.chunk.positions)
    capsys.readouterr()
    # What this recording does not show is told.
    other = write_bag(tmp_path / "other", arm_at_work(seconds=0.5))
    assert run_offline([other, *words[1:], "--overwrite"]) == 0
    assert "warning: 3 chunks were not computed again" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"with seed 0, the parameters say 4"):
        run_offline([*words, "--overwrite", "--ros-args", "-p", "seed:=4"])
    with pytest.raises(UserError, match="neither --enable nor --latency"):
        run_offline([*words, "--latency", "0.1", "--overwrite"])


@pytest.mark.usefixtures("no_plots")
def test_chunks_from_joint_states_in_parts_are_computed_again(argv, tmp_path):
    entries = []
    for at, topic, message in arm_at_work(seconds=1.0):
        if topic == "/joint_states":
            names, position = list(message.name), np.array(message.position)
            # The last joint's publisher is slow, so that its sample is the state's oldest part.
            if at // 10_000_000 % 8 == 0:
                entries.append((at, topic, joint_state(at, names[-1:], position[-1:])))
            message = joint_state(at, names[:-1], position[:-1])
        entries.append((at, topic, message))
    parts = write_bag(tmp_path / "parts", entries)
    assert run_offline([parts, *argv[1:], "--out", tmp_path / "a"]) == 0
    assert run_offline([parts, *argv[1:], "--out", tmp_path / "b", "--again", tmp_path / "a"]) == 0
    a, b = read_results(tmp_path / "a").chunks, read_results(tmp_path / "b").chunks
    assert len(a) == len(b) == 9
    assert any(min(t.camera_stamps) - t.state_stamp > 5_000_000 for t in a)
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x.chunk.positions, y.chunk.positions)


@pytest.mark.usefixtures("no_plots")
def test_an_observation_with_a_lost_image_is_put_together_again(argv, tmp_path):
    """What a node saw that lost an image of one camera never comes up in the recording."""
    entries = arm_at_work(seconds=1.0)
    lost = START + 453_000_000
    some = [e for e in entries if (e[0], e[1]) != (lost, "/front/image_raw")]
    lossy = write_bag(tmp_path / "lossy", some)
    wide = ["--ros-args", "-p", "max_skew:=0.2"]
    assert run_offline([lossy, *argv[1:], "--out", tmp_path / "a", *wide]) == 0
    assert run_offline([*argv, "--out", tmp_path / "b", "--again", tmp_path / "a", *wide]) == 0
    a, b = read_results(tmp_path / "a").chunks, read_results(tmp_path / "b").chunks
    odd = [t for t in a if t.camera_stamps[1] - t.camera_stamps[0] > 100_000_000]
    assert (len(odd), len(a), len(b)) == (1, 9, 9)
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x.chunk.positions, y.chunk.positions)
        assert x.camera_stamps == pytest.approx(y.camera_stamps, abs=2000)


@pytest.mark.usefixtures("no_plots")
@pytest.mark.parametrize("parts", [False, True])
def test_an_observation_with_late_joint_states_is_put_together_again(argv, tmp_path, capsys, parts):
    """A busy node has images whose joint states wait in its queue."""
    entries = []
    for at, topic, message in arm_at_work(seconds=1.0):
        if parts and topic == "/joint_states":
            names, position = list(message.name), np.array(message.position)
            entries.append((at, topic, joint_state(at, names[:1], position[:1])))
            message = joint_state(at, names[1:], position[1:])
        entries.append((at, topic, message))
    late = range(START + 420_000_000, START + 510_000_000)
    some = [e for e in entries if e[1] != "/joint_states" or e[0] not in late]
    lossy = write_bag(tmp_path / "lossy", some)
    whole = write_bag(tmp_path / "whole", entries)
    assert run_offline([lossy, *argv[1:], "--out", tmp_path / "a"]) == 0
    assert run_offline([whole, *argv[1:], "--out", tmp_path / "b", "--again", tmp_path / "a"]) == 0
    a, b = read_results(tmp_path / "a").chunks, read_results(tmp_path / "b").chunks
    odd = [t for t in a if t.state_stamp < min(t.camera_stamps) - 20_000_000]
    assert (len(odd), len(a)) == (1, 9)
    said = "warning: 1 chunks were not computed again" in capsys.readouterr().out
    assert (len(b), said) == ((8, True) if parts else (9, False)), "of parts nobody knows which"
    again = {t.chunk.stamp: t for t in b}
    assert again.keys() <= {t.chunk.stamp for t in a}
    for x in a:
        if y := again.get(x.chunk.stamp):
            np.testing.assert_array_equal(x.chunk.positions, y.chunk.positions)


@pytest.mark.usefixtures("no_plots")
def test_old_results_are_left_alone_unless_told(argv, tmp_path):
    words = [*argv, "--out", tmp_path / "out"]
    assert run_offline(words) == 0
    with pytest.raises(UserError, match="exists: choose another --out"):
        run_offline(words)
    assert run_offline([*words, "--overwrite"]) == 0


def write_limits(folder: Path) -> Path:
    file = folder / "limits.yaml"
    entry = "{min_position: -4.0, max_position: 4.0, max_velocity: 4.0, max_acceleration: 60.0}"
    file.write_text("joint_limits:\n" + "".join(f"  {name}: {entry}\n" for name in THREE))
    return file


@pytest.mark.usefixtures("no_plots")
def test_each_output_gets_its_messages(argv, tmp_path):
    """The arm's as trajectories, the gripper's as samples; readers join what belongs together."""
    limits = write_limits(tmp_path)
    first, second, third = THREE
    given = {
        "joint_limits": limits,
        "outputs.one.topic": "/one/joint_trajectory",
        "outputs.one.joints": f"[{second}]",
        "outputs.two.topic": "/two/joint_trajectory",
        "outputs.two.joints": f"[{first}]",
        "outputs.three.topic": "/three/commands",
        "outputs.three.joints": f"[{third}]",
        "outputs.three.type": "std_msgs/Float64MultiArray",
    }
    write_params(tmp_path / "params.yaml", **given)
    out = tmp_path / "out"
    assert run_offline([*argv, "--out", out, "--enable"]) == 0
    figures = json.loads((out / "figures.json").read_text())
    results = read_results(out)
    assert len(results.trajectories) == figures["trajectories"] >= 1
    assert {t.joint_names for t in results.trajectories} == {(second, first)}
    bag = open_bag(out / "bag")
    samples = [
        (message.time, float(decode(message.data, SAMPLES_TYPE).data[0]))
        for message in bag.messages({"/three/commands": SAMPLES_TYPE})
    ]
    times, positions = np.array([t for t, _ in samples]), np.array([p for _, p in samples])
    assert set(np.diff(times)) == {10_000_000}, "100 a second"
    begin = results.trajectories[0].time
    assert times[0] == begin + 10_000_000 and len(times) > 20
    assert np.abs(np.diff(positions)).max() <= 4.0 * 0.01 * 1.002
    # They end at rest, where the last trajectory does.
    assert abs(positions[-1] - positions[-2]) < 1e-3


class Agreeing(FakePolicy):
    """Goes on from what it is given."""

    rtc_max_delay = 12

    def infer(self, observation, noise=None, prefix=None):
        chunk = super().infer(observation, noise)
        if prefix is None:
            return chunk
        return replace(chunk, positions=(chunk.positions + prefix.positions) / 2)


@pytest.mark.usefixtures("no_plots")
def test_real_time_chunking_is_replayed_to_the_byte(argv, tmp_path):
    """With latency: the delay is made of it, and the chunks tell how they were made."""
    limits = write_limits(tmp_path)
    words = [*argv, "--enable", "--latency", "0.1"]
    ros = ["--ros-args", "-p", f"joint_limits:={limits}", "-p", "rtc:=guided"]
    for name in ("a", "b"):
        assert run_offline([*words, "--out", tmp_path / name, *ros], Agreeing) == 0
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    chunks = [timed.chunk for timed in read_results(tmp_path / "a").chunks]
    assert [chunk.rtc for chunk in chunks[:2]] == [0, 0] and chunks[-1].rtc == 1
    assert chunks[1].rtc_fallback == "no delay was measured yet"
    guided = [chunk for chunk in chunks if chunk.rtc]
    # 0.1 s of latency, 0.04 s to the splice point, and the observation's own age.
    assert {7, 8, 9, 10} >= {chunk.rtc_delay for chunk in guided} != set()
    assert all(len(chunk.rtc_weights) == 50 for chunk in guided)
    again = [*argv, "--out", tmp_path / "again", "--again", tmp_path / "a"]
    with pytest.raises(UserError, match=r"a trajectory that is not in it \(real-time chunking\)"):
        run_offline(again, Agreeing)
    assert run_offline([*words, "--out", tmp_path / "off", *ros[:-1], "rtc:=off"], Agreeing) == 0
    off = [timed.chunk for timed in read_results(tmp_path / "off").chunks]
    assert {chunk.rtc for chunk in off} == {0}
    assert not np.array_equal(off[-1].positions, chunks[-1].positions)


def test_enable_needs_limits(argv, tmp_path):
    with pytest.raises(UserError, match="give a file as joint_limits"):
        run_offline([*argv, "--out", tmp_path / "out", "--enable"])
    assert not (tmp_path / "out").exists()


def test_without_a_chunk_the_status_and_a_sentence_say_so(argv, tmp_path, capsys):
    class Mute(FakePolicy):
        def infer(self, observation, noise=None):
            raise RuntimeError("the accelerator is gone")

    assert run_offline([*argv, "--out", tmp_path / "out"], Mute) == 1
    printed = capsys.readouterr()
    assert "no chunk came" in printed.err
    assert "refused (failed), first after 0.10 s: RuntimeError: the accelerator" in printed.out


@pytest.mark.usefixtures("no_plots")
def test_errors_are_one_message(argv, tmp_path, capsys, demo_checkpoint):
    """Through `main`, which never shows a traceback for these."""
    bag, six = argv[0], write_params(tmp_path / "six.yaml", SIX)

    def fails(*words: object) -> str:
        status = cli.main(["replay", *map(str, words)])
        error = capsys.readouterr().err
        assert status == 1 and error.startswith("pi0 replay: "), error
        return error

    rest = ["--deterministic", "--checkpoint", demo_checkpoint, "--out", tmp_path / "out"]
    assert "no such recording" in fails(tmp_path / "nothing", *rest, "--params", six)
    # Three joints for a checkpoint of six.
    error = fails(bag, *rest, "--params", argv[-1])
    assert "3 joints are given, the checkpoint has 6" in error
    # Six joints for a recording of three.
    error = fails(bag, *rest, "--params", six)
    assert "recorded: shoulder, elbow, gripper (3 joints)" in error
    # A folder that is no checkpoint, a parameter of a wrong type, a file that is none.
    error = fails(bag, *argv[1:], "--out", tmp_path / "out")
    assert str(tmp_path) in error
    error = fails(bag, *rest, "--params", six, "--ros-args", "-p", "rate_hz:=fast")
    assert "rate_hz: must be a number, got 'fast'" in error
    error = fails(bag, *rest, "--params", tmp_path / "none.yaml")
    assert "none.yaml: no such file" in error
    error = fails(bag, *rest, "--params", six, "--remap", "/cam:=/front/image_raw")
    assert "/cam is not in the recording" in error
    assert not (tmp_path / "out").exists()


def test_a_recording_cut_in_the_middle_is_one_message(argv, tmp_path, capsys):
    for storage in ("mcap", "sqlite3"):
        whole = write_bag(tmp_path / storage, arm_at_work(seconds=2.0), storage)
        file = next(file for file in whole.iterdir() if file.name != "metadata.yaml")
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        status = cli.main(["replay", str(whole), *argv[1:], "--out", str(tmp_path / "out")])
        error = capsys.readouterr().err
        assert status == 1
        assert "cannot be opened" in error or "damaged" in error
        assert "Traceback" not in error


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--deterministic", "--rate", "2"], "--rate: a deterministic replay has no pace"),
        (["--deterministic", "--latency", "-1"], r"--latency: must be in \[0, 60\)"),
        (["--latency", "1"], "go with --deterministic"),
        (["--check", "d", "--record-golden", "e"], "one at a time"),
        (["--check", "d"], "holds no golden replay"),
        (["--rate", "0"], "--rate: must be above 0 and finite"),
        (["--remap", "a:=b"], "expected FROM:=TO, a recorded topic and an absolute topic name"),
        (["--record-golden", "e", "--out", "f"], "leave --out out"),
        (["--check", "d", "--max-joint", "-1"], "--max-joint: must be a number from 0"),
        (["--check", "d", "--tool", "tip"], "need --urdf"),
    ],
)
def test_wrong_options(options, text, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["replay", "bag", "--checkpoint", "c", *options])
    assert caught.value.code == 2
    assert re.search(text, capsys.readouterr().err)
