"""Fixtures of the node's tests; what they are made of is in support/harness.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.domains import free_domain
from support.harness import FakePolicy, Harness


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable]:
    """start(policy, **options of Harness) -> Harness, ended with the test."""
    pytest.importorskip("rclpy")
    from pi0_ros.node.observation import ObservationBuffer, stamp_of

    arrivals: list[tuple[str, int]] = []
    put_image, put_joint_state = ObservationBuffer.put_image, ObservationBuffer.put_joint_state

    def counted_image(buffer: ObservationBuffer, camera: str, message: Any) -> None:
        put_image(buffer, camera, message)
        arrivals.append((camera, stamp_of(message)))

    def counted_joint_state(buffer: ObservationBuffer, message: Any, topic: str = "") -> None:
        put_joint_state(buffer, message, topic)
        arrivals.append(("joints", stamp_of(message)))

    monkeypatch.setattr(ObservationBuffer, "put_image", counted_image)
    monkeypatch.setattr(ObservationBuffer, "put_joint_state", counted_joint_state)
    running = []

    def begin(policy: FakePolicy | None = None, **options: Any) -> Harness:
        harness = Harness(free_domain(), policy or FakePolicy(), arrivals, **options)
        running.append(harness)
        return harness

    yield begin
    for harness in running:
        harness.close()


@pytest.fixture(autouse=True)
def no_participants_left() -> Iterator[None]:
    """Frees the test's nodes. They are parts of cycles, and a configured node freezes the garbage
    collector: participants of dozens of earlier tests would slow down the discovery of the next."""
    yield
    from pi0_ros.node.memory import release

    release()
