"""The suite in acts: each is one node, and the faults that it goes through."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from support.faults.faults import LONG_AGO, Fault
from support.faults.stage import Stage
from support.faults.trial import Result, try_fault


@contextmanager
def on_wall_time(stage: Stage) -> Iterator[None]:
    """A node whose policy runs in its own thread, with a deadman."""
    stage.start_node(deadman_timeout=1.5)
    stage.begin_moving()
    yield
    stage.end_node()


@contextmanager
def in_two_processes(stage: Stage) -> Iterator[None]:
    """A node whose policy runs in a process of its own, without a deadman."""
    stage.start_node(policy_process=True)
    stage.begin_moving()
    yield
    stage.end_node()


@contextmanager
def on_sim_time(stage: Stage) -> Iterator[None]:
    """A node on /clock, years ago."""
    stage.tell_robot(clock=LONG_AGO)
    stage.observer.sim = True
    stage.judge.forget()
    stage.start_node(use_sim_time=True)
    try:
        stage.begin_moving()
        yield
    finally:
        stage.end_node()
        stage.tell_robot(clock=None)
        stage.observer.sim = False
        stage.judge.forget()


def try_all(stage: Stage, faults: Iterable[Fault]) -> list[Result]:
    """One after the other, on the node that runs."""
    return [try_fault(stage, fault) for fault in faults]
