"""openpi's published client and server, as peers of this package's server and node."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from support import ROOT
from support.openpi.install import is_installed
from support.waiting import PATIENCE, wait_until

pytest.importorskip("msgpack")
pytest.importorskip("prometheus_client")

from support import policy_server
from support.policy_server import HORIZON

from pi0_ros.policy.types import Observation
from pi0_ros.policy.units import JointUnits
from pi0_ros.serve.links import ServerLink
from pi0_ros.serve.mapping import MAPPINGS
from pi0_ros.serve.remote import PolicyEnded, RemoteError, RemotePolicy, RobotSide

OPENPI = ROOT / "build" / "openpi"
KEY = "0123456789abcdef"

pytestmark = pytest.mark.skipif(
    not is_installed(OPENPI),
    reason="openpi's client and server are not installed: python -m support.openpi.install",
)


def command(script: str, *arguments: str) -> dict[str, Any]:
    """How a script is run with openpi's packages and no others."""
    file = ROOT / "test" / "support" / "openpi" / f"{script}.py"
    environment = {**os.environ, "PYTHONPATH": str(OPENPI)}
    return {"args": [sys.executable, "-S", str(file), *arguments], "env": environment}


@pytest.mark.parametrize("kind", ["droid", "libero", "aloha"])
def test_openpis_client_asks_our_server(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cameras = ("base_0_rgb", "left_wrist_0_rgb")
    monkeypatch.setattr(policy_server, "CAMERAS", cameras)
    its = policy_server.card(cameras=cameras, served=cameras)
    policy = policy_server.StubPolicy()
    with policy_server.policy_server(policy, its, key=KEY) as url:
        port = url.rpartition(":")[2]
        ran = subprocess.run(
            **command("client", "localhost", port, KEY, kind),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout.splitlines()[-1])
    assert told["numpy"].startswith("1.") and told["metadata"] == ["pi0_ros"]
    assert told["keys"] == ["actions", "policy_timing", "server_timing"]
    assert told["shape"] == [HORIZON, 3] and told["dtype"] == "float32"
    assert told["first"][:2] == [0.0, 1.0]
    assert "Error in inference server" in told["error"] and "Traceback" not in told["error"]
    assert len(policy.seen) == 3 and policy.seen[0].instruction == "go"
    for image in policy.seen[0].images.values():
        assert image.shape == (224, 224, 3) and image.dtype == np.uint8


def test_our_node_asks_openpis_server() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with subprocess.Popen(**command("server", str(port))) as server:
        try:
            side = RobotSide(
                JointUnits(np.array([0.5, 1, 1]), np.zeros(3)),
                0.02,
                mapping=MAPPINGS["libero"],
                horizon=10,
            )
            link = ServerLink(f"ws://127.0.0.1:{port}")

            def connected() -> RemotePolicy | None:
                try:
                    return RemotePolicy(link, side)
                except PolicyEnded:
                    return None

            remote = wait_until(connected, "openpi's server")
            images = dict.fromkeys(side.mapping.images.values(), np.zeros((48, 64, 3), np.uint8))
            seen = Observation(images, np.array([1.0, 2.0, 3.0]), "go", 9)
            for sequence in range(3):
                chunk = remote.infer(seen)
                assert chunk.sequence == sequence and chunk.stamp == 9
                np.testing.assert_allclose(chunk.positions[0], [1.0, 2.0, 3.0])
                np.testing.assert_allclose(chunk.positions[3], [2.5, 5.0, 6.0])
            with pytest.raises(RemoteError, match="asked to raise"):
                remote.infer(Observation(images, seen.state, "raise"))
            again = wait_until(lambda: _again(remote, seen), "a new connection")
            assert again.sequence == 0 and remote.starts == 2
            remote.close()
        finally:
            server.kill()


def _again(remote: RemotePolicy, seen: Observation) -> Any:
    try:
        return remote.infer(seen)
    except PolicyEnded:
        return None
