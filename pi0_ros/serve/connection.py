"""The client's end of a WebSocket, for one who asks and then waits for the answer.

websockets' own client reads in a thread of its own: an answer would wait for two threads to get the
GIL, one after the other, in a node whose callbacks hold it. This one reads where it is asked to.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections import deque
from collections.abc import Mapping

from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.frames import Close, CloseCode, Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from pi0_ros.serve.wire import MAX_MESSAGE

_CHUNK = 1 << 18
_DATA = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)
_GOODBYE = 0.5  # seconds in which a farewell is sent


class Connection:
    """A WebSocket that is open; one thread uses it.

    Attributes:
        socket: its TLS or plain socket. Whoever shuts it down ends a call that waits.
    """

    def __init__(
        self,
        end: socket.socket,
        url: str,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> None:
        """Greet the server.

        Args:
            end: connected, and this object's own from now on.
            url: ws://host:port/path, for the server's eyes.
            timeout: seconds for the server's greeting; None: as long as it takes.

        Raises:
            InvalidHandshake, ConnectionClosed, OSError: it does not speak WebSocket, refuses, or
                has gone.
        """
        self.socket = end
        self._protocol = ClientProtocol(parse_uri(url), max_size=MAX_MESSAGE)
        self._frames: deque[Frame] = deque()
        try:
            request = self._protocol.connect()
            request.headers.update(headers or {})
            self._protocol.send_request(request)
            self._flush()
            until = None if timeout is None else time.monotonic() + timeout
            while self._protocol.state is State.CONNECTING:
                self._receive(_left(until))
        except BaseException:
            end.close()
            raise

    @property
    def closing(self) -> Close | None:
        """What the server said when it closed the connection, if it did."""
        return self._protocol.close_rcvd

    def is_open(self) -> bool:
        """Whether it can still be asked; reads what came meanwhile, and answers pings."""
        try:
            while self._protocol.state is State.OPEN:
                self._receive(0.0)
        except (BlockingIOError, ssl.SSLWantReadError):  # there is nothing to read
            return True
        except OSError:
            return False
        return False

    def send(self, message: bytes) -> None:
        """Send a binary message.

        Raises:
            ConnectionClosed, OSError: nobody takes it.
        """
        if self._protocol.state is not State.OPEN:
            raise self._closed()
        self._protocol.send_binary(message)
        self._flush()

    def recv(self, timeout: float | None = None) -> bytes | str:
        """The next message.

        Args:
            timeout: seconds; None: as long as it takes.

        Raises:
            TimeoutError: none came.
            ConnectionClosed, OSError: none will come.
        """
        until = None if timeout is None else time.monotonic() + timeout
        parts: list[bytes] = []
        text = False
        while True:
            while not self._frames:
                if self._protocol.state is not State.OPEN:
                    raise self._closed()
                self._receive(_left(until))
            frame = self._frames.popleft()
            text = text or frame.opcode is Opcode.TEXT
            parts.append(frame.data)
            if frame.fin:
                whole = parts[0] if len(parts) == 1 else b"".join(parts)
                return bytes(whole).decode(errors="replace") if text else whole

    def close(self) -> None:
        """Take leave, and do not wait for an answer."""
        with contextlib.suppress(OSError):
            if self._protocol.state is State.OPEN:
                self._protocol.send_close(CloseCode.NORMAL_CLOSURE)
                self.socket.settimeout(_GOODBYE)
                self._flush()
        self.socket.close()

    def _receive(self, timeout: float | None) -> None:
        """Read once; `timeout` as of a socket."""
        self.socket.settimeout(timeout)
        try:
            data = self.socket.recv(_CHUNK)
        finally:
            self.socket.settimeout(None)
        protocol = self._protocol
        if data:
            protocol.receive_data(data)
        else:
            protocol.receive_eof()
        with contextlib.suppress(OSError):  # a farewell that nobody hears
            self._flush()
        self._frames += [
            event
            for event in protocol.events_received()
            if isinstance(event, Frame) and event.opcode in _DATA
        ]
        if protocol.handshake_exc is not None:
            raise protocol.handshake_exc
        if not data and protocol.state is State.CONNECTING:
            raise InvalidHandshake("the connection ended before it was greeted")

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self.socket.sendall(data)
            else:
                self.socket.shutdown(socket.SHUT_WR)

    def _closed(self) -> ConnectionClosed:
        protocol = self._protocol
        return ConnectionClosed(
            protocol.close_rcvd, protocol.close_sent, protocol.close_rcvd_then_sent
        )


def _left(until: float | None) -> float | None:
    """Seconds until a time of time.monotonic(); None: without end. Raises TimeoutError."""
    if until is None:
        return None
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError("no answer in time")
    return left
