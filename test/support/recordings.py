"""Fixtures: small recordings made on the spot, and the fake node."""

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

JOINTS = ("shoulder", "elbow", "gripper")
# 2023: a recording is old when it is replayed.
START = 1_700_000_000_000_000_000
DEFAULT_TOPICS = ("/front/image_raw", "/wrist/image_raw", "/joint_states", "/instruction")

MakeBag = Callable[..., Path]


def messages_of(topics: Iterable[str], seconds: float, stamp_offset: float) -> list[tuple]:
    """(time, topic, type, message) of two cameras at 30 Hz and joint states at 100 Hz."""
    store = get_typestore(Stores.ROS2_HUMBLE)
    types = store.types
    header_type = types["std_msgs/msg/Header"]
    time_type = types["builtin_interfaces/msg/Time"]

    def header(time: int) -> Any:
        stamp = time - round(stamp_offset * 1e9)
        seconds, nanoseconds = divmod(stamp, 1_000_000_000)
        return header_type(stamp=time_type(sec=seconds, nanosec=nanoseconds), frame_id="")

    messages: list[tuple] = []
    for topic in topics:
        if topic.endswith("image_raw"):
            kind = "sensor_msgs/msg/Image"
            for k in range(round(seconds * 30)):
                time = START + round(k / 30 * 1e9)
                pixels = np.full(48 * 64 * 3, k % 256, np.uint8)
                image = types[kind](header(time), 48, 64, "rgb8", 0, 64 * 3, pixels)
                messages.append((time, topic, kind, image))
        elif topic.endswith("joint_states"):
            kind = "sensor_msgs/msg/JointState"
            for k in range(round(seconds * 100)):
                time = START + round(k / 100 * 1e9)
                positions = np.sin(k / 30 + np.arange(len(JOINTS)))
                empty = np.zeros(0)
                state = types[kind](header(time), list(JOINTS), positions, empty, empty)
                messages.append((time, topic, kind, state))
        else:
            kind = "std_msgs/msg/String"
            messages.append((START, topic, kind, types[kind](data="pick up the cube")))
    messages.sort(key=lambda message: message[0])
    return [(t, topic, kind, store.serialize_cdr(m, kind)) for t, topic, kind, m in messages]


@pytest.fixture(scope="session")
def make_bag(tmp_path_factory: pytest.TempPathFactory) -> MakeBag:
    """Writes a recording: make_bag(topics, seconds, storage, stamp_offset, cut) -> its path.

    `stamp_offset` is by how many seconds the header stamps lie before the receive times, `cut`
    the number of bytes that are left of the last message of a topic.
    """

    def make(
        topics: Iterable[str] = DEFAULT_TOPICS,
        seconds: float = 2.0,
        storage: str = "mcap",
        stamp_offset: float = 0.0,
        cut: Mapping[str, int] | None = None,
    ) -> Path:
        path = tmp_path_factory.mktemp("recording") / "bag"
        plugin = StoragePlugin.MCAP if storage == "mcap" else StoragePlugin.SQLITE3
        store = get_typestore(Stores.ROS2_HUMBLE)
        with Writer(path, version=8, storage_plugin=plugin) as writer:
            connections = {}
            messages = messages_of(topics, seconds, stamp_offset)
            last = {topic: k for k, (_, topic, _, _) in enumerate(messages)}
            for k, (time, topic, kind, data) in enumerate(messages):
                if topic not in connections:
                    connections[topic] = writer.add_connection(topic, kind, typestore=store)
                left = (cut or {}).get(topic) if k == last[topic] else None
                writer.write(connections[topic], time, data[:left])
        return path

    return make


@pytest.fixture(scope="session")
def recording(make_bag: MakeBag) -> Path:
    """Two seconds of everything that the node needs, MCAP."""
    return make_bag()


@pytest.fixture
def params(tmp_path: Path) -> Path:
    """A parameter file for the joints of the recordings."""
    path = tmp_path / "params.yaml"
    path.write_text(
        "/**:\n  ros__parameters:\n"
        "    cameras: [front, wrist]\n"
        f"    joints: [{', '.join(JOINTS)}]\n"
        "pi0:\n  ros__parameters: {rate_hz: 10.0}\n"
    )
    return path


@pytest.fixture
def fake_node() -> tuple[str, ...]:
    """The command that starts the fake node."""
    return (sys.executable, str(Path(__file__).with_name("fake_node.py")))
