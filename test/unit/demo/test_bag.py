"""The demo bag: topics, rates, stamps, contents, and the command that writes it."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rosbags.highlevel import AnyReader

import pi0_ros
from pi0_ros.demo.bag import START_NS, instruction_at, main, schedule, write_demo_bag
from pi0_ros.sim.reach import TOUCH_SECONDS
from pi0_ros.sim.scene import CAMERAS, CUBES, HOME, JOINTS, Scene

Record = tuple[str, int, bytes]
RAW = [f"/{camera}/image_raw" for camera in CAMERAS]


def records(path: Path) -> list[Record]:
    """(topic, time in nanoseconds, serialized message) of every message in the bag."""
    with AnyReader([path]) as reader:
        return [(c.topic, t, bytes(data)) for c, t, data in reader.messages()]


def messages(path: Path, topic: str) -> list[tuple[int, Any]]:
    """(time in nanoseconds, message) of every message of a topic."""
    with AnyReader([path]) as reader:
        chosen = [c for c in reader.connections if c.topic == topic]
        assert chosen, f"no {topic} in {[c.topic for c in reader.connections]}"
        return [
            (t, reader.deserialize(data, c.msgtype))
            for c, t, data in reader.messages(connections=chosen)
        ]


def stamp(message: Any) -> int:
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demo_bag") / "bag"
    write_demo_bag(path, seconds=0.5)
    return path


@pytest.fixture(scope="module")
def long_bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All three touches, with few pictures."""
    path = tmp_path_factory.mktemp("demo_bag") / "long"
    write_demo_bag(path, seconds=10, camera_hz=0.5)
    return path


def test_topics_types_and_counts(bag: Path) -> None:
    with AnyReader([bag]) as reader:
        found = {c.topic: (c.msgtype, c.msgcount) for c in reader.connections}
    assert found == {
        "/front/image_raw": ("sensor_msgs/msg/Image", 15),
        "/wrist/image_raw": ("sensor_msgs/msg/Image", 15),
        "/joint_states": ("sensor_msgs/msg/JointState", 50),
        "/instruction": ("std_msgs/msg/String", 1),
    }


@pytest.mark.parametrize(("topic", "hz"), [*((topic, 30) for topic in RAW), ("/joint_states", 100)])
def test_stamps_are_the_bags_times_at_a_steady_rate(bag: Path, topic: str, hz: float) -> None:
    found = messages(bag, topic)
    assert [stamp(message) for _, message in found] == [t for t, _ in found]
    expected = START_NS + np.arange(len(found)) * 1e9 / hz
    np.testing.assert_allclose(np.array([t for t, _ in found]) - expected, 0, atol=1000)


def test_bag_is_in_order_of_time(bag: Path) -> None:
    times = [t for _, t, _ in records(bag)]
    assert all(a <= b for a, b in pairwise(times))
    assert times[0] == START_NS


@pytest.mark.parametrize("camera", CAMERAS)
def test_pictures(bag: Path, camera: str) -> None:
    pictures = []
    for _, image in messages(bag, f"/{camera}/image_raw"):
        assert image.header.frame_id == f"{camera}_camera_optical_frame"
        assert (image.height, image.width, image.step) == (480, 640, 640 * 3)
        assert (image.encoding, image.is_bigendian) == ("rgb8", 0)
        pictures.append(image.data.reshape(480, 640, 3).astype(float))
    for picture in pictures:
        assert 30 < picture.mean() < 225
        assert picture.std() > 20, "one plain colour"
        # Neighbouring pixels of a picture are alike; those of noise are not.
        assert np.abs(np.diff(picture, axis=1)).mean() < 0.25 * picture.std()
    assert np.abs(pictures[-1] - pictures[0]).mean() > 1, "nothing moves"


def test_pictures_are_what_the_cameras_see(bag: Path) -> None:
    scene = Scene(seed=0)
    for camera in CAMERAS:
        _, image = messages(bag, f"/{camera}/image_raw")[0]
        np.testing.assert_array_equal(image.data.reshape(480, 640, 3), scene.render(camera))
    scene.close()


def test_cameras_see_different_things(bag: Path) -> None:
    front, wrist = (messages(bag, topic)[0][1].data.astype(float) for topic in RAW)
    assert np.abs(front - wrist).mean() > 15


