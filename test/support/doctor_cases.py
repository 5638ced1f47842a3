"""A small robot for the doctor's tests: settings, a checkpoint with statistics of its own, bags."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from safetensors.numpy import load_file, save_file

from pi0_ros.node.arguments import write_arguments
from pi0_ros.node.interface import Interface, read_interface

# Name -> (mean, standard deviation) of the training's states, radians: no two alike.
JOINTS = {
    "pan": (0.0, 0.2),
    "lift": (-1.0, 0.3),
    "elbow": (1.2, 0.3),
    "flex": (2.2, 0.2),
    "roll": (-2.0, 0.2),
    "grip": (0.5, 0.2),
}
MEAN, STD = (np.array(column) for column in zip(*JOINTS.values(), strict=True))
START = 1_700_000_000 * 10**9
STORE = get_typestore(Stores.ROS2_HUMBLE)
TYPES = STORE.types

Change = Callable[[str, Any], "Any | None"]
"""Takes a topic and a message and returns the message or messages to record instead; None: none."""


def given(**changes: Any) -> dict[str, Any]:
    """Parameters; `a__b` in a name stands for `a.b`."""
    base = {"checkpoint": "/none", "joints": list(JOINTS), "instruction": "touch the cube"}
    return base | {name.replace("__", "."): value for name, value in changes.items()}


def settings(use_sim_time: bool = False, **changes: Any) -> Interface:
    """The node /pi0 with such parameters."""
    return read_interface(write_arguments(parameters=given(use_sim_time=use_sim_time, **changes)))


def write_statistics(path: Path, mean: np.ndarray, std: np.ndarray) -> Path:
    """Give a LeRobot 0.4 checkpoint other statistics, of states and actions."""
    values = {"mean": np.asarray(mean, np.float32), "std": np.asarray(std, np.float32)}
    for file in path.glob("policy*.safetensors"):
        kept = load_file(file)
        save_file({name: values.get(name.rsplit(".")[-1], kept[name]) for name in kept}, file)
    return path


def copy_checkpoint(demo: Path, to: Path) -> Path:
    """The demo checkpoint with this robot's statistics."""
    return write_statistics(Path(shutil.copytree(demo, to)), MEAN, STD)


def header(nanoseconds: int) -> Any:
    sec, nanosec = divmod(nanoseconds, 10**9)
    stamp = TYPES["builtin_interfaces/msg/Time"](sec=sec, nanosec=nanosec)
    return TYPES["std_msgs/msg/Header"](stamp=stamp, frame_id="")


def state_at(k: int) -> np.ndarray:
    """[joints] radians: within one and a half standard deviations, all joints moving."""
    return MEAN + 1.5 * STD * np.sin(k / 20 + np.arange(len(JOINTS)))


def write_bag(path: Path, change: Change = lambda topic, m: m, seconds: float = 2.0) -> Path:
    """Two cameras at 20 Hz, joint states at 50 Hz and an instruction, each message changed."""
    rng = np.random.default_rng(0)
    messages: list[tuple[int, str, Any]] = [
        (START, "/instruction", TYPES["std_msgs/msg/String"](data="touch the cube"))
    ]
    for k in range(round(seconds * 20)):
        at = START + k * 50_000_000
        for camera in ("front", "wrist"):
            pixels = rng.integers(0, 256, 48 * 64 * 3, np.uint8)
            image = TYPES["sensor_msgs/msg/Image"](header(at), 48, 64, "rgb8", 0, 192, pixels)
            messages.append((at, f"/{camera}/image_raw", image))
    for k in range(round(seconds * 50)):
        at, none = START + k * 20_000_000, np.zeros(0)
        state = TYPES["sensor_msgs/msg/JointState"](
            header(at), list(JOINTS), state_at(k), none, none
        )
        messages.append((at, "/joint_states", state))
    messages.sort(key=lambda message: message[0])
    connections: dict[tuple[str, str], Any] = {}
    with Writer(path, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        for at, topic, message in messages:
            changed = change(topic, message)
            for message in changed if isinstance(changed, list) else [changed]:
                if message is None:
                    continue
                kind = message.__msgtype__
                if (topic, kind) not in connections:
                    connections[topic, kind] = writer.add_connection(topic, kind, typestore=STORE)
                data = STORE.serialize_cdr(message, kind)
                writer.write(connections[topic, kind], at, data)
    return path
