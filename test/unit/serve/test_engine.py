"""Questions that wait: batches, slow clients, clients that went away."""

from __future__ import annotations

import re
import threading
from typing import Any

import numpy as np
import pytest

pytest.importorskip("msgpack")
pytest.importorskip("prometheus_client")

from support.policy_client import answer_of, get, observation, question, robot
from support.policy_server import HORIZON, StubPolicy, policy_server
from support.waiting import PATIENCE, wait_until
from websockets.sync.client import connect

from pi0_ros.policy.types import Observation
from pi0_ros.serve import images
from pi0_ros.serve.engine import Engine, Episode
from pi0_ros.serve.images import decode
from pi0_ros.serve.links import ServerLink
from pi0_ros.serve.remote import RemoteError, RemotePolicy

# Several robots -----------------------------------------------------------------------------------


class BatchingPolicy(StubPolicy):
    """Notes the sizes of batches; the first inference waits until it may go on."""

    batch_sizes = (1, 2, 4)

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.before = self._first

    def _first(self, _: Observation) -> None:
        self.sizes.append(1)
        self.begun.set()
        assert self.go_on.wait(PATIENCE)

    def infer_batch(self, requests: list[Any]) -> list[Any]:
        before, self.before = self.before, lambda _: None
        try:
            chunks = [self.infer(r.observation, sequence=r.sequence) for r in requests]
        finally:
            self.before = before
        self.sizes.append(len(requests))
        return chunks


def test_what_waits_shares_the_next_inference_and_what_is_wrong_spoils_nothing() -> None:
    policy = BatchingPolicy()
    with policy_server(policy) as url:
        remotes = [RemotePolicy(ServerLink(url), robot()) for _ in range(6)]
        dead = RemotePolicy(ServerLink(url), robot())
        answers: dict[int, Any] = {}

        def infer(number: int) -> None:
            seen = observation(10 * number)
            if number == 3:
                seen = observation(images={"front": np.zeros((4, 4, 3), np.uint8)})
            try:
                answers[number] = remotes[number].infer(seen)
            except RemoteError as error:
                answers[number] = error

        threads = [threading.Thread(target=infer, args=(n,)) for n in range(6)]
        threads[0].start()
        assert policy.begun.wait(PATIENCE), "the first begins at once, and alone"
        gone = threading.Thread(target=answer_of, args=(dead,))
        gone.start()
        for thread in threads[1:]:
            thread.start()
        wait_until(lambda: get_waiting(url) == 7, "all questions at the server")
        dead.kill()
        gone.join(PATIENCE)
        policy.go_on.set()
        for thread in threads:
            thread.join(PATIENCE)
        assert isinstance(answers.pop(3), RemoteError)
        for number, chunk in answers.items():
            assert chunk.positions[0, 2] == 3 + 10 * number and chunk.sequence == 0
        assert max(policy.sizes) >= 2
        for remote in remotes:
            remote.close()


def get_waiting(url: str) -> int:
    text = get(url, "/metrics")[1].decode()
    return int(float(re.search(r"^pi0_questions (\S+)", text, re.M)[1]))


def test_a_costly_image_holds_nobody_up(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A JPEG is decoded beside the loop that serves all clients."""
    begun, go_on = threading.Event(), threading.Event()

    def slow(sent: Any, camera: str) -> Any:
        if isinstance(sent, bytes):
            begun.set()
            assert go_on.wait(PATIENCE)
        return decode(sent, camera)

    monkeypatch.setattr(images, "decode", slow)
    first, second = (RemotePolicy(ServerLink(url), robot(images=i)) for i in ("jpeg", "fitted"))
    waits = threading.Thread(target=first.infer, args=(observation(),))
    waits.start()
    assert begun.wait(PATIENCE)
    assert [second.infer(observation()).sequence for _ in range(3)] == [0, 1, 2]
    go_on.set()
    waits.join(PATIENCE)
    assert not waits.is_alive()
    first.close(), second.close()


def test_one_that_reads_no_answers_holds_nobody_up(url: str) -> None:
    with connect(url, compression=None, proxy=None, max_queue=1) as slow:
        slow.recv(PATIENCE)
        for _ in range(3):
            slow.send(question())
        remote = RemotePolicy(ServerLink(url), robot())
        assert [remote.infer(observation()).sequence for _ in range(5)] == list(range(5))
        remote.close()


def test_one_that_wants_no_answer_any_more_does_not_end_the_engine() -> None:
    """A server of another kind (Ray's) cancels what its client, which has gone, waits for."""
    policy = StubPolicy()
    begun, go_on = threading.Event(), threading.Event()
    policy.before = lambda _: (begun.set(), go_on.wait(PATIENCE))
    engine = Engine(lambda: (policy, None), lambda *_: None)
    first, waits, last = (
        engine.infer(Episode(), Observation(observation().images, np.zeros(3), "go"), None, yes)
        for yes in [lambda: True] * 3
    )
    assert begun.wait(PATIENCE)
    first.cancel()
    assert waits.cancel()
    go_on.set()
    assert last.result(PATIENCE).positions.shape == (HORIZON, 3)
    engine.close(PATIENCE)
