"""Spinning an executor in a thread."""

from __future__ import annotations

import contextlib
import threading
from typing import Any


def spin(executor: Any) -> threading.Thread:
    """Start a thread that spins the executor until its shutdown.

    DDS loses a wake-up once in some ten thousand times, and `executor.spin` would sleep on; this
    thread looks ten times a second.
    """
    from rclpy.executors import ExternalShutdownException

    def run() -> None:
        with contextlib.suppress(ExternalShutdownException):
            while executor.context.ok() and not executor._is_shutdown:
                executor.spin_once(timeout_sec=0.1)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread
