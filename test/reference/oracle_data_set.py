"""LeRobot's own data sets: `python -m reference.oracle_data_set write|read PATH`.

`write` records two episodes of six frames: joint k counts frames from 10 * k + episode, the action
is one more, the camera's image is grey 20 * frame. `read` prints what the loader gives, as JSON.
"""

import importlib
import json
import sys
from typing import Any

import av  # noqa: F401
import datasets  # noqa: F401
import numpy as np
import pandas  # noqa: F401
from transformers import AutoProcessor, AutoTokenizer  # noqa: F401

from benchmarks.race import peer_stubs

JOINTS = ("pan", "lift", "gripper")
FPS, EPISODES, LENGTH = 10, 2, 6


def main(verb: str, path: str) -> None:
    # Stand-ins for packages that data sets do not use, after all that look for these themselves.
    peer_stubs.install()
    module = importlib.import_module("lerobot.datasets.lerobot_dataset")
    {"write": write, "read": read}[verb](module.LeRobotDataset, path)


def write(kind: Any, path: str) -> None:
    vector = {"dtype": "float32", "shape": (3,), "names": [f"{j}.pos" for j in JOINTS]}
    image = {"dtype": "video", "shape": (48, 64, 3), "names": ["height", "width", "channels"]}
    features = {"observation.state": vector, "action": vector, "observation.images.front": image}
    data = kind.create("local/set", fps=FPS, features=features, root=path, use_videos=True)
    for episode in range(EPISODES):
        for k in range(LENGTH):
            state = (np.arange(3) * 10 + episode + k).astype(np.float32)
            grey = np.full((48, 64, 3), 20 * k, np.uint8)
            frame = {
                "observation.state": state,
                "action": state + 1,
                "observation.images.front": grey,
            }
            task = f"task {episode}"
            if hasattr(data, "finalize"):
                data.add_frame({**frame, "task": task})
            else:  # LeRobot 0.3
                data.add_frame(frame, task=task)
        data.save_episode()
    if hasattr(data, "finalize"):
        data.finalize()


def read(kind: Any, path: str) -> None:
    data = kind("local/set", root=path, video_backend="pyav")
    ahead = {"action": [k / data.fps for k in range(4)]}  # as a policy of chunks is trained
    chunks = kind("local/set", root=path, video_backend="pyav", delta_timestamps=ahead)
    frames = []
    for k in range(len(data)):
        item = data[k]
        frames.append(
            {
                "episode": int(item["episode_index"]),
                "time": float(item["timestamp"]),
                "task": item["task"],
                "state": item["observation.state"].tolist(),
                "action": item["action"].tolist(),
                "chunk": chunks[k]["action"].tolist(),
                "grey": {
                    name: float(value.mean() * 255)
                    for name, value in item.items()
                    if name.startswith("observation.images.")
                },
            }
        )
    stats = {
        name: {which: np.asarray(value).tolist() for which, value in found.items()}
        for name, found in data.meta.stats.items()
    }
    print(json.dumps({"fps": data.fps, "episodes": data.num_episodes, "frames": frames,
                      "statistics": stats}))  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
