"""The ROS arguments of the node for a run."""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from pathlib import Path

from benchmarks.overhead.figures import Case
from pi0_ros.node.arguments import write_arguments

_WIDE = {"max_position": 10.0, "max_velocity": 10.0, "max_acceleration": 100.0}
"""Radians, per second, per second squared."""


def demo_arguments(folder: Path) -> list[str]:
    """ROS arguments for a small checkpoint with random weights, which is written into `folder`."""
    from pi0_ros.checkpoint.random import CAMERAS, JOINTS, write_random_checkpoint
    from pi0_ros.model.config import TINY

    checkpoint = folder / "checkpoint"
    write_random_checkpoint(checkpoint, TINY)
    parameters = {
        "checkpoint": str(checkpoint),
        "device": "cpu",
        "dtype": "float32",
        "threads": 1,
        "cameras": list(CAMERAS),
        "joints": list(JOINTS),
    }
    return write_arguments(parameters=parameters)


def case_arguments(case: Case, joints: Sequence[str], folder: Path) -> list[str]:
    """ROS arguments of one case, which come after the others.

    A file with wide limits is written into `folder`. The chunks of random weights jump about, so
    the bands are as wide as they can be: each chunk is clamped, which takes longer than passing
    one on.
    """
    limits = folder / "limits.yaml"
    limits.write_text(json.dumps({"joint_limits": {joint: _limits() for joint in joints}}))
    parameters = {
        "rate_hz": case.rate_hz,
        "policy_url": _url(case),
        "joint_limits": str(limits),
        "allow_wide_limits": True,
        "image_transport": "raw",
        "use_sim_time": False,
        "autostart": True,
        "start_enabled": True,
        "deadman_timeout": 0.0,
        "recorded_arm": True,  # the robot does not follow
        "max_jump": 7.0,
        "clamp_position": 7.0,
        "clamp_velocity": 100.0,
        "clamp_acceleration": 10_000.0,
    }
    return write_arguments(parameters=parameters)


def _url(case: Case) -> str:
    if case.policy != "server":
        return {"node": "", "process": "process"}[case.policy]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"ws://127.0.0.1:{probe.getsockname()[1]}"


def _limits() -> dict[str, float | bool]:
    """One joint, as joint_limits.yaml spells it; JSON is YAML."""
    kinds = ("position", "velocity", "acceleration")
    has = {f"has_{kind}_limits": True for kind in kinds}
    return {**has, "min_position": -_WIDE["max_position"], **_WIDE}
