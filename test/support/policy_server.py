"""A policy server in a thread of the test's process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from pi0_ros.checkpoint.metadata import Declared
from pi0_ros.checkpoint.normalization import normalization
from pi0_ros.policy.card import PolicyCard
from pi0_ros.policy.types import ActionChunk, ActionPrefix, Observation
from support.waiting import PATIENCE

HORIZON, JOINTS = 10, 3
CAMERAS = ("front", "wrist")


def card(**changes: Any) -> PolicyCard:
    """Of a policy with two cameras and three joints."""
    identity = normalization("IDENTITY", {}, JOINTS)
    given = {
        "format": "fake",
        "cameras": CAMERAS,
        "served": CAMERAS,
        "joints": JOINTS,
        "horizon": HORIZON,
        "state": identity,
        "action": identity,
        "action_mode": "absolute",
        "delta_mask": None,
        "prompt_state": 0,
        "declared": Declared(),
        "image_size": 224,
        "antialias": False,
    }
    return PolicyCard(**{**given, **changes})


class StubPolicy:
    """Adds a step's number to the state, and the mean of the images to the last joint."""

    horizon, device = HORIZON, "cpu"

    def __init__(self) -> None:
        self.seen: list[Observation] = []
        self.before: Callable[[Observation], None] = lambda observation: None

    def infer(
        self,
        observation: Observation,
        *,
        prefix: ActionPrefix | None = None,
        sequence: int | None = None,
    ) -> ActionChunk:
        self.before(observation)
        self.seen.append(observation)
        self.prefix = prefix
        missing = set(CAMERAS) - set(observation.images)
        if missing:
            raise ValueError(f"the observation lacks the cameras {sorted(missing)}")
        if len(observation.state) != JOINTS:
            raise ValueError(f"the state must be [{JOINTS}], got {len(observation.state)}")
        positions = np.tile(np.asarray(observation.state, np.float32), (HORIZON, 1))
        positions += np.arange(HORIZON, dtype=np.float32)[:, None]
        positions[:, -1] += np.mean([image.mean() for image in observation.images.values()])
        return ActionChunk(positions, 0.02, 0, sequence or 0, 5, {"model": 0.001})


@contextmanager
def policy_server(
    policy: Any = None, its_card: PolicyCard | None = None, **options: Any
) -> Iterator[str]:
    """Serve on the loopback; yields the server's URL.

    Args:
        options: of `ServerOptions`, and `port`.
    """
    from pi0_ros.serve.engine import Engine
    from pi0_ros.serve.metrics import Metrics
    from pi0_ros.serve.server import PolicyServer, ServerOptions

    port = options.pop("port", 0)
    policy = StubPolicy() if policy is None else policy
    metrics = Metrics()
    engine = Engine(lambda: (policy, its_card or card()), metrics.on_batch)
    ready, told = threading.Event(), {}

    def on_ready(opened: Any) -> None:
        told["port"] = opened.sockets[0].getsockname()[1]
        ready.set()

    async def serve() -> None:
        told["stop"], told["loop"] = asyncio.Event(), asyncio.get_running_loop()
        server = PolicyServer(engine, ServerOptions(**options), metrics)
        await server.run(told["stop"], on_ready, host="127.0.0.1", port=port)

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert ready.wait(PATIENCE)
    scheme = "wss" if options.get("tls") else "ws"
    try:
        yield f"{scheme}://localhost:{told['port']}"
    finally:
        told["loop"].call_soon_threadsafe(told["stop"].set)
        thread.join(PATIENCE)
        engine.close(PATIENCE)
