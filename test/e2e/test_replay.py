"""Whole replays over DDS with the fake node; needs ROS and the built messages."""

import json
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS is not installed")
pytest.importorskip("pi0_ros.msg", reason="the messages are not built")

from rosbags.highlevel import AnyReader
from support.process import processes_with
from support.waiting import SOON, first_good, wait_until

from pi0_ros import cli
from pi0_ros.node.interface import read_interface
from pi0_ros.replay.case import node_arguments

START = 1_700_000_000_000_000_000
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def run(tmp_path, params, fake_node, capsys, monkeypatch):
    """Runs the command on a recording: run(bag, *options) -> (status, stdout, stderr)."""

    monkeypatch.setattr("pi0_ros.replay.live.NODE_COMMAND", fake_node)

    def call(bag: Path, *options: str) -> tuple[int, str, str]:
        argv = [str(bag), "--checkpoint", str(tmp_path), "--params", str(params)]
        argv += ["--out", str(tmp_path / "out"), "--json", str(tmp_path / "figures.json")]
        status = cli.main(["replay", *argv, *options])
        return status, *capsys.readouterr()

    return call


def messages(path: Path) -> dict[str, list[tuple[int, object]]]:
    """Topic -> (time, message) of a recording, by the definitions that it holds itself."""
    found: dict[str, list[tuple[int, object]]] = {}
    with AnyReader([path]) as reader:
        for connection, time_ns, data in reader.messages():
            message = reader.deserialize(data, connection.msgtype)
            found.setdefault(connection.topic, []).append((time_ns, message))
    return found


def at_rates(attempt: Callable[[str], Any], first: str = "1") -> list[Callable[[], Any]]:
    """A busy machine that loses images or ticks gets more time."""
    return [partial(attempt, rate) for rate in (first, "0.3", "0.1", "0.05")]


def test_a_replay_from_the_recording_to_the_results(run, recording, tmp_path):
    def attempt(rate: str) -> tuple[int, str, dict]:
        status, out, _ = run(recording, "--rate", rate, "--overwrite")
        return status, out, json.loads((tmp_path / "figures.json").read_text())

    def undisturbed(result: tuple[int, str, dict]) -> bool:
        figures = result[2]
        return (
            figures["chunks"] >= 12
            and not figures["refused_after_first_second"]
            and figures["age_ms"]["p95"] < 250
        )

    status, out, figures = first_good(at_rates(attempt), undisturbed)
    assert status == 0
    # 2 s at 10 Hz; the first ticks may come before the first images.
    assert 12 <= figures["chunks"] <= 21
    assert figures["refused_after_first_second"] == {}
    assert figures["frames"] == 120
    assert figures["frames_per_camera"] == {"/front/image_raw": 60, "/wrist/image_raw": 60}
    assert figures["points_per_chunk"] == figures["points_per_chunk_max"] == 50
    assert set(figures["refused"]) <= {"missing", "stale", "skewed"}
    assert 0 < figures["age_ms"]["p50"] <= figures["age_ms"]["p95"] < 250
    assert figures["inference_ms"] == {"p50": pytest.approx(20), "p95": pytest.approx(20)}
    assert figures["duration_s"] == pytest.approx(1.99)
    assert all("does not keep the pace" in warning for warning in figures["warnings"])
    assert f"chunks out                                         {figures['chunks']}\n" in out

    assert (tmp_path / "out" / "node.log").read_text().count("ready") == 1
    recorded = messages(tmp_path / "out" / "bag")
    assert set(recorded) == {"/pi0/action_chunk", "/diagnostics"}, "a dry run"
    chunks = [message for _, message in recorded["/pi0/action_chunk"]]
    assert len(chunks) == figures["chunks"]
    assert [chunk.sequence for chunk in chunks] == list(range(len(chunks)))
    assert chunks[0].instruction == "pick up the cube"
    # In the recording's time, in order, and what the fake policy makes of the joint states.
    times = [time_ns for topic in recorded.values() for time_ns, _ in topic]
    assert min(times) >= START and max(times) <= START + 1_990_000_000
    for chunk in chunks:
        positions = chunk.positions.reshape(chunk.horizon, 3)
        assert chunk.horizon == 50
        # The joints at the time of the stamp, which is the oldest part's, between two messages.
        seconds = chunk.header.stamp.sec - START // 10**9 + chunk.header.stamp.nanosec / 1e9
        assert abs(positions[0, 0] - np.sin(seconds * 100 / 30)) < 2e-4
        np.testing.assert_array_equal(positions, positions[:1].repeat(50, 0))

    cv2 = pytest.importorskip("cv2")
    plot = cv2.imread(str(tmp_path / "out" / "chunks.png")).astype(int)
    assert ((plot.max(2) - plot.min(2)) > 60).sum() > 1000


