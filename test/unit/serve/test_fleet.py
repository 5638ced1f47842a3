"""`pi0 serve --ray`: replicas on a local Ray; robots go on when they are replaced, or die."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.waiting import PATIENCE, wait_until

pytest.importorskip("ray.serve", reason="Ray Serve is not installed: pip install 'ray[serve]'")
pytest.importorskip("msgpack")

from pi0_ros.policy.types import Observation
from pi0_ros.policy.units import JointUnits
from pi0_ros.serve.links import ServerLink
from pi0_ros.serve.remote import PolicyEnded, RemotePolicy, RobotSide

KEY = "0123456789abcdef"
CAMERAS = ("front", "wrist")
SEEN = Observation(dict.fromkeys(CAMERAS, np.zeros((48, 64, 3), np.uint8)), np.zeros(6), "go")


def robot(url: str, key: str = KEY) -> RemotePolicy:
    side = RobotSide(JointUnits.radians(6), 0.02, CAMERAS)
    return RemotePolicy(ServerLink(url, key), side)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_robots_go_on_when_replicas_are_replaced_and_when_one_dies(
    start_process: Any, demo_checkpoint: Path, tmp_path: Path
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    key = tmp_path / "key"
    key.write_text(KEY)
    key.chmod(0o600)
    command = [sys.executable, "-m", "pi0_ros.cli", "serve", "--checkpoint", demo_checkpoint]
    command += ["--device", "cpu", "--threads", "1", "--batch", "2", "--replicas", "2"]
    command += ["--port", port, "--api-key-file", str(key), "--ray"]
    process = start_process([*command, "local"])
    wait_until(lambda: "serving on" in process.output or not process.lives(), "Ray", 500)
    assert process.lives(), process.tail
    url = f"ws://127.0.0.1:{port}"
    with pytest.raises(PolicyEnded, match=r"cannot be reached|403"):
        robot(url, "wrong")
    assert [metrics(port, sent) for sent in ("", "wrong-key-of-nobody", KEY)] == [401, 401, 200]
    robots = [robot(url) for _ in range(4)]
    for one in robots:
        assert [one.infer(SEEN).sequence for _ in range(3)] == [0, 1, 2]
    answers, ended = [0] * len(robots), []
    stop = threading.Event()

    def drive(number: int) -> None:
        while not stop.is_set():
            try:
                robots[number].infer(SEEN)
                answers[number] += 1
            except PolicyEnded as error:
                ended.append(str(error))
                time.sleep(0.1)

    def go_on(what: str) -> None:
        before = list(answers)
        wait_until(
            lambda: all(now >= then + 20 for now, then in zip(answers, before, strict=True)),
            f"20 answers for each robot after {what}",
        )

    threads = [threading.Thread(target=drive, args=(number,)) for number in range(len(robots))]
    for thread in threads:
        thread.start()
    try:
        before = replicas(process.pid)
        other = start_process([*command, "auto", "--seed", "1"])
        assert other.wait(500) == 0, other.tail
        wait_until(lambda: not before & replicas(process.pid), "the end of the replicas before")
        go_on("both replicas were replaced")
        lost = [text for text in ended if "too old now" not in text]  # of a busy machine
        assert not lost, "no robot was left without an answer"
        os.kill(replicas(process.pid).pop(), signal.SIGKILL)
        go_on("a replica died")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    for one in robots:
        one.close()
    assert process.end(signal.SIGINT, 60) in (0, 130)


def metrics(port: str, key: str) -> int:
    """The status of /metrics for one who sends this key."""
    client = http.client.HTTPConnection("127.0.0.1", int(port), timeout=PATIENCE)
    client.request("GET", "/metrics", headers={"Authorization": f"Api-Key {key}"} if key else {})
    return client.getresponse().status


def replicas(owner: int) -> set[int]:
    """Processes of replicas below a process: Ray starts them in sessions of their own."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            if b"ServeReplica" in (folder / "cmdline").read_bytes():
                above = pid = int(folder.name)
                while above not in (0, owner):
                    above = int(
                        Path(f"/proc/{above}/stat").read_text().rpartition(")")[2].split()[1]
                    )
                if above:
                    found.add(pid)
    return found
