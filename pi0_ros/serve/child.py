"""The policy's own process: loads a policy and serves it to the process that started it.

No ROS here: what a node subscribes to and publishes stays in the node's process. Standard input has
one line of JSON, what to load, and ends when the owner does.
"""

from __future__ import annotations

import asyncio
import fcntl
import importlib
import json
import logging
import os
import select
import signal
import socket
import sys

from pi0_ros.serve.engine import Engine, ServedPolicy
from pi0_ros.serve.load import arguments_from_json
from pi0_ros.serve.metrics import Metrics
from pi0_ros.serve.server import PolicyServer, ServerOptions
from pi0_ros.serve.shared_images import SharedImages

_LIFELINE = 0


def main(listener: int, memory: int) -> None:
    """Serve until the owner ends; the arguments are descriptors that it gave to this process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the owner ends this process
    logging.basicConfig(level=logging.WARNING, format="policy process: %(message)s")
    told = json.loads(_read_line())
    _end_with_owner()

    def load() -> tuple[ServedPolicy, None]:
        module, _, function = told["load"].partition(":")
        load_policy = getattr(importlib.import_module(module), function)
        return load_policy(arguments_from_json(told["arguments"])), None

    metrics = Metrics()
    options = ServerOptions(trusted=True, most_clients=1)
    server = PolicyServer(
        Engine(load, metrics.on_batch, own_thread=False), options, metrics, SharedImages(memory)
    )
    asyncio.run(server.run(asyncio.Event(), sock=socket.socket(fileno=listener)))


def _read_line() -> bytes:
    """Up to the end of the line, and not a byte more, which a buffered file would take."""
    line = b""
    while not line.endswith(b"\n"):
        part = os.read(_LIFELINE, 1 << 16)
        if not part:
            sys.exit(1)  # the owner has ended
        line += part
    return line


def _end_with_owner() -> None:
    """Have the kernel end this process when the writing end of the lifeline closes.

    That is when the owner's process ends, however it ends. SIGIO's default action ends a process
    even while native code holds the GIL, where a thread that watches could not.
    """
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(_LIFELINE, fcntl.F_SETOWN, os.getpid())
    flags = fcntl.fcntl(_LIFELINE, fcntl.F_GETFL)
    fcntl.fcntl(_LIFELINE, fcntl.F_SETFL, flags | os.O_ASYNC)
    if select.select([_LIFELINE], [], [], 0)[0]:  # it closed before anyone looked
        os._exit(1)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
