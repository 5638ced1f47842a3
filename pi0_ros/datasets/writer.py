"""Writes a LeRobot data set of version 3.0: a parquet file per episode, a video per camera of it.

Source: lerobot/datasets/{dataset_metadata,dataset_writer}.py of LeRobot 0.6.1, whose loader reads
the result back in test/reference.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet as parquet

from pi0_ros import console
from pi0_ros.datasets.layout import V3_DATA, V3_VIDEO
from pi0_ros.datasets.statistics import histogram, of_images, of_numbers
from pi0_ros.datasets.video import CODEC, VideoWriter

_PER_CHUNK = 1000  # files in a folder
_STATE, _ACTION = "observation.state", "action"
_INDICES = ("timestamp", "frame_index", "episode_index", "index", "task_index")


@dataclass
class _Open:
    """The episode that is being written."""

    task: str
    videos: dict[str, VideoWriter] = field(default_factory=dict)
    histograms: dict[str, np.ndarray] = field(default_factory=dict)
    states: list[np.ndarray] = field(default_factory=list)
    actions: list[np.ndarray] = field(default_factory=list)


class DataSetWriter:
    """Writes episodes one after another; what describes them comes last, in `close`.

    Attributes:
        lengths: frames of each episode.
    """

    def __init__(self, path: Path, fps: int, joints: Sequence[str], robot: str = "") -> None:
        """Begin a data set.

        Args:
            path: directory, empty or new.
            fps: frames per second.
            joints: names of the numbers of state and action.
            robot: its kind, as LeRobot calls it.

        Raises:
            UserError: PyAV is not installed.
        """
        console.require("av")
        self.path, self.fps = path, fps
        self.lengths: list[int] = []
        self._joints, self._robot = tuple(joints), robot
        self._tasks: dict[str, int] = {}
        self._rows: list[dict[str, Any]] = []
        self._numbers: dict[str, list[np.ndarray]] = {}
        self._histograms: dict[str, np.ndarray] = {}
        self._sizes: dict[str, tuple[int, int, str]] = {}
        self._open: _Open | None = None

    def begin(self, task: str) -> None:
        """Begin an episode; one that is open is discarded."""
        self.discard()
        self._open = _Open(task)

    def add(self, images: Mapping[str, np.ndarray], state: np.ndarray, action: np.ndarray) -> None:
        """Append a frame.

        Args:
            images: camera -> [height, width, 3] uint8 RGB, of the same cameras every time.
            state, action: [joints] in the data set's units.
        """
        episode = self._open
        assert episode is not None
        for camera, image in images.items():
            if camera not in episode.videos:
                height, width, _ = image.shape
                file = self._file(V3_VIDEO, video_key=_key(camera))
                episode.videos[camera] = VideoWriter(file, self.fps, height, width)
                episode.histograms[camera] = np.zeros((3, 256), np.int64)
                pixels = episode.videos[camera].pixel_format
                self._sizes.setdefault(camera, (height, width, pixels))
            episode.videos[camera].add(image)
            episode.histograms[camera] += histogram(image)
        episode.states.append(np.asarray(state, np.float32))
        episode.actions.append(np.asarray(action, np.float32))

    def discard(self) -> None:
        """Forget the episode that is open."""
        if self._open is None:
            return
        for camera, video in self._open.videos.items():
            video.close()
            self._file(V3_VIDEO, video_key=_key(camera)).unlink()
        self._open = None

    def end(self) -> None:
        """Keep the episode that is open."""
        episode = self._open
        assert episode is not None and episode.states
        self._open = None
        for video in episode.videos.values():
            video.close()
        number, length, first = len(self.lengths), len(episode.states), sum(self.lengths)
        task = self._tasks.setdefault(episode.task, len(self._tasks))
        frames = np.arange(length)
        columns = {
            _STATE: np.stack(episode.states),
            _ACTION: np.stack(episode.actions),
            "timestamp": (frames / self.fps).astype(np.float32),
            "frame_index": frames,
            "episode_index": np.full(length, number),
            "index": first + frames,
            "task_index": np.full(length, task),
        }
        vector = pyarrow.list_(pyarrow.float32(), len(self._joints))
        types = {_STATE: vector, _ACTION: vector, "timestamp": pyarrow.float32()}
        arrays = {
            n: pyarrow.array(list(v), types.get(n, pyarrow.int64())) for n, v in columns.items()
        }
        file = self._file(V3_DATA)
        file.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(pyarrow.table(arrays), file)
        chunk, place = divmod(number, _PER_CHUNK)
        row: dict[str, Any] = {
            "episode_index": number,
            "tasks": [episode.task],
            "length": length,
            "data/chunk_index": chunk,
            "data/file_index": place,
            "dataset_from_index": first,
            "dataset_to_index": first + length,
            "meta/episodes/chunk_index": 0,
            "meta/episodes/file_index": 0,
        }
        statistics = {}
        for name, values in columns.items():
            rows = values.reshape(length, -1)
            statistics[name] = of_numbers(rows)
            self._numbers.setdefault(name, []).append(rows)
        for camera, counts in episode.histograms.items():
            key = _key(camera)
            row |= {
                f"videos/{key}/chunk_index": chunk,
                f"videos/{key}/file_index": place,
                f"videos/{key}/from_timestamp": 0.0,
                f"videos/{key}/to_timestamp": length / self.fps,
            }
            statistics[key] = of_images(counts, length)
            self._histograms[key] = self._histograms.get(key, 0) + counts
        for name, found in statistics.items():
            row |= {f"stats/{name}/{which}": value.tolist() for which, value in found.items()}
        self._rows.append(row)
        self.lengths.append(length)

    def close(self) -> None:
        """Write what describes the episodes; without one there is no data set."""
        self.discard()
        if not self.lengths:
            return
        episodes = self.path / "meta" / "episodes" / "chunk-000" / "file-000.parquet"
        episodes.parent.mkdir(parents=True)
        parquet.write_table(pyarrow.Table.from_pylist(self._rows), episodes)
        self._write_tasks()
        found = {name: of_numbers(np.concatenate(rows)) for name, rows in self._numbers.items()}
        frames = sum(self.lengths)
        found |= {key: of_images(counts, frames) for key, counts in self._histograms.items()}
        plain = {key: {which: v.tolist() for which, v in one.items()} for key, one in found.items()}
        console.write_json(self.path / "meta" / "stats.json", plain)
        console.write_json(self.path / "meta" / "info.json", self._info())

    def _file(self, template: str, **values: str) -> Path:
        chunk, place = divmod(len(self.lengths), _PER_CHUNK)
        return self.path / template.format(chunk_index=chunk, file_index=place, **values)

    def _write_tasks(self) -> None:
        """As pandas writes a table whose index is the task: LeRobot looks tasks up by it."""
        column = {"name": "task_index", "pandas_type": "int64", "numpy_type": "int64"}
        index = {"name": "task", "pandas_type": "unicode", "numpy_type": "object"}
        pandas = {
            "index_columns": ["task"],
            "column_indexes": [],
            "columns": [{**c, "field_name": c["name"], "metadata": None} for c in (column, index)],
            "pandas_version": "2.0.0",
        }
        words, numbers = list(self._tasks), list(self._tasks.values())
        table = pyarrow.table({"task_index": numbers, "task": words})
        table = table.replace_schema_metadata({"pandas": json.dumps(pandas)})
        parquet.write_table(table, self.path / "meta" / "tasks.parquet")

    def _info(self) -> dict[str, Any]:
        names = [f"{joint}.pos" for joint in self._joints]
        features: dict[str, Any] = {
            name: {"dtype": "float32", "shape": [len(names)], "names": names}
            for name in (_STATE, _ACTION)
        }
        for camera, (height, width, pixels) in self._sizes.items():
            features[_key(camera)] = {
                "dtype": "video",
                "shape": [height, width, 3],
                "names": ["height", "width", "channels"],
                "info": {
                    "video.height": height,
                    "video.width": width,
                    "video.codec": CODEC.removeprefix("lib").replace("x264", "h264"),
                    "video.pix_fmt": pixels,
                    "video.is_depth_map": False,
                    "video.fps": self.fps,
                    "video.channels": 3,
                    "has_audio": False,
                },
            }
        for name in _INDICES:
            kind = "float32" if name == "timestamp" else "int64"
            features[name] = {"dtype": kind, "shape": [1], "names": None}
        return {
            "codebase_version": "v3.0",
            "robot_type": self._robot or None,
            "total_episodes": len(self.lengths),
            "total_frames": sum(self.lengths),
            "total_tasks": len(self._tasks),
            "chunks_size": _PER_CHUNK,
            "data_files_size_in_mb": 100,
            "video_files_size_in_mb": 200,
            "fps": self.fps,
            "splits": {"train": f"0:{len(self.lengths)}"},
            "data_path": V3_DATA,
            "video_path": V3_VIDEO,
            "features": features,
        }


def _key(camera: str) -> str:
    return f"observation.images.{camera}"