def test_joint_states(bag: Path) -> None:
    states = [message for _, message in messages(bag, "/joint_states")]
    assert all(tuple(state.name) == JOINTS for state in states)
    positions = np.stack([state.position for state in states])
    velocities = np.stack([state.velocity for state in states])
    np.testing.assert_allclose(positions[0], HOME)
    assert np.ptp(positions, axis=0)[:4].min() > 0.01, "a joint stands still"
    # Velocities are the slope of the positions: central differences at 100 Hz.
    slope = (positions[2:] - positions[:-2]) / 0.02
    np.testing.assert_allclose(velocities[1:-1], slope, atol=0.1)


def test_instructions_name_the_cube_that_the_arm_goes_to(long_bag: Path) -> None:
    heard = [(t - START_NS, message.data) for t, message in messages(long_bag, "/instruction")]
    changes = [heard[0]] + [b for a, b in pairwise(heard) if a[1] != b[1]]
    assert [text for _, text in changes] == [f"touch the {colour} cube" for colour in CUBES]
    np.testing.assert_allclose([t for t, _ in changes], [0, 10e9 / 3, 20e9 / 3], atol=2)
    assert all(b[0] - a[0] <= 10**9 for a, b in pairwise(heard))

    # At the middle of each touch the shoulder points at that cube, and at its end the arm is home.
    scene = Scene(seed=0)
    states = [message.position for _, message in messages(long_bag, "/joint_states")]
    for touch, colour in enumerate(CUBES):
        scene.data.qpos[:6] = states[round((touch * TOUCH_SECONDS + 1.75) * 100)]
        scene._mujoco.mj_forward(scene.model, scene.data)
        reached = scene.data.site("gripperframe").xpos - scene.cube_position(colour)
        assert np.linalg.norm(reached[:2]) < 0.01
        assert 0.01 < reached[2] < 0.025
        home = states[round(touch * TOUCH_SECONDS * 100)]
        np.testing.assert_allclose(home, HOME, atol=0.06)


def test_same_seed_same_bytes_in_either_storage(bag: Path, tmp_path: Path) -> None:
    write_demo_bag(tmp_path / "again", seconds=0.5, storage="sqlite3")
    assert [file.suffix for file in sorted(tmp_path.glob("again/again.*"))] == [".db3"]
    # Messages of one time may come in another order, so both are sorted.
    assert sorted(records(tmp_path / "again")) == sorted(records(bag))


def test_another_seed_another_scene(bag: Path, tmp_path: Path) -> None:
    write_demo_bag(tmp_path / "other", seconds=0.05, seed=1)
    ours, theirs = (messages(path, "/front/image_raw")[0][1] for path in (bag, tmp_path / "other"))
    assert (ours.data != theirs.data).mean() > 0.005


def test_metadata_is_what_humble_reads_and_files_are_small(bag: Path) -> None:
    text = (bag / "metadata.yaml").read_text()
    assert re.search(r"^  version: 8$", text, re.MULTILINE)
    assert "offered_qos_profiles: ''" in text  # Humble wants a string here
    raw = sum(len(data) for _, _, data in records(bag))
    assert sum(file.stat().st_size for file in bag.iterdir()) < raw / 10


