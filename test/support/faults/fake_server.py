"""A policy server with the fake policy: PORT, and `other` for one of another robot.

Told `garbage` or `late` (FAULT_CONTROL) it answers so; what else it is told is the policy's affair.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from pi0_ros.checkpoint.metadata import Declared
from pi0_ros.checkpoint.normalization import normalization
from pi0_ros.policy.card import PolicyCard
from pi0_ros.serve.engine import Engine
from pi0_ros.serve.metrics import Metrics
from pi0_ros.serve.server import PolicyServer, ServerOptions
from pi0_ros.serve.wire import pack, unpack
from support.faults.fake_policy import HOME, HORIZON, asked_for, load


class FakeServer(PolicyServer):
    """Answers wrongly when it is told to."""

    async def _answer(self, frame: Any, *rest: Any) -> Any:
        word = asked_for()
        if word == "garbage":
            return b"\xc1" * 100
        answer = await super()._answer(frame, *rest)
        if word == "late":
            message = unpack(answer)
            message["pi0_ros"]["id"] -= 1
            return pack(message)
        return answer


def card(joints: int, cameras: tuple[str, ...]) -> PolicyCard:
    identity = normalization("IDENTITY", {}, joints)
    return PolicyCard(
        format="fake",
        cameras=cameras,
        served=cameras,
        joints=joints,
        horizon=HORIZON,
        state=identity,
        action=identity,
        action_mode="absolute",
        delta_mask=None,
        prompt_state=0,
        declared=Declared(),
        image_size=224,
        antialias=False,
    )


async def serve(port: int, other: bool) -> None:
    its = card(7, ("base", "wrist")) if other else card(len(HOME), ("front", "wrist"))
    metrics = Metrics()
    engine = Engine(lambda: (load(None), its), metrics.on_batch)
    server = FakeServer(engine, ServerOptions(), metrics)
    await server.run(
        asyncio.Event(), lambda _: print("serving", flush=True), host="127.0.0.1", port=port
    )


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), "other" in sys.argv[2:]))
