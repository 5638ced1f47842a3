"""Servers and clients of openpi, and servers that answer nonsense."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("msgpack")
pytest.importorskip("prometheus_client")

from support.policy_client import answer_of, ask, observation, question, robot
from support.policy_server import HORIZON
from support.waiting import wait_until
from websockets.sync.server import serve

from pi0_ros.serve.images import decode
from pi0_ros.serve.links import Pace, ServerLink
from pi0_ros.serve.mapping import MAPPINGS
from pi0_ros.serve.remote import PolicyEnded, RemoteError, RemotePolicy, WrongPolicy
from pi0_ros.serve.wire import pack, unpack

# Clients that are no nodes ------------------------------------------------------------------------


def test_a_client_of_openpi_gets_openpis_answer(url: str) -> None:
    answer = ask(url, question())
    assert set(answer) == {"actions", "policy_timing", "server_timing"}
    assert answer["actions"].shape == (HORIZON, 3) and answer["actions"].dtype == np.float32
    assert answer["policy_timing"]["infer_ms"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        ("droid", {"observation/joint_position", "observation/gripper_position"}),
        ("libero", {"observation/state"}),
        ("aloha", {"state"}),
    ],
)
def test_keys_of_openpis_robots(kind: str, keys: set[str]) -> None:
    mapping = MAPPINGS[kind]
    cameras = tuple(mapping.images.values())
    rng = np.random.default_rng(0)
    images = {name: rng.integers(0, 255, (6, 8, 3), np.uint8) for name in cameras}
    request = unpack(pack(mapping.request(images, np.arange(8.0), "go")))
    assert keys <= set(request)
    assert mapping.fits(request, cameras)
    back, state, prompt = mapping.read(request, cameras)
    assert prompt == "go" and state.tolist() == list(range(8))
    for name in cameras:
        np.testing.assert_array_equal(decode(back[name], name), images[name])


# Servers that are not ours ------------------------------------------------------------------------


@pytest.fixture
def other_server() -> Iterator[Any]:
    """other_server(answer, metadata) -> URL of a server that gives these answers."""
    running = []

    def start(answer: Any, metadata: Any = None) -> str:
        def handle(client: Any) -> None:
            client.send(pack({} if metadata is None else metadata))
            for message in client:
                given = answer(unpack(message))
                client.send(given if isinstance(given, (bytes, str)) else pack(given))

        server = serve(handle, "127.0.0.1", 0, compression=None)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        running.append(server)
        return f"ws://localhost:{server.socket.getsockname()[1]}"

    yield start
    for server in running:
        server.shutdown()


ACTIONS = np.ones((HORIZON, 3), np.float32)
OURS = {"pi0_ros": {"version": 1, "horizon": HORIZON, "device": "cpu"}}


def test_a_server_of_openpi_gets_openpis_keys(other_server: Any) -> None:
    seen = []
    url = other_server(lambda message: seen.append(message) or {"actions": ACTIONS})
    with pytest.raises(WrongPolicy, match="no `pi0 serve`; for an openpi server give policy_mapp"):
        RemotePolicy(ServerLink(url), robot())
    side = robot(mapping=MAPPINGS["libero"], horizon=HORIZON, delta_mask=[True, False, False])
    remote = RemotePolicy(ServerLink(url), side)
    images = dict.fromkeys(MAPPINGS["libero"].images.values(), np.zeros((480, 640, 3), np.uint8))
    chunk = remote.infer(observation(images=images))
    assert set(seen[0]) == {
        "observation/image", "observation/wrist_image", "observation/state", "prompt",
    }  # fmt: skip
    assert seen[0]["observation/image"].shape == (168, 224, 3)
    np.testing.assert_allclose(chunk.positions[0], [0.5 * (1 + 1) + 0.25, 1.0, 1.0])
    assert [remote.infer(observation(images=images)).sequence for _ in range(2)] == [1, 2]
    remote.close()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda m: b"garbage", "malformed answer"),
        (lambda m: "Traceback ...\nValueError: no", "reports: Traceback"),
        (lambda m: {"actions": ACTIONS}, "another question"),
        (lambda m: {"actions": ACTIONS, "pi0_ros": {"id": m["pi0_ros"]["id"] - 1}}, "another"),
        (lambda m: {"actions": ACTIONS[:, :2], "pi0_ros": m["pi0_ros"]}, r"shape \[10, 2\]"),
        (lambda m: {"actions": "x", "pi0_ros": m["pi0_ros"]}, "array of numbers"),
        (lambda m: {"pi0_ros": m["pi0_ros"]}, "actions: expected"),
        (lambda m: {"pi0_ros": {**m["pi0_ros"], "error": 3}}, "an error without a text"),
    ],
)
def test_a_malformed_answer_ends_the_connection(other_server: Any, answer: Any, says: str) -> None:
    good = [True, False, True, True]

    def reply(message: Any) -> Any:
        own = message["pi0_ros"]
        return {"actions": ACTIONS, "pi0_ros": own} if good.pop(0) else answer(message)

    remote = RemotePolicy(ServerLink(other_server(reply, OURS)), robot())
    remote.infer(observation())
    with pytest.raises((PolicyEnded, RemoteError), match=says):
        remote.infer(observation())
    assert wait_until(lambda: answer_of(remote), "the next answer").sequence == 0
    assert remote.starts == 2
    remote.close()


@pytest.mark.parametrize(
    "metadata",
    [
        {"pi0_ros": 3},
        {"pi0_ros": {"version": 2, "horizon": 5, "device": "cpu"}},
        {"pi0_ros": {"version": 1, "horizon": -1, "device": "cpu"}},
        {"pi0_ros": {"version": 1, "horizon": 5, "device": "cpu", "card": {"joints": 1}}},
        {"pi0_ros": {"version": 1, "horizon": 5, "device": "cpu", "card": [1]}},
    ],
)
def test_a_malformed_greeting_is_refused(other_server: Any, metadata: Any) -> None:
    with pytest.raises(WrongPolicy, match="what the server says of itself is malformed"):
        RemotePolicy(ServerLink(other_server(lambda m: {}, metadata)), robot())


@pytest.mark.parametrize(("answers", "fresh"), [(1, 60.0), (1, 0.0), (0, 60.0)])
def test_a_question_that_crosses_a_goodbye_is_asked_once_more(
    answers: int, fresh: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a server that leaves between two questions; not an old one, and not of a server that never
    answers."""
    monkeypatch.setattr("pi0_ros.serve.remote.FRESH", fresh)
    asked = []

    def handle(client: Any) -> None:
        client.send(pack(OURS))
        for message in client:
            asked.append(message)
            if len(asked) == answers + 1 or not answers:
                client.close(1001, "the server stops")
                return
            client.send(pack({"actions": ACTIONS, "pi0_ros": unpack(message)["pi0_ros"]}))

    server = serve(handle, "127.0.0.1", 0, compression=None)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    link = ServerLink(f"ws://localhost:{server.socket.getsockname()[1]}")
    link.pace = Pace(0.0 if answers else 60.0, 60.0)  # it leaves sooner than 0.1 s after it came
    remote = RemotePolicy(link, robot())
    try:
        for _ in range(answers):
            remote.infer(observation())
        if answers and fresh:
            assert remote.infer(observation()).sequence == 0
            assert len(asked) == 3 and remote.starts == 2
        else:
            with pytest.raises(PolicyEnded, match="the server stops"):
                remote.infer(observation())
            assert len(asked) == answers + 1 and remote.starts == 1
    finally:
        remote.close()
        server.shutdown()
