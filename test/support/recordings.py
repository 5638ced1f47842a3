"""Recordings, parameters and policies for replays; fixtures of them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pi0_ros import cli, console
from pi0_ros.bags.messages import encode, make, make_header
from pi0_ros.bags.writer import BagWriter
from pi0_ros.node.parameters import NodeParameters
from pi0_ros.policy.types import ActionChunk, Observation
from pi0_ros.replay import case, command

START = 1_700_000_000_000_000_000
"""2023: a recording is old when it is replayed."""

THREE = ("shoulder", "elbow", "gripper")
SIX = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
TYPES = {
    "/front/image_raw": "sensor_msgs/msg/Image",
    "/wrist/image_raw": "sensor_msgs/msg/Image",
    "/joint_states": "sensor_msgs/msg/JointState",
    "/instruction": "std_msgs/msg/String",
    "/commands": "trajectory_msgs/msg/JointTrajectory",
}
DEFAULT_TOPICS = ("/front/image_raw", "/wrist/image_raw", "/joint_states", "/instruction")

Entry = tuple[int, str, Any]
MakeBag = Callable[..., Path]


def motion(seconds: np.ndarray | float, joints: int) -> np.ndarray:
    """[n, joints] rad: where the recorded joints are, seconds after START."""
    return 0.5 * np.sin(2.0 * np.asarray(seconds, float)[..., None] + np.arange(joints))


def image(stamp: int, shade: int) -> Any:
    """A grey image, 64 x 48."""
    pixels = np.full(48 * 64 * 3, shade % 256, np.uint8)
    return make("sensor_msgs/msg/Image", make_header(stamp), 48, 64, "rgb8", 0, 64 * 3, pixels)


def joint_state(stamp: int, names: Sequence[str], positions: np.ndarray) -> Any:
    """A joint state without velocities."""
    values, empty = np.asarray(positions, float), np.zeros(0)
    return make("sensor_msgs/msg/JointState", make_header(stamp), list(names), values, empty, empty)


def text(data: str) -> Any:
    """A std_msgs/String."""
    return make("std_msgs/msg/String", data=data)


def arm_at_work(
    seconds: float = 2.0,
    joints: Sequence[str] = THREE,
    camera_hz: float = 10.0,
    camera_offset: float = 0.053,
    camera_seconds: float | None = None,
) -> list[Entry]:
    """(time, topic, message) of two cameras, joint states at 100 Hz and an instruction.

    By default images come 53 ms after each tenth of a second: ticks at 10 Hz see the same ones
    even if they come 40 ms late.
    """
    entries: list[Entry] = []
    last = seconds if camera_seconds is None else camera_seconds
    for k in range(int((last - camera_offset) * camera_hz) + 1):
        time = START + round((camera_offset + k / camera_hz) * 1e9)
        entries.append((time, "/front/image_raw", image(time, 7 * k)))
        entries.append((time + 4_000_000, "/wrist/image_raw", image(time + 4_000_000, 90 + 5 * k)))
    for k in range(round(seconds * 100)):
        time = START + k * 10_000_000
        positions = motion(k / 100, len(joints))
        entries.append((time, "/joint_states", joint_state(time, joints, positions)))
    entries.append((START, "/instruction", text("touch the red cube")))
    return entries


def write_bag(
    path: Path,
    entries: Iterable[Entry],
    storage: str = "mcap",
    types: Mapping[str, str] = TYPES,
) -> Path:
    """Writes a recording of messages, or of bytes as they are; `types` of further topics."""
    entries = sorted(entries, key=lambda entry: entry[0])
    types = {**TYPES, **types}
    topics = {topic: types[topic] for _, topic, _ in entries}
    with BagWriter(path, storage, topics) as writer:
        for time, topic, message in entries:
            writer.write(topic, time, message if isinstance(message, bytes) else encode(message))
    return path


def write_params(path: Path, joints: Sequence[str] = THREE, **more: Any) -> Path:
    """A parameter file for these recordings."""
    values = {"cameras": "[front, wrist]", "joints": f"[{', '.join(joints)}]", "threads": 1, **more}
    lines = [f"    {name}: {value}\n" for name, value in values.items()]
    path.write_text("/**:\n  ros__parameters:\n" + "".join(lines))
    return path


class FakePolicy:
    """Wants the joints to stay where they were observed, off by a seeded milliradian."""

    horizon = 50
    device = "cpu"

    def __init__(self, parameters: NodeParameters) -> None:
        self.dt, self.seed = parameters.action_dt, parameters.seed
        self.offset = 0.0
        self.seen: list[Observation] = []
        self.resets = 0

    def reset(self) -> None:
        self.resets += 1

    def noise(self, sequence: int) -> np.ndarray:
        return np.random.default_rng((self.seed, sequence)).standard_normal((self.horizon, 1))

    def infer(self, observation: Observation, noise: np.ndarray | None = None) -> ActionChunk:
        assert noise is not None
        self.seen.append(observation)
        steps = observation.state + self.offset + 0.001 * noise.clip(-1, 1)
        return ActionChunk(
            positions=steps.astype(np.float32),
            dt=self.dt,
            stamp=observation.stamp,
            sequence=0,
            seed=self.seed,
            stage_times={"all": 0.001},
        )


def parse(module: Any, verb: str, argv: Sequence[object]) -> argparse.Namespace:
    """The arguments of a verb, checked."""
    parser = cli.make_parser(verb, module)
    args = parser.parse_args([str(word) for word in argv])
    if hasattr(module, "check"):
        module.check(parser, args)
    return args


def run_offline(
    argv: Sequence[object], make_policy: Callable[[NodeParameters], Any] = FakePolicy
) -> int:
    """`pi0 replay --deterministic` with a fake policy; raises what it raises."""
    args = parse(command, "replay", argv)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(case, "load_policy", make_policy)
        patch.setattr(case, "preflight", lambda *_: [])
        return command.run_deterministic(args)


@contextmanager
def without_plots() -> Iterator[None]:
    """As if matplotlib were not installed: plots take most of the time of a replay here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(console, "is_installed", lambda module: module != "matplotlib")
        yield


