"""Fixtures of the node's tests; what they are made of is in node_harness.py."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

# pytest's importlib mode puts no test directory on the path.
from support.harness import FakePolicy, Harness


@pytest.fixture(scope="session")
def domains() -> Iterator[int]:
    """Domain ids that runs beside this one are unlikely to use; above 101 ports run out."""
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    first = os.getpid() * 7
    return (number % 100 + 1 for number in range(first, first + 10_000))


@pytest.fixture
def start(domains: Iterator[int], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable]:
    """start(policy, **options of Harness) -> Harness, ended with the test."""
    pytest.importorskip("rclpy")
    from pi0_ros.node.observation import ObservationBuffer, stamp_of

    arrivals: list[tuple[str, int]] = []
    put_image, put_joint_state = ObservationBuffer.put_image, ObservationBuffer.put_joint_state

    def counted_image(buffer: ObservationBuffer, camera: str, message: Any) -> None:
        put_image(buffer, camera, message)
        arrivals.append((camera, stamp_of(message)))

    def counted_joint_state(buffer: ObservationBuffer, message: Any) -> None:
        put_joint_state(buffer, message)
        arrivals.append(("joints", stamp_of(message)))

    monkeypatch.setattr(ObservationBuffer, "put_image", counted_image)
    monkeypatch.setattr(ObservationBuffer, "put_joint_state", counted_joint_state)
    running = []

    def begin(policy: FakePolicy | None = None, **options: Any) -> Harness:
        harness = Harness(next(domains), policy or FakePolicy(), arrivals, **options)
        running.append(harness)
        return harness

    yield begin
    for harness in running:
        harness.close()
