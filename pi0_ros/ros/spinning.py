"""The rclpy node with which a command looks at another one, and waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node

T = TypeVar("T")
POLL = 0.02
"""Seconds between two polls."""


@contextmanager
def ros_node(name: str) -> Iterator[Node]:
    """A node in a context of its own, with an executor that spins it in a thread."""
    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    node = Node(name, context=context, enable_rosout=False, start_parameter_services=False)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    thread = threading.Thread(target=_spin, args=(executor,), name="recorder", daemon=True)
    thread.start()
    try:
        yield node
    finally:
        executor.shutdown(timeout_sec=2.0)
        rclpy.shutdown(context=context)
        thread.join(2.0)
        node.destroy_node()


def _spin(executor: SingleThreadedExecutor) -> None:
    try:
        executor.spin()
    except ExternalShutdownException:  # the end of `ros_node`
        pass
    except RuntimeError:  # rclpy's RCLError: the end came while it prepared to wait
        if executor.context.ok():
            raise


def wait_until(
    poll: Callable[[], T], seconds: float, meanwhile: Callable[[], object] = lambda: None
) -> T | None:
    """The first answer of `poll` that counts as true; None when the time is over.

    Args:
        meanwhile: called between two polls; what it raises ends the waiting.
    """
    end = time.monotonic() + seconds
    while not (answer := poll()):
        meanwhile()
        if time.monotonic() > end:
            return None
        time.sleep(POLL)
    return answer
