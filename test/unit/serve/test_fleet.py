"""`pi0 serve --ray`: replicas on a local Ray; robots go on when one of them dies."""

from __future__ import annotations

import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.waiting import wait_until

pytest.importorskip("ray.serve", reason="Ray Serve is not installed: pip install 'ray[serve]'")
pytest.importorskip("msgpack")

from pi0_ros.policy.types import Observation
from pi0_ros.policy.units import JointUnits
from pi0_ros.serve.links import ServerLink
from pi0_ros.serve.remote import PolicyEnded, RemotePolicy, RobotSide

KEY = "0123456789abcdef"
CAMERAS = ("front", "wrist")


def robot(url: str, key: str = KEY) -> RemotePolicy:
    side = RobotSide(JointUnits.radians(6), 0.02, CAMERAS)
    return RemotePolicy(ServerLink(url, key), side)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_replicas_serve_and_one_that_dies_is_replaced(
    start_process: Any, demo_checkpoint: Path, tmp_path: Path
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    key = tmp_path / "key"
    key.write_text(KEY)
    key.chmod(0o600)
    command = [sys.executable, "-m", "pi0_ros.cli", "serve", "--checkpoint", demo_checkpoint]
    command += ["--device", "cpu", "--threads", "1", "--ray", "local", "--replicas", "2"]
    process = start_process([*command, "--port", port, "--api-key-file", str(key)])
    wait_until(lambda: "serving on" in process.output or not process.lives(), "Ray", 500)
    url = f"ws://127.0.0.1:{port}"
    with pytest.raises(PolicyEnded, match=r"cannot be reached|403"):
        robot(url, "wrong")
    seen = Observation(dict.fromkeys(CAMERAS, np.zeros((48, 64, 3), np.uint8)), np.zeros(6), "go")
    robots = [robot(url) for _ in range(4)]
    for one in robots:
        assert [one.infer(seen).sequence for _ in range(3)] == [0, 1, 2]
    answers = [0] * len(robots)
    stop = threading.Event()

    def drive(number: int) -> None:
        while not stop.is_set():
            try:
                robots[number].infer(seen)
                answers[number] += 1
            except PolicyEnded:
                time.sleep(0.1)

    threads = [threading.Thread(target=drive, args=(number,)) for number in range(len(robots))]
    for thread in threads:
        thread.start()
    before = list(answers)
    assert process.lives()
    _replica(process.pid).send_signal(signal.SIGKILL)
    wait_until(
        lambda: all(now >= then + 20 for now, then in zip(answers, before, strict=True)),
        "20 answers for each robot after a replica died",
    )
    stop.set()
    for thread in threads:
        thread.join()
    for one in robots:
        one.close()
    assert process.end(signal.SIGINT, 60) in (0, 130)


def _replica(pid: int) -> Any:
    """One of the replicas, which Ray starts below its own processes of the session of `pid`."""
    psutil = pytest.importorskip("psutil")
    found = [
        child
        for child in psutil.Process(pid).children(recursive=True)
        if "ServeReplica" in " ".join(child.cmdline())
    ]
    return found[0]
