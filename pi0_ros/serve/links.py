"""Ways to a policy elsewhere: a child process on a Unix socket, or a server's URL."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.uri import parse_uri

from pi0_ros.serve.connection import Connection
from pi0_ros.serve.load import LoadArguments, as_line
from pi0_ros.serve.shared_images import SharedImages

RESTART_PERIOD = 5.0
"""Seconds from one start of the policy's process to the next, at least."""

_END_LIMIT = 2.0  # seconds that the process gets to end by itself
_START = (
    "import sys; fds = map(int, sys.argv[1:3]); sys.path[:] = sys.argv[3:];"
    "from pi0_ros.serve.child import main; main(*fds)"
)


class NoLink(ConnectionError):
    """Nobody can be reached, or has gone; the text says who and why."""


@dataclass(frozen=True)
class Pace:
    """Seconds from one attempt to connect to the next: the first, and the longest."""

    first: float
    longest: float


class Link(Protocol):
    """A way to a policy; `open`, `share` and `close` belong to one thread. Its str is its name.

    Attributes:
        patience: seconds to the first words of the other side; None: as long as it takes.
    """

    pace: Pace
    patience: float | None

    def open(self) -> Connection:
        """Connect anew; raises NoLink."""

    def share(self, images: Mapping[str, np.ndarray]) -> dict[str, Any] | None:
        """Put images where the other side sees them, and say where; None: send them."""

    def kill(self) -> None:
        """End the other side, or the connection, at once; from any thread."""

    def close(self) -> None:
        """End the connection and what belongs to it."""

    def fate(self) -> str:
        """What became of the other side, in words."""


class ServerLink:
    """To a server's URL."""

    pace = Pace(0.1, 1.0)
    patience = 3.0

    def __init__(self, url: str, key: str = "", authority: Path | None = None) -> None:
        """
        Args:
            url: ws://host:port or wss://host:port.
            key: sent as `Authorization: Api-Key <key>`.
            authority: file of the certificates that wss trusts, instead of the system's.
        """
        self._url = url
        self._headers = {"Authorization": f"Api-Key {key}"} if key else {}
        self._tls = None
        if url.startswith("wss:"):
            self._tls = ssl.create_default_context(cafile=authority)
        self._connection: Connection | None = None
        self._killed = False

    def open(self) -> Connection:
        self._killed = False
        try:
            self._connection = Connection(self._dial(), self._url, self._headers, self.patience)
        except InvalidStatus as error:
            status = error.response.status_code
            hint = {401: "; give its key as policy_key_file", 503: "; it has all its clients"}
            raise NoLink(f"{self} answers {status}{hint.get(status, '')}") from error
        except (OSError, InvalidHandshake, ConnectionClosed) as error:
            raise NoLink(f"{self} cannot be reached: {error or type(error).__name__}") from error
        return self._connection

    def _dial(self) -> socket.socket:
        address = parse_uri(self._url)
        end = socket.create_connection((address.host, address.port), self.patience)
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        if self._tls is None:
            return end
        try:
            return self._tls.wrap_socket(end, server_hostname=address.host)
        except BaseException:
            end.close()
            raise

    def share(self, images: Mapping[str, np.ndarray]) -> None:
        return None

    def kill(self) -> None:
        self._killed, connection = True, self._connection
        if connection is not None:
            _shut(connection.socket)

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def fate(self) -> str:
        if self._killed:
            return f"{self} was left: it did not answer"
        return f"{self} {_closing(self._connection)}"

    def __str__(self) -> str:
        return f"the policy server {self._url}"


