"""The service ~/profile: where the time of an inference goes, on the robot and its own pictures."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pi0_ros.node.observation import Snapshot
from pi0_ros.serve.process import PolicyProcess

INFERENCES = 5


@dataclass(frozen=True)
class ProfileAnswer:
    """What the caller of the service is told."""

    success: bool
    text: str


def profile(
    policy: Any, snapshot: Snapshot, decode: Callable[[Any], np.ndarray], directory: str
) -> ProfileAnswer:
    """Profile inferences on one observation.

    The chunks are not published, but they count in the policy's sequence.

    Args:
        policy: a `pi0_ros.policy.policy.Policy`, here or in a process of its own.
        decode: see `Snapshot.observation`.
        directory: gets a folder with the raw data.

    Returns:
        The report as text, as `pi0_profile` prints it; or why there is none: whatever went wrong
        concerns the caller of the service, and not the node.
    """
    # Seldom used, and torch's profiler is slow to import.
    from pi0_ros.profile.run import profile_policy
    from pi0_ros.profile.table import format_report

    out = Path(directory).expanduser() / time.strftime("%Y%m%d-%H%M%S")
    try:
        observation = snapshot.observation(decode)
        if isinstance(policy, PolicyProcess):
            return ProfileAnswer(True, policy.profile(observation, INFERENCES, out))
        report = profile_policy(policy, observation, INFERENCES, out, device=policy.device)
    except Exception as error:
        return ProfileAnswer(False, f"{type(error).__name__}: {error}")
    return ProfileAnswer(True, format_report(report))
