"""What tests ask of a policy server."""

from __future__ import annotations

import http.client
from typing import Any

import numpy as np
import pytest

pytest.importorskip("msgpack")
pytest.importorskip("prometheus_client")

from websockets.sync.client import connect

from pi0_ros.policy.types import Observation
from pi0_ros.policy.units import JointUnits
from pi0_ros.serve.remote import PolicyEnded, RemotePolicy, RobotSide
from pi0_ros.serve.wire import pack, unpack
from support.policy_server import CAMERAS
from support.waiting import PATIENCE

KEY = "0123456789abcdef-key"
UNITS = JointUnits(np.array([0.5, 1.0, 1.0]), np.array([0.25, 0.0, 0.0]))


def observation(value: int = 100, stamp: int = 7, **changes: Any) -> Observation:
    images = {name: np.full((6, 8, 3), value, np.uint8) for name in CAMERAS}
    state = np.array([0.75, 2.0, 3.0])
    return Observation(
        **{"images": images, "state": state, "instruction": "go", "stamp": stamp, **changes}
    )


def robot(**changes: Any) -> RobotSide:
    return RobotSide(**{"units": UNITS, "dt": 0.02, **changes})


def question(**changes: Any) -> bytes:
    images = {name: np.full((6, 8, 3), 10, np.uint8) for name in CAMERAS}
    return pack({"images": images, "state": [1.0, 2.0, 3.0], "prompt": "go", **changes})


def ask(url: str, message: bytes) -> Any:
    """The answer to one question of a client of openpi, which numbers none."""
    with connect(url, compression=None, proxy=None) as client:
        client.recv(PATIENCE)
        client.send(message)
        answer = client.recv(PATIENCE)
        return answer if isinstance(answer, str) else unpack(answer)


def answer_of(remote: RemotePolicy) -> Any:
    try:
        return remote.infer(observation())
    except PolicyEnded:
        return None


def get(url: str, path: str, key: str = "") -> tuple[int, bytes]:
    client = http.client.HTTPConnection(url.removeprefix("ws://"), timeout=PATIENCE)
    client.request("GET", path, headers={"Authorization": f"Api-Key {key}"} if key else {})
    response = client.getresponse()
    return response.status, response.read()