def test_trajectories_are_recorded_if_the_node_is_enabled(run, recording, tmp_path):
    lines = [
        f"  {joint}: {{has_position_limits: true, min_position: -3.0, max_position: 3.0,"
        " has_velocity_limits: true, max_velocity: 9.0}"
        for joint in ("shoulder", "elbow", "gripper")
    ]
    limits = tmp_path / "limits.yaml"
    limits.write_text("\n".join(["joint_limits:", *lines, ""]))

    def attempt(rate: str) -> tuple[int, str, dict]:
        options = ["--enable", "--rate", rate, "--overwrite"]
        status, _, error = run(recording, *options, "--ros-args", "-p", f"joint_limits:={limits}")
        return status, error, json.loads((tmp_path / "figures.json").read_text())

    attempts = at_rates(attempt)
    status, error, figures = first_good(attempts, lambda result: result[2]["chunks"] > 3)
    assert status == 0, error
    recorded = messages(tmp_path / "out" / "bag")
    moved = len(recorded["/pi0/joint_trajectory"])
    assert moved == figures["trajectories"] >= figures["chunks"] >= 1


def test_sqlite3_faster_than_recorded_with_renamed_topics(run, make_bag, tmp_path):
    topics = ["/cam0/image_raw", "/wrist/image_raw", "/robot/joint_states"]
    bag = make_bag(topics, seconds=2.0, storage="sqlite3")

    def attempt(rate: str) -> tuple[int, str, str]:
        return run(
            bag,
            "--rate", rate, "--overwrite",
            "--remap", "/cam0/image_raw:=/front/image_raw",
            "--ros-args", "-p", "instruction:=push the cube",
            "-p", "joint_states_topics:=[/robot/joint_states]",
        )  # fmt: skip

    status, _, error = first_good(at_rates(attempt, "2"), lambda result: result[0] == 0)
    assert status == 0, error
    assert [path.suffix for path in (tmp_path / "out" / "bag").glob("bag.*")] == [".db3"]
    recorded = messages(tmp_path / "out" / "bag")
    # How many come in this second is the machine's affair.
    assert {m.instruction for _, m in recorded["/pi0/action_chunk"]} == {"push the cube"}

    # A second one does not touch these results unless told to.
    status, _, error = run(bag, "--remap", "/cam0/image_raw:=/front/image_raw",
                           "--ros-args", "-p", "instruction:=x",
                           "-p", "joint_states_topics:=[/robot/joint_states]")  # fmt: skip
    assert status == 1 and "exists: choose another --out" in error
    assert len(messages(tmp_path / "out" / "bag")) == len(recorded)


def test_without_a_chunk_the_status_says_so(run, make_bag, tmp_path):
    # Header stamps a minute before the receive times: every image is stale.
    bag = make_bag(seconds=0.6, stamp_offset=60.0)

    def attempt(rate: str) -> tuple[int, str, str, dict]:
        result = run(bag, "--rate", rate, "--overwrite")
        return *result, json.loads((tmp_path / "figures.json").read_text())

    def many_refused(result: tuple[int, str, str, dict]) -> bool:
        return result[3]["refused"].get("stale", 0) >= 2

    status, out, error, figures = first_good(at_rates(attempt), many_refused)
    assert status == 1
    assert "no chunk came" in error
    assert figures["chunks"] == 0
    assert figures["refused"]["stale"] >= 2
    assert "header stamps lie up to 60.000 s before" in out
    assert not (tmp_path / "out" / "chunks.png").exists()


