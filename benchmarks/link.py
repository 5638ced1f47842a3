"""A link that delays, loses and fails, as TCP shows it: its arithmetic, and a relay with it.

Not the kernel's netem: nothing is dropped. What would be lost comes as late as TCP sends it again,
and all that follows it in order comes no earlier.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

SEGMENT = 1448
"""Bytes of data in a TCP segment on Ethernet."""

_RTO = 0.2
"""Seconds after which Linux sends again at the earliest; the next pause is twice as long."""

_TAIL = 3
"""Segments at the end of a message whose loss shows by the time-out alone: for the others three
acknowledgements that follow tell of it after one round trip."""


@dataclass(frozen=True)
class Link:
    """One direction of a link.

    Attributes:
        delay: seconds one way.
        loss: share of the segments that are lost.
        outage: seconds in which nothing passes.
        every: seconds from the beginning of one outage to that of the next; 0: there are none.
    """

    delay: float = 0.0
    loss: float = 0.0
    outage: float = 0.0
    every: float = 0.0

    def arrival(self, sent: float, size: int, random: random.Random) -> float:
        """When the last of so many bytes is there, seconds of the clock of `sent`."""
        late = 0.0
        for number in range(-(-size // SEGMENT), 0, -1):
            if random.random() < self.loss:
                late = max(late, 2 * self.delay + (_RTO if number <= _TAIL else 0.0))
        wait, at = _RTO, sent
        while self._is_down(at):
            at, wait = at + wait, 2 * wait
        return at + self.delay + late

    def round_trip(self, sent: float, question: int, answer: int, random: random.Random) -> float:
        """Seconds on the way of a question and its answer, of so many bytes each."""
        there = self.arrival(sent, question, random)
        return self.arrival(there, answer, random) - sent

    def _is_down(self, at: float) -> bool:
        return self.every > 0 and at % self.every >= self.every - self.outage


@contextmanager
def relay(port: int, link: Link) -> Iterator[str]:
    """A link to a port of this machine; yields the URL of its near end."""
    loop, ready, near = asyncio.new_event_loop(), threading.Event(), []
    chance = random.Random(0)

    async def serve() -> None:
        made = await asyncio.start_server(connect, "127.0.0.1", 0)
        near.append(made.sockets[0].getsockname()[1])
        ready.set()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(asyncio.CancelledError):  # the end of the measurement
            await asyncio.gather(pump(reader, there[1]), pump(there[0], writer))

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def deliver() -> None:
            while True:
                due, data = await waiting.get()
                await asyncio.sleep(max(0.0, due - loop.time()))
                if not data:
                    writer.close()
                    return
                with contextlib.suppress(ConnectionError):  # whoever left needs no more
                    writer.write(data)
                    await writer.drain()

        delivery, due = asyncio.create_task(deliver()), 0.0
        while True:
            try:
                data = await reader.read(1 << 16)
            except ConnectionError:
                data = b""
            due = max(due, link.arrival(loop.time(), len(data), chance))
            await waiting.put((due, data))
            if not data:
                break
        await delivery

    threading.Thread(target=loop.run_forever, daemon=True).start()
    asyncio.run_coroutine_threadsafe(serve(), loop)
    ready.wait()

    async def end() -> None:
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    try:
        yield f"ws://127.0.0.1:{near[0]}"
    finally:
        asyncio.run_coroutine_threadsafe(end(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
