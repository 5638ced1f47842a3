"""A link's arithmetic, and the relay that keeps to it."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from benchmarks.link import Link, relay


@contextmanager
def echo() -> Iterator[int]:
    """The port of a server that sends back what it gets."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            end, _ = listener.accept()
            with end:
                while data := end.recv(1 << 16):
                    end.sendall(data)

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]


def test_what_is_lost_and_what_an_outage_swallows_is_sent_again() -> None:
    chance = random.Random(0)
    assert Link(0.02).round_trip(5.0, 100_000, 100, chance) == pytest.approx(0.04)
    assert Link(0.02, loss=1.0).arrival(0.0, 100, chance) == pytest.approx(0.26)
    fails = Link(outage=0.5, every=2.0)  # from 1.5 to 2.0 s
    for sent, arrives in ((1.4, 1.4), (1.5, 2.1), (1.9, 2.1), (2.0, 2.0)):
        assert fails.arrival(sent, 100, chance) == pytest.approx(arrives)
    lossy = Link(0.02, loss=0.01)
    late = [lossy.arrival(0.0, 228_000, chance) > 0.03 for _ in range(2000)]
    assert sum(late) / len(late) == pytest.approx(1 - 0.99**158, abs=0.03)


def test_the_relay_delays_and_loses_no_byte() -> None:
    sent = random.Random(0).randbytes(300_000)
    with echo() as port, relay(port, Link(0.03, loss=0.01)) as url:
        begun = time.monotonic()
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as end:
            end.sendall(sent)
            heard = b""
            while len(heard) < len(sent):
                heard += end.recv(1 << 16)
    assert heard == sent and time.monotonic() - begun > 0.06