@pytest.fixture
def no_plots() -> Iterator[None]:
    """See `without_plots`."""
    with without_plots():
        yield


@pytest.fixture(scope="session")
def make_bag(tmp_path_factory: pytest.TempPathFactory) -> MakeBag:
    """Writes a recording of two cameras at 30 Hz and joint states at 100 Hz.

    make_bag(topics, seconds, storage, stamp_offset, cut) -> its path. `stamp_offset` is by how many
    seconds the header stamps lie before the receive times, `cut` the number of bytes that are left
    of the last message of a topic.
    """

    def make_it(
        topics: Iterable[str] = DEFAULT_TOPICS,
        seconds: float = 2.0,
        storage: str = "mcap",
        stamp_offset: float = 0.0,
        cut: Mapping[str, int] | None = None,
    ) -> Path:
        entries: list[Entry] = []
        types = {}
        for topic in topics:
            hz = 30 if topic.endswith("image_raw") else 100
            times = [START + round(k / hz * 1e9) for k in range(round(seconds * hz))]
            stamps = [time - round(stamp_offset * 1e9) for time in times]
            if hz == 30:
                made = [image(stamp, k) for k, stamp in enumerate(stamps)]
            elif topic.endswith("joint_states"):
                made = [
                    joint_state(stamp, THREE, np.sin(k / 30 + np.arange(3)))
                    for k, stamp in enumerate(stamps)
                ]
            else:
                times, made = [START], [text("pick up the cube")]
            encoded = list(map(encode, made))
            if cut and topic in cut and encoded:
                encoded[-1] = encoded[-1][: cut[topic]]
            if made:
                types[topic] = made[0].__msgtype__
            entries += zip(times, [topic] * len(times), encoded, strict=True)
        return write_bag(tmp_path_factory.mktemp("recording") / "bag", entries, storage, types)

    return make_it


@pytest.fixture(scope="session")
def recording(make_bag: MakeBag) -> Path:
    """Two seconds of everything that the node needs, MCAP."""
    return make_bag()


@pytest.fixture
def params(tmp_path: Path) -> Path:
    """A parameter file for the joints of the recordings."""
    return write_params(tmp_path / "params.yaml", rate_hz=10.0)


@pytest.fixture
def fake_node() -> tuple[str, ...]:
    """The command that starts the fake node."""
    return (sys.executable, str(Path(__file__).with_name("fake_node.py")))
