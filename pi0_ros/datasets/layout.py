"""What a LeRobot data set (v2.0, v2.1 or v3.0) holds: features, episodes, and where they lie.

Source: lerobot/datasets of LeRobot 0.3.3 (v2.1) and 0.6.1 (v3.0). Anybody may have written a data
set: its JSON is read through `checkpoint.document`, and no name leads out of its directory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pi0_ros import console
from pi0_ros.bags.bag import BagError
from pi0_ros.checkpoint.document import Document, read_json
from pi0_ros.checkpoint.errors import CheckpointError

if TYPE_CHECKING:
    import pyarrow

INFO = "meta/info.json"
V3, V2 = "v3.", "v2."
V3_DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
V3_VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
_V2_DATA = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
_V2_VIDEO = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
_FIELD = re.compile(r"\{(\w+)(?::0?\d)?d?\}")
_LONGEST = 10_000_000
"""Frames of an episode at most: four days at 30 Hz."""
_MOST_BYTES = 1 << 28
"""Of a list of episodes or tasks."""
_MOST_VALUES = 1 << 28
"""Of a parquet file: a kilobyte may declare billions that are all the same."""


@dataclass(frozen=True)
class Feature:
    """A column of a data set: its kind ("float32", "video", "image"), shape and names of parts."""

    kind: str
    shape: tuple[int, ...]
    names: tuple[str, ...] = ()

    @property
    def is_image(self) -> bool:
        return self.kind in ("video", "image")


@dataclass(frozen=True)
class Video:
    """The file that a camera's images of an episode are in, from `start` (s) on."""

    file: Path
    start: float


@dataclass(frozen=True)
class Episode:
    """One episode.

    Attributes:
        number: as the data set counts them.
        length: frames.
        first: number of its first frame in the data set.
        data: parquet file, which may hold other episodes too.
        videos: feature -> where its images are.
    """

    number: int
    length: int
    first: int
    data: Path
    videos: Mapping[str, Video] = field(default_factory=dict)


@dataclass(frozen=True)
class DataSet:
    """Everything but the frames.

    Attributes:
        fps: frames per second.
        tasks: number -> task in words.
    """

    path: Path
    version: str
    fps: float
    features: Mapping[str, Feature]
    episodes: Mapping[int, Episode]
    tasks: Mapping[int, str]


def is_data_set(path: str | Path) -> bool:
    """Whether a directory claims to be a LeRobot data set."""
    return (Path(path) / INFO).is_file()


def open_data_set(path: str | Path) -> DataSet:
    """Reads what a data set holds, without its frames.

    Raises:
        BagError: it cannot be read; names the file and what is wrong.
        UserError: pyarrow is not installed.
    """
    console.require("pyarrow")
    path = Path(path)
    problems: list[str] = []
    try:
        info = Document(read_json(path / INFO), INFO, problems)
    except CheckpointError as error:
        raise BagError(str(error)) from error
    version = info.text("codebase_version")
    if not version.startswith((V2, V3)):
        raise BagError(
            f"{path}: {INFO} has the version {version!r}; expected v2.0, v2.1 or v3.0 of LeRobot."
            " Newer and older ones are converted by LeRobot's own scripts"
        )
    fps = info.number("fps", 0.0, 0.01, 1000.0)
    if not fps:
        info.problem("fps is missing")
    declared = info.child("features")
    names = [name for name in declared if len(name) < 200 and "\0" not in name]
    features = {name: _feature(declared.child(name)) for name in names}
    if problems:
        raise BagError(f"{path} cannot be read:\n" + "\n".join(f"  - {p}" for p in problems))
    read = _episodes_v3 if version.startswith(V3) else _episodes_v2
    cameras = [name for name, feature in features.items() if feature.kind == "video"]
    episodes, tasks = read(path, info, cameras)
    if not episodes:
        raise BagError(f"{path}: the data set holds no episode")
    return DataSet(path, version, fps, features, episodes, tasks)


def chosen_episodes(data: DataSet, text: str) -> list[int]:
    """The episodes that `--episodes` names, such as "0,3-5"; all without a text.

    Raises:
        BagError: no such text, or no such episode.
    """
    if not text:
        return list(data.episodes)
    chosen: dict[int, None] = {}
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,7})(?:-(\d{1,7}))?\s*", part)
        if not match:
            raise BagError(f"--episodes {text}: expected numbers and ranges, such as 0,3-5")
        first, last = int(match[1]), int(match[2] or match[1])
        chosen |= dict.fromkeys(range(first, last + 1))
    missing = [number for number in chosen if number not in data.episodes]
    if missing or not chosen:
        there = f"{min(data.episodes)} to {max(data.episodes)}"
        raise BagError(f"--episodes {text}: {data.path} has {len(data.episodes)} episodes, {there}")
    return list(chosen)


def _feature(document: Document) -> Feature:
    names = document.raw("names")
    if isinstance(names, dict) and len(names) == 1:  # {"motors": [...]}
        names = next(iter(names.values()))
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        names = []
    return Feature(document.text("dtype"), document.integers("shape"), tuple(names))


