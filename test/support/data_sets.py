"""Small LeRobot data sets, of versions 2.1 and 3.0, and the robot that they are of."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from support.recordings import (
    write_params,
)

pyarrow = pytest.importorskip("pyarrow")
pytest.importorskip("av")

import pyarrow.parquet as parquet  # noqa: E402

from pi0_ros.datasets.episode import EpisodeRecording, open_episode  # noqa: E402
from pi0_ros.datasets.layout import open_data_set  # noqa: E402
from pi0_ros.datasets.video import VideoWriter  # noqa: E402
from pi0_ros.datasets.writer import DataSetWriter  # noqa: E402
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


def write_robot(path: Path, joints: tuple[str, ...] = JOINTS, **more: object) -> Path:
    scales = "".join(f"\n        {name}: {{scale: 0.5, offset: 0.25}}" for name in joints)
    return write_params(path, joints, rate_hz=10.0, action_dt=0.1, joint=scales, **more)


def interface_of(params: Path) -> Interface:
    return read_interface(write_arguments([params], {"checkpoint": "none"}))


def episode_of(path: Path, number: int, params: Path) -> EpisodeRecording:
    return open_episode(open_data_set(path), number, interface_of(params).parameters)
