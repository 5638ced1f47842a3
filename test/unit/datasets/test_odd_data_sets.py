"""LeRobot data sets of other shapes, and what is told of unusable ones."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

pyarrow = pytest.importorskip("pyarrow")
pytest.importorskip("av")

import pyarrow.parquet as parquet  # noqa: E402
from support.data_sets import (  # noqa: E402
    FPS,
    LENGTH,
    MAKERS,
    episode_of,
    plain_image,
    write_robot,
)

from pi0_ros.bags.bag import BagError, open_bag  # noqa: E402
from pi0_ros.bags.messages import decode  # noqa: E402
from pi0_ros.datasets.layout import open_data_set  # noqa: E402
from pi0_ros.datasets.video import VideoWriter  # noqa: E402

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