def _episodes_v3(
    path: Path, info: Document, cameras: Iterable[str]
) -> tuple[dict[int, Episode], dict[int, str]]:
    data, video = info.text("data_path", V3_DATA), info.text("video_path", V3_VIDEO)
    files = sorted((path / "meta" / "episodes").glob("*/*.parquet"))
    if not files:
        raise BagError(f"{path}: no meta/episodes/*/*.parquet; a v3 data set lists its episodes")
    tables = [read_table(file, lambda name: not name.startswith("stats/")) for file in files]

    def place(row: Mapping[str, Any], what: str) -> dict[str, int]:
        return {n: _whole(path, row, f"{what}/{n}") for n in ("chunk_index", "file_index")}

    episodes: dict[int, Episode] = {}
    first = 0
    for row in (row for table in tables for row in table.to_pylist()):
        number, length = _whole(path, row, "episode_index"), _whole(path, row, "length")
        videos = {}
        for camera in cameras:
            start = row.get(f"videos/{camera}/from_timestamp")
            if not isinstance(start, (int, float)) or not 0 <= start < 1e9:
                raise BagError(
                    f"{path}: episode {number} begins at {start!r} s in the video of {camera};"
                    " expected a number from 0"
                )
            where = place(row, f"videos/{camera}")
            videos[camera] = Video(_file(path, video, video_key=camera, **where), float(start))
        file = _file(path, data, **place(row, "data"))
        episodes[number] = Episode(number, length, first, file, videos)
        first += length
    table = read_table(path / "meta" / "tasks.parquet")
    words = [name for name in table.column_names if name != "task_index"]
    if len(words) != 1 or "task_index" not in table.column_names:
        raise BagError(f"{path}/meta/tasks.parquet: expected task_index and the tasks' words")
    tasks = table.select(["task_index", words[0]]).to_pylist()
    return episodes, {_whole(path, row, "task_index"): str(row[words[0]]) for row in tasks}


def _episodes_v2(
    path: Path, info: Document, cameras: Iterable[str]
) -> tuple[dict[int, Episode], dict[int, str]]:
    data, video = info.text("data_path", _V2_DATA), info.text("video_path", _V2_VIDEO)
    size = info.integer("chunks_size", 1000, 1, 1_000_000)
    episodes: dict[int, Episode] = {}
    first = 0
    for row in _lines(path / "meta" / "episodes.jsonl"):
        number, length = _whole(path, row, "episode_index"), _whole(path, row, "length")
        where = {"episode_chunk": number // size, "episode_index": number}
        videos = {c: Video(_file(path, video, video_key=c, **where), 0.0) for c in cameras}
        episodes[number] = Episode(number, length, first, _file(path, data, **where), videos)
        first += length
    rows = _lines(path / "meta" / "tasks.jsonl")
    tasks = {_whole(path, row, "task_index"): str(row.get("task")) for row in rows}
    return episodes, tasks


def read_table(file: Path, wanted: Any = None, filters: Any = None) -> pyarrow.Table:
    """A parquet file, or the columns of it for whose names `wanted` is true.

    Raises:
        BagError: it is missing or damaged, or lacks a column that `filters` asks for.
    """
    import pyarrow
    import pyarrow.parquet as parquet

    try:
        about = parquet.read_metadata(file)
        groups = [about.row_group(number) for number in range(about.num_row_groups)]
        values = [g.column(c).num_values for g in groups for c in range(g.num_columns)]
        if max(about.num_rows, sum(values)) > _MOST_VALUES:
            raise ValueError(f"it declares more than {_MOST_VALUES} values")
        names = about.schema.to_arrow_schema().names
        if len(set(names)) < len(names):
            raise ValueError("two columns have the same name")
        columns = [name for name in names if wanted is None or wanted(name)]
        return parquet.read_table(file, columns=columns, filters=filters, partitioning=None)
    except (OSError, ValueError, TypeError, KeyError, pyarrow.ArrowException) as error:
        raise BagError(f"{file}: no readable parquet file: {error}") from error


def _lines(file: Path) -> list[dict[str, Any]]:
    """The objects of a JSON Lines file."""
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise ValueError(f"larger than {_MOST_BYTES} bytes")
        rows = [json.loads(line) for line in file.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, ValueError, RecursionError) as error:
        raise BagError(f"{file}: no readable JSON Lines file: {error}") from error
    if not all(isinstance(row, dict) for row in rows):
        raise BagError(f"{file}: expected one JSON object per line")
    return rows


def _whole(path: Path, row: Mapping[str, Any], key: str) -> int:
    value = row.get(key)
    most = _LONGEST if key == "length" else (1 << 31) - 1
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise BagError(
            f"{path}: an episode or task has {key} {value!r}, expected a whole number up to {most}"
        )
    return value


def _file(path: Path, template: str, **values: str | int) -> Path:
    """The file that a template of info.json names, inside the data set.

    Where the template's own first folder is missing, the folder of another name that has the file
    is taken (`video/` for `videos/`).
    """
    fields = _FIELD.findall(template)
    rest = _FIELD.sub("", template)
    if len(template) > 300 or "{" in rest or "}" in rest or not set(fields) <= set(values):
        raise BagError(
            f"{path}: {INFO} names its files by {template[:300]!r}; expected a path with some of"
            f" {', '.join('{' + name + '}' for name in values)}"
        )
    try:
        name = template.format(**values)
    except ValueError as error:  # a name as a number
        raise BagError(f"{path}: {INFO} names its files by {template!r}: {error}") from error
    parts = Path(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or "\0" in name:
        raise BagError(f"{path}: {INFO} names a file out of the data set: {name!r}")
    file = path / name
    if not (path / parts[0]).is_dir() and len(parts) > 1:
        tail = Path(*parts[1:])
        file = next((f / tail for f in sorted(path.iterdir()) if (f / tail).is_file()), file)
    return file