class ChildLink:
    """To a process that this one starts, and starts again.

    It is started with subprocess, which like multiprocessing's `spawn` runs a fresh interpreter,
    but does not import the program's main module a second time and pickles nothing.
    """

    pace = Pace(RESTART_PERIOD, RESTART_PERIOD)
    patience = None  # loading may take minutes; `kill` ends it

    def __init__(self, arguments: LoadArguments, load: str, python: str = "") -> None:
        """
        Args:
            load: see `as_line`.
            python: the interpreter, which has pi0_ros; "": this one, with its path.
        """
        self._told, self._python = as_line(load, arguments), python
        self._child: _Child | None = None

    @property
    def pid(self) -> int | None:
        """Of the process, if it lives."""
        child = self._child
        return child.popen.pid if child is not None and child.lives() else None

    def open(self) -> Connection:
        self.close()
        try:
            self._child = child = _Child(self._python, self._told)
        except OSError as error:
            raise NoLink(f"the policy's process cannot be started: {error}") from error
        try:
            child.connection = Connection(child.end, "ws://localhost/")
        except (OSError, InvalidHandshake, ConnectionClosed) as error:
            raise NoLink(self.fate()) from error
        return child.connection

    def share(self, images: Mapping[str, np.ndarray]) -> dict[str, Any]:
        return {"shared_images": self._child.images.write(images)}

    def kill(self) -> None:
        child = self._child
        if child is not None:
            child.kill()

    def close(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.close()

    def fate(self) -> str:
        child = self._child
        return f"{self} {'was closed' if child is None else child.fate()}"

    def __str__(self) -> str:
        return "the policy's process"


class _Child:
    """One run of the process."""

    def __init__(self, python: str, line: bytes) -> None:
        self._killed = False
        self.connection: Connection | None = None
        folder = Path(tempfile.mkdtemp(prefix="pi0_"))
        memory = os.memfd_create("pi0_images", os.MFD_CLOEXEC)
        self.images = SharedImages(memory)
        self.end = socket.socket(socket.AF_UNIX)
        try:
            with socket.socket(socket.AF_UNIX) as listener:
                # Connected before anybody else knows the path, which is gone then.
                listener.bind(str(folder / "policy"))
                listener.listen(1)
                self.end.connect(str(folder / "policy"))
                given = (listener.fileno(), memory)
                self.popen = subprocess.Popen(
                    _command(python, given),
                    stdin=subprocess.PIPE,
                    bufsize=0,  # its line is written at once, and nothing is left to flush
                    pass_fds=given,
                    # Ctrl-C in a terminal is for the owner, which ends this process.
                    start_new_session=True,
                )
        except BaseException:
            self.end.close()
            self.images.close()
            raise
        finally:
            shutil.rmtree(folder)
        with contextlib.suppress(BrokenPipeError):  # it has ended already; connecting says so
            self.popen.stdin.write(line)  # it stays open: the process ends with it

    def lives(self) -> bool:
        return not self._killed and self.popen.poll() is None

    def kill(self) -> None:
        self._killed = True
        self.popen.kill()
        # A process that hangs in a driver does not even die: nobody is to wait for it.
        _shut(self.end)

    def close(self) -> None:
        """End the process: by itself within a limit, or else killed; free what is ours."""
        _shut(self.end)
        self._reap()
        self.popen.stdin.close()
        if self.connection is not None:
            self.connection.close()
        self.end.close()
        self.images.close()

    def fate(self) -> str:
        if self._killed:
            return "was killed: it did not answer"
        self._reap()
        status = self.popen.poll()
        if status is None:
            return _closing(self.connection)
        if status >= 0:
            return f"ended with status {status}"
        hint = "; out of memory?" if status == -signal.SIGKILL else ""
        return f"was ended by signal {-status} ({signal.strsignal(-status)}{hint})"

    def _reap(self) -> None:
        try:
            self.popen.wait(_END_LIMIT)
        except subprocess.TimeoutExpired:
            self.popen.kill()


def _command(python: str, descriptors: tuple[int, ...]) -> list[str]:
    numbers = list(map(str, descriptors))
    if python:
        return [python, "-m", "pi0_ros.serve.child", *numbers]
    return [sys.executable, "-c", _START, *numbers, *(path or os.getcwd() for path in sys.path)]


def _shut(end: socket.socket) -> None:
    """End the conversation; whoever waits for a word of the other side is woken."""
    with contextlib.suppress(OSError):  # it has ended already
        end.shutdown(socket.SHUT_RDWR)


def _closing(connection: Connection | None) -> str:
    """How a connection ended, in words."""
    said = None if connection is None else connection.closing
    if said is None:
        return "closed the connection"
    return f"closed the connection ({said.code}{f', {said.reason}' if said.reason else ''})"
