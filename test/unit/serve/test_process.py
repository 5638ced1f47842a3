"""The policy in a process of its own, which speaks the same protocol over a Unix socket."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import ROOT
from support.process import process_lives
from support.waiting import PATIENCE, wait_until

pytest.importorskip("msgpack")
pytest.importorskip("prometheus_client")

from support.faults.testbed import JOINTS

from pi0_ros.node.loading import load_arguments, load_policy
from pi0_ros.node.parameters import NodeParameters, read_parameters
from pi0_ros.node.remote import in_process
from pi0_ros.policy.types import Observation
from pi0_ros.serve import links
from pi0_ros.serve.remote import PolicyEnded, RemoteError, RemotePolicy

FAKE = "support.faults.fake_policy:load"


def parameters(**changes: Any) -> NodeParameters:
    given = {"checkpoint": "/fake", "policy_url": "process", "joints": list(JOINTS), "threads": 1}
    return read_parameters({**given, **changes})


def observation(seed: int = 0, **changes: Any) -> Observation:
    rng = np.random.default_rng(seed)
    images = {name: rng.integers(0, 256, (48, 64, 3), np.uint8) for name in ("front", "wrist")}
    images["wrist"] = images["wrist"][..., ::-1]
    given = {"images": images, "state": np.full(6, 0.1), "instruction": "go", "stamp": 10**12}
    return Observation(**{**given, **changes})


@pytest.fixture
def does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file whose word the fake policy obeys."""
    monkeypatch.setenv("FAULT_CONTROL", str(tmp_path / "does"))
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'test'}:{os.environ['PYTHONPATH']}")
    return tmp_path / "does"


@pytest.fixture
def remote(does: Path) -> Iterator[RemotePolicy]:
    remote = start(parameters())
    yield remote
    remote.close()


def start(given: NodeParameters, load: str = FAKE) -> RemotePolicy:
    return in_process(given, load_arguments(given), load)


def test_the_chunks_are_those_of_the_policy_in_this_process(demo_checkpoint: Path) -> None:
    given = {f"joint.{JOINTS[0]}.scale": 0.5, f"joint.{JOINTS[0]}.offset": -0.25}
    asked = parameters(checkpoint=str(demo_checkpoint), policy_python=sys.executable, **given)
    here = load_policy(asked)
    remote = in_process(asked, load_arguments(asked))
    for seed in range(3):
        ours, theirs = here.infer(observation(seed)), remote.infer(observation(seed))
        np.testing.assert_allclose(theirs.positions, ours.positions, rtol=0, atol=2e-6)
        assert (theirs.sequence, theirs.seed, theirs.dt) == (ours.sequence, ours.seed, ours.dt)
        assert set(theirs.stage_times) == {*ours.stage_times, "link"}
    remote.close()


def test_it_ends_with_the_owner_and_leaves_nothing(remote: RemotePolicy) -> None:
    pid = remote._link.pid
    assert remote.infer(observation()).positions.shape == (50, 6)
    remote.infer(observation(images={"front": np.zeros((2000, 3000, 3), np.uint8)}))
    remote.close()
    wait_until(lambda: not process_lives(pid), "the end of the process")
    with pytest.raises(PolicyEnded, match="was closed; trying again"):
        remote.infer(observation())


def test_it_ends_when_its_owner_is_killed(does: Path, start_process: Any) -> None:
    code = (
        "import time; from test_process import *; r = start(parameters());"
        "print('the', 'child', r._link.pid, flush=True); time.sleep(600)"
    )
    owner = start_process([sys.executable, "-c", code], cwd=Path(__file__).parent)
    owner.wait_for("the child ")
    pid = int(owner.output.split("the child ")[1].split()[0])
    assert process_lives(pid)
    os.kill(owner.pid, signal.SIGKILL)
    wait_until(lambda: not process_lives(pid), "the end of the process")


@pytest.mark.parametrize("word", ["hang", "hang hard"])
def test_one_that_hangs_is_killed_and_started_again(
    remote: RemotePolicy, does: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    monkeypatch.setattr(links.ChildLink, "pace", links.Pace(0.0, 0.0))
    remote.infer(observation())
    does.write_text(word)
    raised: list[BaseException] = []

    def infer() -> None:
        with pytest.raises(PolicyEnded, match="was killed: it did not answer") as error:
            remote.infer(observation())
        raised.append(error.value)

    thread = threading.Thread(target=infer)
    thread.start()
    pid = remote._link.pid
    remote.kill()
    thread.join(PATIENCE)
    assert raised and not process_lives(pid)
    does.write_text("")
    assert wait_until(lambda: _answer(remote), "an answer").sequence <= 1


def _answer(remote: RemotePolicy) -> Any:
    try:
        return remote.infer(observation())
    except PolicyEnded:
        return None


def test_one_that_is_killed_says_so(remote: RemotePolicy, does: Path) -> None:
    does.write_text("killed")
    with pytest.raises(PolicyEnded, match=r"was ended by signal 9 \(Killed; out of memory"):
        remote.infer(observation())
    with pytest.raises(PolicyEnded, match=r"signal 9.*trying again in"):
        remote.infer(observation())


def test_an_error_keeps_its_text(remote: RemotePolicy, does: Path) -> None:
    does.write_text("raise")
    with pytest.raises(RemoteError, match="the policy was asked to raise"):
        remote.infer(observation())
    does.write_text("")
    assert remote.infer(observation()).sequence == 1


def test_loading_that_fails_says_why(does: Path, tmp_path: Path) -> None:
    given = parameters(checkpoint=str(tmp_path / "none"))
    with pytest.raises(RemoteError, match="none") as raised:
        in_process(given, load_arguments(given))
    assert isinstance(raised.value, ValueError)
    missing = parameters(policy_python=str(tmp_path / "python"))
    with pytest.raises(PolicyEnded, match="cannot be started"):
        start(missing)
    with pytest.raises(PolicyEnded, match="ended with status 1"):
        start(parameters(policy_python="/bin/false"))


def test_something_that_is_no_image_is_named(remote: RemotePolicy) -> None:
    with pytest.raises(ValueError, match=r"camera front: expected uint8 \[H, W, 3\]"):
        remote.infer(observation(images={"front": np.zeros((4, 4), np.uint8)}))
    assert remote.infer(observation()).sequence == 0
