"""python -m benchmarks.joint_states: what the node does with one joint state, without ROS's part.

Reading the message, looking for contradictions and impossible samples, unwrapping, keeping it. Of
seven joints in one message, and in two: 1 kHz leaves 1000 us for it and for everything else.
"""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import numpy as np

from pi0_ros.motion.limits import JointLimits
from pi0_ros.node.observation import ObservationBuffer
from pi0_ros.node.parameters import read_parameters

JOINTS = tuple(f"joint_{number}" for number in range(7))
MESSAGES, ROUNDS = 2000, 5
PERIOD = 1_000_000  # nanoseconds


def message(names: tuple[str, ...]) -> Any:
    """A sensor_msgs/JointState by its attributes."""
    stamp = SimpleNamespace(sec=0, nanosec=0)
    values = np.full(len(names), 0.1)
    return SimpleNamespace(
        header=SimpleNamespace(stamp=stamp), name=list(names), position=values, velocity=values
    )


def microseconds(parts: list[Any]) -> float:
    """Per message, the best of ROUNDS; the messages come in turn at 1 kHz."""
    now = 10**18
    count = len(JOINTS)
    limits = JointLimits(JOINTS, *(np.full(count, value) for value in (-3.0, 3.0, 2.0, 10.0)))
    parameters = read_parameters({"checkpoint": "/none", "joints": list(JOINTS)})
    buffer = ObservationBuffer(parameters, lambda: now, limits)
    best = np.inf
    for _ in range(ROUNDS):
        spent = 0.0
        for number in range(MESSAGES):
            now += PERIOD
            part = parts[number % len(parts)]
            part.header.stamp.sec, part.header.stamp.nanosec = divmod(now, 10**9)
            begun = time.thread_time()
            buffer.put_joint_state(part)
            spent += time.thread_time() - begun
        best = min(best, spent / MESSAGES * 1e6)
    return best


def main() -> None:
    """Measure and print."""
    print(f"all {len(JOINTS)} joints in one message: {microseconds([message(JOINTS)]):.0f} us")
    parts = [message(JOINTS[:5]), message(JOINTS[5:])]
    print(f"in two messages: {microseconds(parts):.0f} us each")


if __name__ == "__main__":
    main()
