"""LeRobot data sets: read as recordings, written from bags, and what is told of unusable ones."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from support.recordings import (
    SIX,
    START,
    FakePolicy,
    arm_at_work,
    joint_state,
    motion,
    parse,
    run_offline,
    text,
    write_bag,
    write_params,
)

pyarrow = pytest.importorskip("pyarrow")
pytest.importorskip("av")

import pyarrow.parquet as parquet  # noqa: E402

from pi0_ros.bags.bag import BagError, open_bag  # noqa: E402
from pi0_ros.bags.messages import decode  # noqa: E402
from pi0_ros.convert import command as convert  # noqa: E402
from pi0_ros.datasets.episode import BEGIN, EpisodeRecording, open_episode, playing  # noqa: E402
from pi0_ros.datasets.layout import chosen_episodes, is_data_set, open_data_set  # noqa: E402
from pi0_ros.datasets.video import VideoWriter  # noqa: E402
from pi0_ros.datasets.writer import DataSetWriter  # noqa: E402
from pi0_ros.diff import command as diff  # noqa: E402
from pi0_ros.errors import UserError  # noqa: E402
from pi0_ros.eval import command as evaluation  # noqa: E402
from pi0_ros.eval.command import make_jobs  # noqa: E402
from pi0_ros.node.arguments import write_arguments  # noqa: E402
from pi0_ros.node.interface import Interface, read_interface  # noqa: E402

FPS, LENGTH = 10, 6
JOINTS = ("pan", "lift", "gripper")


def shade(episode: int, frame: int, camera: int) -> int:
    return 20 + 60 * camera + 25 * frame + 5 * episode


def plain_image(value: int) -> np.ndarray:
    return np.full((48, 64, 3), value, np.uint8)


def numbers(episode: int) -> np.ndarray:
    """[LENGTH, 3] in degrees and percent."""
    return np.arange(LENGTH)[:, None] + np.array([100 * episode, 10, 50])


def write_v3(path: Path, episodes: int = 3) -> Path:
    writer = DataSetWriter(path, FPS, JOINTS)
    for e in range(episodes):
        writer.begin(f"task {e % 2}")
        for k, state in enumerate(numbers(e)):
            images = {c: plain_image(shade(e, k, i)) for i, c in enumerate(("front", "wrist"))}
            writer.add(images, state, state + 1)
        writer.end()
    writer.close()
    return path


def write_v21(path: Path, episodes: int = 3) -> Path:
    """As LeRobot 0.3 lays it out."""
    (path / "meta").mkdir(parents=True)
    features = {
        name: {"dtype": "float32", "shape": [3], "names": {"motors": [f"{j}.pos" for j in JOINTS]}}
        for name in ("observation.state", "action")
    }
    for camera in ("front", "wrist"):
        features[f"observation.images.{camera}"] = {"dtype": "video", "shape": [48, 64, 3]}
    info = {
        "codebase_version": "v2.1",
        "fps": FPS,
        "chunks_size": 2,
        "features": features,
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}"
        "/episode_{episode_index:06d}.mp4",
    }
    (path / "meta" / "info.json").write_text(json.dumps(info))
    rows = [{"episode_index": e, "tasks": [], "length": LENGTH} for e in range(episodes)]
    (path / "meta" / "episodes.jsonl").write_text("\n".join(map(json.dumps, rows)))
    tasks = [{"task_index": t, "task": f"task {t}"} for t in range(2)]
    (path / "meta" / "tasks.jsonl").write_text("\n".join(map(json.dumps, tasks)))
    for e in range(episodes):
        chunk = f"chunk-{e // 2:03d}"
        table = pyarrow.table(
            {
                "observation.state": numbers(e).tolist(),
                "action": (numbers(e) + 1).tolist(),
                "timestamp": (np.arange(LENGTH) / FPS).astype(np.float32),
                "frame_index": range(LENGTH),
                "episode_index": [e] * LENGTH,
                "task_index": [e % 2] * LENGTH,
            }
        )
        file = path / "data" / chunk / f"episode_{e:06d}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(table, file)
        for i, camera in enumerate(("front", "wrist")):
            name = f"observation.images.{camera}"
            video = path / "videos" / chunk / name / f"episode_{e:06d}.mp4"
            with closing(VideoWriter(video, FPS, 48, 64)) as writer:
                for k in range(LENGTH):
                    writer.add(plain_image(shade(e, k, i)))
    return path


MAKERS = {"v2.1": write_v21, "v3.0": write_v3}


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sets")
    return {version: make(folder / version) for version, make in MAKERS.items()}


def write_robot(path: Path, joints: tuple[str, ...] = JOINTS, **more: object) -> Path:
    scales = "".join(f"\n        {name}: {{scale: 0.5, offset: 0.25}}" for name in joints)
    return write_params(path, joints, rate_hz=10.0, action_dt=0.1, joint=scales, **more)


def interface_of(params: Path) -> Interface:
    return read_interface(write_arguments([params], {"checkpoint": "none"}))


def episode_of(path: Path, number: int, params: Path) -> EpisodeRecording:
    return open_episode(open_data_set(path), number, interface_of(params).parameters)


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


# What is wrong with a data set --------------------------------------------------------------------


def edit(path: Path, **values: object) -> None:
    file = path / "meta" / "info.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.mark.parametrize(
    "values, says",
    [
        ({"codebase_version": "v1.6"}, "expected v2.0, v2.1 or v3.0"),
        ({"codebase_version": "v4.0"}, "expected v2.0, v2.1 or v3.0"),
        ({"fps": 0}, "fps must be a number"),
        ({"fps": None}, "fps is missing"),
        ({"features": []}, "features must be an object"),
        ({"data_path": "../{chunk_index}"}, "names a file out of the data set"),
        ({"data_path": "/etc/{chunk_index}"}, "names a file out of the data set"),
        ({"data_path": "{chunk_index.__class__}"}, "names its files by"),
        ({"data_path": "{chunk_index:099999999d}"}, "names its files by"),
        ({"video_path": "{nothing}"}, "names its files by"),
        ({"video_path": "{video_key:03d}"}, "names its files by"),
        ({"data_path": ""}, "names a file out of the data set"),
        ({"data_path": "."}, "names a file out of the data set"),
    ],
)
def test_an_unusable_description_is_told(sets, tmp_path, values, says):
    path = Path(shutil.copytree(sets["v3.0"], tmp_path / "set"))
    edit(path, **values)
    with pytest.raises(BagError, match=says):
        open_data_set(path)


def read_all(path: Path, params: Path) -> None:
    recording = episode_of(path, 0, params)
    types = {topic.name: topic.type for topic in recording.topics}
    list(recording.messages(types))


@pytest.mark.parametrize("version", MAKERS)
@pytest.mark.parametrize("pattern", ["**/*.mp4", "data/**/*.parquet", "meta/*tasks*"])
@pytest.mark.parametrize("harm", ["missing", "cut", "noise"])
def test_a_damaged_file_is_named(sets, tmp_path, version, pattern, harm):
    path = Path(shutil.copytree(sets[version], tmp_path / "set"))
    file = min(path.glob(pattern))
    if harm == "missing":
        file.unlink()
    elif harm == "cut":
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2 - 5])
    else:
        file.write_bytes(b"\xff" * file.stat().st_size)
    with pytest.raises(BagError, match=file.name):
        read_all(path, write_robot(tmp_path / "robot.yaml"))


def test_videos_in_a_folder_of_another_name_are_found(sets, tmp_path):
    path = Path(shutil.copytree(sets["v3.0"], tmp_path / "set"))
    (path / "videos").rename(path / "video")
    read_all(path, write_robot(tmp_path / "robot.yaml"))


def test_a_video_that_is_shorter_than_its_episode_is_told(sets, tmp_path):
    path = Path(shutil.copytree(sets["v2.1"], tmp_path / "set"))
    file = min(path.glob("**/*.mp4"))
    with closing(VideoWriter(file, FPS, 48, 64)) as writer:
        for k in range(3):
            writer.add(plain_image(k))
    with pytest.raises(BagError, match=r"no frame at 0\.300 s, where the episode's frame 3 of 6"):
        read_all(path, write_robot(tmp_path / "robot.yaml"))


def test_images_inside_the_table_are_read(sets, tmp_path):
    cv2 = pytest.importorskip("cv2")
    path = Path(shutil.copytree(sets["v2.1"], tmp_path / "set"))
    info = json.loads((path / "meta" / "info.json").read_text())
    info["features"]["observation.images.front"]["dtype"] = "image"
    edit(path, features=info["features"])
    file = min(path.glob("data/**/*.parquet"))
    red = np.zeros((4, 5, 3), np.uint8)
    red[..., 2] = 200  # OpenCV's order
    cell = {"bytes": cv2.imencode(".png", red)[1].tobytes(), "path": None}
    table = parquet.read_table(file, partitioning=None)
    table = table.append_column("observation.images.front", pyarrow.array([cell] * LENGTH))
    parquet.write_table(table, file)
    recording = episode_of(path, 0, write_robot(tmp_path / "robot.yaml"))
    kind = "sensor_msgs/msg/Image"
    (first, *_) = recording.messages({"observation.images.front": kind})
    message = decode(first.data, kind)
    assert (message.height, message.width, list(message.data[:3])) == (4, 5, [200, 0, 0])


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


@pytest.mark.parametrize(
    "row, says",
    [
        ({"length": 2**50}, "expected a whole number up to 10000000"),
        ({"length": -1}, "expected a whole number"),
        ({"episode_index": "0"}, "expected a whole number"),
        ({"length": 3}, "6 frames of episode 0; the list of episodes says 3"),
    ],
)
def test_a_list_of_episodes_that_lies_is_told(sets, tmp_path, row, says):
    path = Path(shutil.copytree(sets["v2.1"], tmp_path / "set"))
    first = {"episode_index": 0, "length": LENGTH} | row
    (path / "meta" / "episodes.jsonl").write_text(json.dumps(first))
    with pytest.raises(BagError, match=says):
        read_all(path, write_robot(tmp_path / "robot.yaml"))


@pytest.mark.parametrize(
    "column, values, says",
    [
        ("observation.state", [[1.0]] * LENGTH, "has 1 numbers a frame"),
        ("observation.state", [["a", "b", "c"]] * LENGTH, "holds no numbers"),
        ("timestamp", [float("nan")] * LENGTH, "do not follow the pace"),
        ("timestamp", [k / 30 for k in range(LENGTH)], "do not follow the pace"),
        ("task_index", [7] * LENGTH, "task_index 7 has no words"),
        ("task_index", [None] * LENGTH, "task_index None has no words"),
        ("task_index", [[0]] * LENGTH, "has no words"),
        ("frame_index", [[0]] * LENGTH, "frame_index holds no numbers"),
    ],
)
def test_a_table_that_lies_is_told(sets, tmp_path, column, values, says):
    path = Path(shutil.copytree(sets["v2.1"], tmp_path / "set"))
    file = min(path.glob("data/**/*.parquet"))
    table = parquet.read_table(file, partitioning=None)
    place = table.column_names.index(column)
    parquet.write_table(table.set_column(place, column, pyarrow.array(values)), file)
    with pytest.raises(BagError, match=says):
        read_all(path, write_robot(tmp_path / "robot.yaml"))


def test_a_table_that_declares_billions_is_not_read(sets, tmp_path, monkeypatch):
    from pi0_ros.datasets import layout

    monkeypatch.setattr(layout, "_MOST_VALUES", 10)
    with pytest.raises(BagError, match="declares more than 10 values"):
        read_all(sets["v3.0"], write_robot(tmp_path / "robot.yaml"))


@pytest.mark.parametrize("column", ["task_index", "timestamp"])
@pytest.mark.parametrize("harm", ["twice", "missing"])
def test_columns_that_are_missing_or_there_twice_are_told(sets, tmp_path, column, harm):
    path = Path(shutil.copytree(sets["v2.1"], tmp_path / "set"))
    file = min(path.glob("data/**/*.parquet"))
    table = parquet.read_table(file, partitioning=None)
    changed = table.drop_columns([column])
    if harm == "twice":
        changed = table.append_column(column, table[column])
    parquet.write_table(changed, file)
    with pytest.raises(BagError, match="the same name" if harm == "twice" else f"column {column}"):
        read_all(path, write_robot(tmp_path / "robot.yaml"))


def test_tasks_of_other_numbers_are_told(sets, tmp_path):
    path = Path(shutil.copytree(sets["v3.0"], tmp_path / "set"))
    table = pyarrow.table({"task_index": ["first"], "task": ["go"]})
    parquet.write_table(table, path / "meta" / "tasks.parquet")
    with pytest.raises(BagError, match="expected a whole number"):
        open_data_set(path)


def test_an_episode_beyond_the_end_of_time_is_told(sets, tmp_path):
    path = Path(shutil.copytree(sets["v2.1"], tmp_path / "set"))
    rows = [{"episode_index": n, "length": 10_000_000} for n in range(2000)]
    rows.append({"episode_index": 2000, "length": LENGTH})
    (path / "meta" / "episodes.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(BagError, match="later than stamps can tell"):
        episode_of(path, 2000, write_robot(tmp_path / "robot.yaml"))


def test_a_data_set_where_a_bag_is_needed_is_told(sets):
    with pytest.raises(BagError, match="is a LeRobot data set, which `pi0 eval`"):
        open_bag(sets["v3.0"])