def test_a_recording_that_lacks_a_topic_starts_nothing(run, make_bag, tmp_path):
    status, _, error = run(make_bag(["/front/image_raw", "/joint_states"], seconds=0.2))
    assert status == 1
    assert "/wrist/image_raw (camera wrist, sensor_msgs/msg/Image) is missing" in error
    assert "/joint_states     sensor_msgs/msg/JointState, 20 messages" in error
    assert not (tmp_path / "out").exists()


def test_a_node_that_dies_is_an_error_with_its_last_words(run, recording, monkeypatch):
    monkeypatch.setenv("FAKE_NODE", "dies")
    status, _, error = run(recording)
    assert status == 1
    assert "the node ended with status 3" in error
    assert "the fake policy dies" in error


def test_a_message_without_room_for_a_header_is_an_error(run, make_bag):
    status, _, error = run(make_bag(seconds=0.3, cut={"/wrist/image_raw": 6}))
    assert status == 1
    assert "a message of 6 bytes on /wrist/image_raw cannot hold a header" in error


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_raises_nothing_where_it_hits(number, recording, tmp_path, monkeypatch, capsys):
    """An exception inside a call of C++ code would come out of it as another one."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    wanted = []

    def replay(args, out, interrupted):
        wanted.append(interrupted())
        for _ in range(2):
            signal.raise_signal(number)
        wanted.append(interrupted())
        raise KeyboardInterrupt  # as Session.poll does

    monkeypatch.setattr("pi0_ros.replay.live.replay", replay)
    assert cli.main(["replay", str(recording), "--checkpoint", str(tmp_path)]) == 130
    assert wanted == [False, True]
    assert "pi0 replay: interrupted" in capsys.readouterr().err
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_signal_ends_the_replay_and_its_node(
    make_bag, params, fake_node, tmp_path, start_process
):
    out = tmp_path / "out"
    code = "import sys; from pi0_ros import cli; from pi0_ros.replay import live;"
    code += f" live.NODE_COMMAND = {fake_node}; sys.exit(cli.main())"
    bag = make_bag(seconds=30.0)
    options = ["--checkpoint", tmp_path, "--params", params, "--out", out]
    process = start_process([sys.executable, "-c", code, "replay", bag, *options], cwd=ROOT)

    def recording() -> bool:
        assert process.lives(), process.tail
        return any((out / "bag").glob("*.mcap"))

    wait_until(recording, lambda: f"a recording; {process.tail}")
    assert process.end(signal.SIGTERM, SOON) == 130, process.tail
    assert "interrupted" in process.output and "Traceback" not in process.output
    # What was recorded up to then can be read, and no node is left.
    assert (out / "bag" / "metadata.yaml").exists()
    assert not processes_with(str(params))


def test_arguments_of_the_node(tmp_path, params):
    folder = tmp_path / "it's"
    folder.mkdir()
    arguments = node_arguments(folder, [params], ["-p", "seed:=3", "-p", "autostart:=true"])
    parameters = read_interface(arguments).parameters
    assert (parameters.checkpoint, parameters.seed) == (str(folder), 3)
    assert (parameters.autostart, parameters.start_enabled) == (False, False)
    assert read_interface(arguments).use_sim_time
    arguments = node_arguments(folder, [params], [], enable=True)
    assert read_interface(arguments).parameters.start_enabled


def test_missing_files_are_named(run, recording, tmp_path):
    status, _, error = run(recording, "--params", str(tmp_path / "none.yaml"))
    assert (status, "none.yaml: no such file" in error) == (1, True)
    status, _, error = run(tmp_path / "nothing")
    assert (status, "nothing: no such recording" in error) == (1, True)


def test_without_ros_it_says_what_to_install(run, recording, monkeypatch):
    monkeypatch.setitem(sys.modules, "rclpy", None)
    status, _, error = run(recording)
    assert status == 1
    assert "needs ROS 2" in error and "setup.bash" in error