def test_compressed_pictures(bag: Path, tmp_path: Path) -> None:
    write_demo_bag(tmp_path / "jpeg", seconds=0.05, compressed=True)
    for camera in CAMERAS:
        sent = messages(tmp_path / "jpeg", f"/{camera}/image_raw/compressed")
        assert len(sent) == 2
        _, image = sent[0]
        assert image.format == "rgb8; jpeg compressed bgr8"
        assert image.header.frame_id == f"{camera}_camera_optical_frame"
        seen = cv2.cvtColor(cv2.imdecode(image.data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        raw = messages(bag, f"/{camera}/image_raw")[0][1].data.reshape(480, 640, 3)
        assert np.abs(seen.astype(float) - raw).mean() < 4


def test_schedule_counts_and_order() -> None:
    events = schedule(10.0, 30.0, 100.0)
    kinds = [kind for _, kind in events]
    assert kinds.count("cameras") == 300
    assert kinds.count("joints") == 1000
    assert kinds.count("instruction") == 12  # one per second, two more where it changes
    assert [at for at, _ in events] == sorted(at for at, _ in events)
    assert [kind for at, kind in events if at == 0] == ["instruction", "joints", "cameras"]
    assert instruction_at(0) != instruction_at(round(TOUCH_SECONDS * 1e9))
    assert instruction_at(0) == instruction_at(round(3 * TOUCH_SECONDS * 1e9))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seconds": 0}, "seconds must be a number above 0, got 0"),
        ({"seconds": float("nan")}, "seconds must be a number above 0, got nan"),
        ({"camera_hz": -1}, "camera_hz must be a number above 0, got -1"),
        ({"joint_hz": float("inf")}, "joint_hz must be a number above 0, got inf"),
        ({"storage": "rosbag1"}, "storage must be one of mcap, sqlite3, got 'rosbag1'"),
    ],
)
def test_bad_arguments_are_named(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        write_demo_bag(tmp_path / "bag", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_bag_is_only_replaced_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "bag"
    write_demo_bag(path, seconds=0.02)
    with pytest.raises(FileExistsError, match="give --overwrite"):
        write_demo_bag(path, seconds=0.02)
    write_demo_bag(path, seconds=0.02, storage="sqlite3", overwrite=True)
    assert sorted(file.name for file in path.iterdir()) == ["bag.db3", "metadata.yaml"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["bag"]


def a_file(path: Path) -> None:
    path.write_text("mine")


def a_folder_of_mine(path: Path) -> None:
    path.mkdir()
    (path / "metadata.yaml").write_text("")
    (path / "thesis.txt").write_text("mine")


@pytest.mark.parametrize("make", [a_file, a_folder_of_mine])
def test_what_is_not_a_bag_is_never_replaced(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "bag"
    make(path)
    with pytest.raises(FileExistsError, match="so it is not replaced"):
        write_demo_bag(path, seconds=0.02, overwrite=True)
    kept = path if path.is_file() else path / "thesis.txt"
    assert kept.read_text() == "mine"


def test_a_failed_recording_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("no picture")

    monkeypatch.setattr("pi0_ros.sim.scene.Scene.render", fail)
    with pytest.raises(RuntimeError, match="no picture"):
        write_demo_bag(tmp_path / "bag", seconds=0.02)
    assert list(tmp_path.iterdir()) == []


def test_command_prints_and_writes_json(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    bag, figures = tmp_path / "bag", tmp_path / "figures.json"
    status = main([str(bag), "--seconds", "0.1", "--storage", "sqlite3", "--json", str(figures)])
    printed = capsys.readouterr().out
    assert status == 0
    assert str(bag) in printed
    summary = json.loads(figures.read_text())
    assert summary["messages"] == {
        "/instruction": 1,
        "/joint_states": 10,
        "/front/image_raw": 3,
        "/wrist/image_raw": 3,
    }
    assert summary["instructions"] == ["touch the red cube"]
    assert summary["size_bytes"] == sum(file.stat().st_size for file in bag.iterdir())
    for topic, count in summary["messages"].items():
        assert re.search(rf"{topic} +{count} messages", printed)


def test_json_in_a_missing_folder_is_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as caught:
        main([str(tmp_path / "bag"), "--seconds", "0.02", "--json", str(tmp_path / "no" / "f")])
    assert caught.value.code == 2
    assert f"--json: the folder {tmp_path / 'no'} does not exist" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_does_not_cost_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main([str(tmp_path / "bag"), "--seconds", "0.02", "--json", str(tmp_path)]) == 1
    printed, error = capsys.readouterr()
    assert "/joint_states" in printed and "Is a directory" in error


def test_command_reports_errors_without_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main([str(tmp_path / "bag"), "--seconds", "-1"]) == 1
    assert "pi0_demo_bag: seconds must be a number above 0" in capsys.readouterr().err


@pytest.mark.parametrize("absent", ["mujoco", "rosbags", "cv2"])
def test_help_needs_none_of_the_big_packages(
    absent: str,
) -> None:
    code = (
        f"import sys; sys.modules[{absent!r}] = None\n"
        "from pi0_ros.demo.bag import main; main(['--help'])"
    )
    home = Path(pi0_ros.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=home, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    for option in ("--seconds", "--storage", "--seed", "--compressed", "--overwrite", "--json"):
        assert option in done.stdout
