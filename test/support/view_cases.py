"""What there is to look at: a small robot, a recording of it, and the results of a replay."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer

from pi0_ros.bags.writer import CHUNK_TYPE, message_types

JOINTS = ("shoulder", "elbow", "gripper")
START = 1_700_000_000_000_000_000
DT = 0.02
STEPS = 50


def urdf(joints: Sequence[str] = JOINTS, visual: str = "") -> str:
    """A robot of bars in a row that turn about z, 0.3 m long each."""
    bar = '<geometry><box size="0.28 0.04 0.04"/></geometry>'
    bar = f'<visual><origin xyz="0.15 0 0"/>{visual or bar}</visual>'
    links = "".join(f'<link name="link{i}">{bar}</link>' for i in range(len(joints) + 1))
    turning = "".join(
        f'<joint name="{name}" type="revolute"><parent link="link{i}"/><child link="link{i + 1}"/>'
        # The last one stands above the others, where its path is in sight.
        f'<origin xyz="{0.3 * (i > 0)} 0 {0.2 * (i == len(joints) - 1)}"/><axis xyz="0 0 1"/>'
        '<limit lower="-3" upper="3" effort="1" velocity="1"/></joint>'
        for i, name in enumerate(joints)
    )
    return f'<robot name="bars">{links}{turning}</robot>'


def chunk_message(time: int, sequence: int, joints: Sequence[str] = JOINTS) -> Any:
    """A chunk that turns the first joint from 0.5 to 2.0 rad, published at `time`."""
    types = message_types().types
    stamp = types["builtin_interfaces/msg/Time"](*divmod(time - 50_000_000, 1_000_000_000))
    positions = np.zeros((STEPS, len(joints)))
    positions[:, 0] = np.linspace(0.5, 2.0, STEPS)
    positions[:, 1] = 0.4 * sequence  # no path hides another
    return types[CHUNK_TYPE](
        header=types["std_msgs/msg/Header"](stamp=stamp, frame_id=""),
        sequence=sequence,
        seed=0,
        instruction="turn to the left",
        dt=DT,
        horizon=STEPS,
        joint_names=list(joints),
        positions=positions.ravel(),
        camera_names=["front"],
        camera_ages=np.array([0.05]),
        joint_states_age=0.05,
        stage_names=["model"],
        stage_times=np.array([0.03]),
        verdict=1,
        rejected_reason="",
    )


def write_results(
    path: Path, times: Sequence[float], joints: Sequence[str] = JOINTS, shift: float = 0.0
) -> Path:
    """A bag of chunks published at these seconds after START + `shift`."""
    store = message_types()
    with Writer(path, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/pi0/action_chunk", CHUNK_TYPE, typestore=store)
        for sequence, seconds in enumerate(times):
            time = START + round((seconds + shift) * 1e9)
            message = chunk_message(time, sequence, joints)
            writer.write(connection, time, store.serialize_cdr(message, CHUNK_TYPE))
    return path
