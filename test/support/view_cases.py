"""What there is to look at: a small robot, and the results of a replay of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pi0_ros.bags.chunks import EXECUTED, ChunkRecord
from support.recordings import START, THREE, write_bag

JOINTS = THREE
DT = 0.02
STEPS = 50
TOPIC = "/pi0/action_chunk"


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


def write_urdf(folder: Path, text: str) -> Path:
    path = folder / "bars.urdf"
    path.write_text(text)
    return path


def chunk(
    time: int, sequence: int, joints: Sequence[str] = JOINTS, verdict: int = EXECUTED, why: str = ""
) -> ChunkRecord:
    """A chunk that turns the first joint from 0.5 to 2.0 rad, published at `time`."""
    positions = np.zeros((STEPS, len(joints)), np.float32)
    positions[:, 0] = np.linspace(0.5, 2.0, STEPS)
    positions[:, 1] = 0.4 * sequence  # no path hides another
    return ChunkRecord(
        stamp=time - 50_000_000,
        sequence=sequence,
        instruction="turn to the left",
        joint_names=tuple(joints),
        positions=positions,
        dt=DT,
        camera_ages=(0.05,),
        inference_time=0.03,
        camera_names=("front",),
        joint_states_age=0.05,
        verdict=verdict,
        rejected_reason=why,
    )


def write_results(
    path: Path, times: Sequence[float], joints: Sequence[str] = JOINTS, shift: float = 0.0
) -> Path:
    """A bag of chunks published at these seconds after START + `shift`."""
    published = [START + round((seconds + shift) * 1e9) for seconds in times]
    entries = [
        (time, TOPIC, chunk(time, number, joints).message())
        for number, time in enumerate(published)
    ]
    return write_bag(path, entries, types={TOPIC: "pi0_ros/msg/ActionChunk"})
