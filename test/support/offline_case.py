"""Recordings, parameters and a policy for replays without ROS."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pi0_ros.bags.writer import BagWriter, message_types
from pi0_ros.node.parameters import NodeParameters
from pi0_ros.policy.types import ActionChunk, Observation
from pi0_ros.replay import deterministic_command
from pi0_ros.replay.main import parse_args

START = 1_700_000_000_000_000_000
THREE = ("shoulder", "elbow", "gripper")
SIX = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
TYPES = {
    "/front/image_raw": "sensor_msgs/msg/Image",
    "/wrist/image_raw": "sensor_msgs/msg/Image",
    "/joint_states": "sensor_msgs/msg/JointState",
    "/instruction": "std_msgs/msg/String",
    "/commands": "trajectory_msgs/msg/JointTrajectory",
}
Entry = tuple[int, str, Any]


def motion(seconds: np.ndarray | float, joints: int) -> np.ndarray:
    """[n, joints] rad: where the recorded joints are, seconds after START."""
    return 0.5 * np.sin(2.0 * np.asarray(seconds, float)[..., None] + np.arange(joints))


def header(time: int) -> Any:
    types = message_types().types
    stamp = types["builtin_interfaces/msg/Time"](*divmod(time, 10**9))
    return types["std_msgs/msg/Header"](stamp=stamp, frame_id="")


def image(time: int, shade: int) -> Any:
    pixels = np.full(48 * 64 * 3, shade % 256, np.uint8)
    kind = message_types().types["sensor_msgs/msg/Image"]
    return kind(header(time), 48, 64, "rgb8", 0, 64 * 3, pixels)


def joint_state(time: int, names: Sequence[str], positions: np.ndarray) -> Any:
    empty = np.zeros(0)
    kind = message_types().types["sensor_msgs/msg/JointState"]
    return kind(header(time), list(names), np.asarray(positions, float), empty, empty)


def arm_at_work(
    seconds: float = 2.0,
    joints: Sequence[str] = THREE,
    camera_hz: float = 10.0,
    camera_offset: float = 0.053,
    camera_seconds: float | None = None,
) -> list[Entry]:
    """(time, topic, message) of two cameras, joint states at 100 Hz and an instruction.

    By default pictures come 53 ms after each tenth of a second: ticks at 10 Hz see the same ones
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
    text = message_types().types["std_msgs/msg/String"]
    entries.append((START, "/instruction", text(data="touch the red cube")))
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
            data = message
            if not isinstance(message, bytes):
                data = bytes(message_types().serialize_cdr(message, types[topic]))
            writer.write(topic, time, data)
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


def run_offline(
    argv: Sequence[str | Path],
    make: Callable[[NodeParameters], Any] = FakePolicy,
    interrupted: Callable[[], bool] = lambda: False,
) -> int:
    """The command's deterministic part with a fake policy; raises what it raises."""
    args = parse_args([str(word) for word in argv])
    return deterministic_command.run(args, interrupted, make, lambda *_: [])
