"""`pi0 demo bag`: topics, rates, stamps, contents, and the command that writes it."""

import json
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rosbags.highlevel import AnyReader
from support import ROOT
from support.waiting import PATIENCE

from pi0_ros.cli import main
from pi0_ros.demo.bag import START_NS, TOUCH_SECONDS, schedule, write_demo_bag
from pi0_ros.errors import UserError
from pi0_ros.sim.stage import CAMERAS, JOINTS, TIP_SITE
from pi0_ros.sim.world import World

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


def test_images_are_what_the_cameras_see(bag: Path) -> None:
    world = World(seed=0)
    for camera, expected in world.images().items():
        sent = [image for _, image in messages(bag, f"/{camera}/image_raw")]
        first = sent[0]
        assert first.header.frame_id == f"{camera}_camera_optical_frame"
        assert (first.height, first.width, first.step) == (480, 640, 640 * 3)
        assert (first.encoding, first.is_bigendian) == ("rgb8", 0)
        np.testing.assert_array_equal(first.data.reshape(480, 640, 3), expected)
        assert np.abs(sent[-1].data.astype(float) - first.data).mean() > 0.3, "nothing moves"
    world.close()


def test_joint_states(bag: Path) -> None:
    states = [message for _, message in messages(bag, "/joint_states")]
    assert all(tuple(state.name) == JOINTS for state in states)
    positions = np.stack([state.position for state in states])
    velocities = np.stack([state.velocity for state in states])
    np.testing.assert_allclose(positions[0], World(seed=0).positions)
    assert np.ptp(positions, axis=0)[:4].max() > 0.1, "nothing moves"
    # Velocities are the slope of the positions: central differences at 100 Hz.
    slope = (positions[2:] - positions[:-2]) / 0.02
    np.testing.assert_allclose(velocities[1:-1], slope, atol=0.1)


def test_the_arm_touches_what_the_instructions_name(tmp_path: Path) -> None:
    path = tmp_path / "long"
    write_demo_bag(path, seconds=10, camera_hz=0.5)
    heard = [(t - START_NS, message.data) for t, message in messages(path, "/instruction")]
    changes = [heard[0]] + [b for a, b in pairwise(heard) if a[1] != b[1]]
    world = World(seed=0)
    assert [text for _, text in changes] == list(world.instructions())
    np.testing.assert_allclose([t for t, _ in changes], [0, 10e9 / 3, 20e9 / 3], atol=2)
    assert all(b[0] - a[0] <= 10**9 for a, b in pairwise(heard))

    # At its end each touch has brought the fingertip to its object.
    states = [message.position for _, message in messages(path, "/joint_states")]
    for touch, instruction in enumerate(world.instructions()):
        world.place_arm(states[round((touch + 1) * TOUCH_SECONDS * 100) - 1])
        tip = world.stage.data.site(TIP_SITE).xpos
        assert np.linalg.norm(tip - world.top(world.thing(instruction))) < 0.02


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


def test_compressed_images(bag: Path, tmp_path: Path) -> None:
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


def test_a_bag_is_only_replaced_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "bag"
    write_demo_bag(path, seconds=0.02)
    (path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="give --overwrite"):
        write_demo_bag(path, seconds=0.02)
    write_demo_bag(path, seconds=0.02, storage="sqlite3", overwrite=True)
    assert {file.name for file in path.iterdir()} == {"bag.db3", "metadata.yaml", "thesis.txt"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["bag"]


def test_a_failed_recording_leaves_no_bag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("no image")

    monkeypatch.setattr("pi0_ros.sim.stage.Stage.render", fail)
    with pytest.raises(RuntimeError, match="no image"):
        write_demo_bag(tmp_path / "bag", seconds=0.02)
    assert [path.name for path in tmp_path.rglob("*")] == ["bag"]


def test_command_prints_and_writes_json(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    bag, figures = tmp_path / "bag", tmp_path / "figures.json"
    arguments = [str(bag), "--seconds", "0.1", "--storage", "sqlite3", "--json", str(figures)]
    assert main(["demo", "bag", *arguments]) == 0
    printed = capsys.readouterr().out
    summary = json.loads(figures.read_text())
    assert summary["messages"] == {
        "/instruction": 1,
        "/joint_states": 10,
        "/front/image_raw": 3,
        "/wrist/image_raw": 3,
    }
    assert summary["instructions"] == [World(0).instructions()[0]]
    assert summary["size_bytes"] == sum(file.stat().st_size for file in bag.iterdir())
    for topic, count in summary["messages"].items():
        assert re.search(rf"{topic} +{count}$", printed, re.MULTILINE)


def test_wrong_arguments_are_status_2(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["demo", "bag", str(tmp_path / "bag"), "--seconds", "-1"])
    assert ended.value.code == 2
    assert "must be above 0, got -1" in capsys.readouterr().err


def test_a_checkpoint_with_random_weights(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder, figures = tmp_path / "checkpoint", tmp_path / "figures.json"
    arguments = ["demo", "checkpoint", str(folder), "--json", str(figures)]
    assert main(arguments) == 0
    assert (folder / "config.json").is_file()
    assert json.loads(figures.read_text())["size_bytes"] > 1e6
    assert main(arguments) == 1
    assert "give --overwrite" in capsys.readouterr().err
    assert main([*arguments, "--overwrite"]) == 0


def test_the_doctor_finds_no_fault_with_bag_and_checkpoint_of_the_demo(
    bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["demo", "checkpoint", str(tmp_path / "made")]) == 0
    words = ["doctor", "--bag", str(bag), "--checkpoint", str(tmp_path / "made")]
    status = main([*words, "--params", str(ROOT / "config/demo.yaml")])
    assert status == 0, capsys.readouterr().out


def test_bags_and_checkpoints_need_no_ros(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['rclpy'] = None\n"
        "from pi0_ros.cli import main\n"
        f"sys.exit(main(['demo', 'bag', {str(tmp_path / 'bag')!r}, '--seconds', '0.02']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
