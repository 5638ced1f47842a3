"""The client's end of a WebSocket, against websockets' own server."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("msgpack")

from support.waiting import PATIENCE, wait_until
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.server import serve

from pi0_ros.serve import connection
from pi0_ros.serve.connection import Connection


@pytest.fixture
def talk() -> Iterator[Callable[[Any], Connection]]:
    """talk(handle) -> a client of a server that does this with it."""
    running: list[Any] = []

    def start(handle: Any) -> Connection:
        server = serve(handle, "127.0.0.1", 0, compression=None)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        end = socket.create_connection(server.socket.getsockname())
        client = Connection(end, "ws://localhost/", timeout=PATIENCE)
        running.extend((client.close, server.shutdown))
        return client

    yield start
    for end in running:
        end()


def test_messages_come_whole_in_their_order_and_pings_are_answered(talk: Any) -> None:
    pong = []

    def handle(server: Any) -> None:
        pong.append(server.ping())
        server.send([b"in ", b"three ", b"parts"])
        server.send("text")
        server.send(server.recv()[::-1])
        server.recv()

    client = talk(handle)
    wait_until(lambda: client.is_open() and pong and pong[0].is_set(), "the pong")
    assert [client.recv(PATIENCE), client.recv(PATIENCE)] == [b"in three parts", "text"]
    client.send(b"abc" * 100_000)
    assert client.recv(PATIENCE) == b"cba" * 100_000
    with pytest.raises(TimeoutError):
        client.recv(0.01)


def test_a_farewell_is_read_and_told(talk: Any) -> None:
    client = talk(lambda server: (server.send(b"last"), server.close(1001, "the server stops")))
    wait_until(lambda: not client.is_open(), "the farewell")
    assert client.recv(PATIENCE) == b"last"
    assert (client.closing.code, client.closing.reason) == (1001, "the server stops")
    for ask in (lambda: client.send(b"x"), lambda: client.recv(PATIENCE)):
        with pytest.raises(ConnectionClosed, match="1001"):
            ask()


def test_an_answer_that_is_too_large_ends_it(talk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MAX_MESSAGE", 1000)
    client = talk(lambda server: (server.send([b"x" * 600] * 3), server.recv()))
    with pytest.raises(ConnectionClosed):
        client.recv(PATIENCE)


@pytest.mark.parametrize(
    "says", [b"", b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]
)
def test_one_that_is_no_websocket_is_refused(says: bytes) -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(says)
    theirs.shutdown(socket.SHUT_WR)
    with theirs, pytest.raises(InvalidHandshake):
        Connection(ours, "ws://localhost/", timeout=PATIENCE)
    assert ours.fileno() == -1
