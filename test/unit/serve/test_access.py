"""Who is let in by a policy server, and what ends a connection."""

from __future__ import annotations

import re
import socket
from typing import Any

import numpy as np
import pytest

pytest.importorskip("msgpack")
pytest.importorskip("prometheus_client")

from support.policy_client import KEY, ask, get, observation, question, robot
from support.policy_server import HORIZON, policy_server
from support.waiting import PATIENCE, wait_until
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from pi0_ros.serve.links import ServerLink
from pi0_ros.serve.remote import PolicyEnded, RemotePolicy
from pi0_ros.serve.wire import pack


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (b"\xc1", "malformed request: not msgpack"),
        (b"", "malformed request"),
        (pack({"a": 1}), "neither state nor image"),
        (question(images={"front": np.zeros((4, 4, 3), np.uint8)}), "lacks the cameras"),
        (question(images={"front": b"GIF89a", "wrist": b""}), "expected a JPEG"),
        (question(images={"front": np.zeros((4, 4), np.uint8)}), "expected an image"),
        (question(state="x"), "state: expected an array of numbers"),
        (question(state=[1.0]), r"the state must be \[3\]"),
        (question(prompt=7), "prompt: expected text"),
        (question(pi0_ros={"id": "1"}), "number as id"),
    ],
)
def test_what_is_no_question_ends_the_connection_with_a_sentence(
    url: str, message: bytes, says: str
) -> None:
    with connect(url, compression=None, proxy=None) as client:
        client.recv(PATIENCE)
        client.send(message)
        text = client.recv(PATIENCE)
        assert isinstance(text, str) and re.search(says, text), text
        assert "Traceback" not in text and 'File "' not in text
        with pytest.raises(ConnectionClosed):
            client.recv(PATIENCE)
        assert client.close_code == 1011
    assert ask(url, question())["actions"].shape == (HORIZON, 3), "the next client is served"


def test_a_message_that_is_too_large_ends_the_connection() -> None:
    with policy_server(largest=10_000) as url, connect(url, proxy=None, compression=None) as client:
        client.recv(PATIENCE)
        client.send(b"x" * 20_000)
        with pytest.raises(ConnectionClosed):
            client.recv(PATIENCE)
        assert client.close_code == 1009


# Doors --------------------------------------------------------------------------------------------


def test_the_key_opens_and_nothing_else_does() -> None:
    with policy_server(key=KEY) as url:
        with pytest.raises(PolicyEnded, match="401; give its key as policy_key_file"):
            RemotePolicy(ServerLink(url), robot())
        for wrong in ("x", KEY + "x", KEY[:-1], "", "é"):
            with pytest.raises(PolicyEnded, match="401"):
                RemotePolicy(ServerLink(url, wrong), robot())
        remote = RemotePolicy(ServerLink(url, KEY), robot())
        assert remote.infer(observation()).sequence == 0
        remote.close()
        assert get(url, "/healthz") == (200, b"OK\n")
        assert get(url, "/metrics")[0] == 401
        status, text = get(url, "/metrics", KEY)
        assert status == 200 and b"pi0_inference_seconds_count 1.0" in text
        assert b'pi0_refused_total{reason="key"} ' in text


def test_a_page_in_a_browser_is_refused(url: str) -> None:
    with pytest.raises(InvalidStatus, match="403"):
        connect(url, origin="http://evil.example", proxy=None)


def test_more_clients_than_allowed_are_refused() -> None:
    with policy_server(most_clients=1) as url:
        remote = RemotePolicy(ServerLink(url), robot())
        with pytest.raises(PolicyEnded, match="503"):
            RemotePolicy(ServerLink(url), robot())
        remote.close()
        wait_until(lambda: _connects(url), "the place of the client that has gone")


def test_clients_admitted_at_once_are_not_more_than_allowed() -> None:
    """The key is checked before the greeting, so several may pass before the first counts."""
    with policy_server(most_clients=2) as url:
        host, port = url.removeprefix("ws://").split(":")
        ends = [socket.create_connection((host, int(port)), PATIENCE) for _ in range(6)]
        for end in ends:
            end.sendall(
                b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n"
            )
        for end in ends:  # all at once: none is a client when the last is admitted
            end.sendall(b"\r\n")
        answers = [_words(end) for end in ends]
        greeted = [answer for answer in answers if b"horizon" in answer]
        refused = [a for a in answers if b"503" in a[:20] or b"too many clients" in a]
        assert len(greeted) == 2 and len(refused) == 4, answers
        for end in ends:
            end.close()


def _words(end: Any) -> bytes:
    """What a server says at first: up to its greeting, or its refusal."""
    heard = b""
    while not (b"horizon" in heard or b"too many clients" in heard):
        part = end.recv(1 << 16)
        assert part, heard
        heard += part
    return heard


def _connects(url: str) -> bool:
    try:
        RemotePolicy(ServerLink(url), robot()).close()
    except PolicyEnded:
        return False
    return True
