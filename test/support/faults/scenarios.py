"""Scenarios: each is one node with its parameters, on which faults are tried."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from support.faults.faults import LONG_AGO, Fault
from support.faults.testbed import Testbed
from support.faults.trial import Result, try_fault


@contextmanager
def on_wall_time(testbed: Testbed) -> Iterator[None]:
    """A node whose policy runs in its own thread, with a deadman."""
    testbed.start_node(deadman_timeout=5.0)
    try:
        testbed.begin_moving()
        yield
    finally:
        testbed.end_node()


@contextmanager
def in_two_processes(testbed: Testbed) -> Iterator[None]:
    """A node whose policy runs in a process of its own, without a deadman."""
    testbed.start_node(policy_url="process")
    try:
        testbed.begin_moving()
        yield
    finally:
        testbed.end_node()


@contextmanager
def on_a_server(testbed: Testbed) -> Iterator[None]:
    """A node whose policy runs on a server."""
    testbed.start_node(policy_url=testbed.start_server(), checkpoint="")
    try:
        testbed.begin_moving()
        yield
    finally:
        testbed.end_node()
        testbed.server.kill()


@contextmanager
def on_sim_time(testbed: Testbed) -> Iterator[None]:
    """A node on /clock, years ago."""
    testbed.tell_robot(clock=LONG_AGO)
    testbed.observer.sim = True
    testbed.judge.forget()
    testbed.start_node(use_sim_time=True)
    try:
        testbed.begin_moving()
        yield
    finally:
        testbed.end_node()
        testbed.tell_robot(clock=None)
        testbed.observer.sim = False
        testbed.judge.forget()


def try_all(testbed: Testbed, faults: Iterable[Fault]) -> list[Result]:
    """One after the other, on the node that runs."""
    return [try_fault(testbed, fault) for fault in faults]
