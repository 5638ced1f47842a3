"""A second node of the same full name is refused at activate; the name of a killed one is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support.domains import free_domain
from support.harness import FakePolicy, given
from support.spinning import spin
from support.waiting import PATIENCE, wait_until

pytest.importorskip("rclpy")

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter

from pi0_ros.node.node import Pi0Node
from pi0_ros.ros import namesakes

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


@pytest.fixture
def begin() -> Iterator[Callable[..., Any]]:
    """begin(*arguments) -> a configured node in a context of its own, and one to spin it."""
    domain = free_domain()
    running: list[tuple[Any, Any, Any, Any]] = []

    def call(*arguments: str, kind: Any = None) -> Any:
        context = rclpy.Context()
        rclpy.init(context=context, domain_id=domain)
        if kind is not None:
            node = kind(context)
        else:
            node = Pi0Node(
                lambda _: FakePolicy(),
                lambda *_: [],
                context=context,
                cli_args=list(arguments),
                parameter_overrides=[Parameter(n, value=v) for n, v in given().items()],
            )
            assert node.trigger_configure() == SUCCESS
        executor = SingleThreadedExecutor(context=context)
        running.append((node, executor, context, []))
        return node

    def spun(node: Any) -> None:
        _, executor, _, threads = next(entry for entry in running if entry[0] is node)
        executor.add_node(node)
        threads.append(spin(executor))

    def end(node: Any) -> None:
        entry = next(entry for entry in running if entry[0] is node)
        running.remove(entry)
        close(*entry)

    call.spun, call.end = spun, end
    yield call
    for entry in running:
        close(*entry)


def close(node: Any, executor: Any, context: Any, threads: list[Any]) -> None:
    """End a node."""
    if isinstance(node, Pi0Node):
        assert node.stop(PATIENCE)
    executor.shutdown()
    for thread in threads:
        thread.join(PATIENCE)
    if isinstance(node, Pi0Node) and node.loop is not None:
        node.loop.deactivate()
    node.destroy_node()
    rclpy.shutdown(context=context)


def listed(node: Any, count: int) -> bool:
    own = node.get_name(), node.get_namespace()
    return node.get_node_names_and_namespaces().count(own) == count


def test_a_second_node_of_the_name_is_refused(begin):
    first = begin()
    assert first.trigger_activate() == SUCCESS
    begin.spun(first)
    second = begin()
    wait_until(lambda: listed(second, 2), "the graph")
    assert second.trigger_activate() == FAILURE and second.state == "inactive"
    assert "another node of the name /pi0 runs" in second._summary
    assert "-r __node:=" in second._summary and "-r __ns:=" in second._summary
    assert first.state == "active" and not first.motion_enable.latched
    # The first one ends, and the second may begin.
    begin.end(first)
    assert second.trigger_activate() == SUCCESS


def test_another_name_or_namespace_is_no_namesake(begin):
    first = begin()
    assert first.trigger_activate() == SUCCESS
    begin.spun(first)
    for arguments in (("-r", "__node:=other"), ("-r", "__ns:=/left")):
        node = begin("--ros-args", *arguments)
        wait_until(lambda n=node: len(n.get_node_names()) >= 2, "the graph")
        assert node.trigger_activate() == SUCCESS


def test_a_name_for_which_nobody_answers_is_what_a_killed_process_left(begin):
    begin(kind=lambda context: rclpy.create_node("pi0", context=context))  # nobody spins it
    node = begin()
    wait_until(lambda: listed(node, 2), "the graph")
    assert node.trigger_activate() == SUCCESS


def test_of_two_that_are_activated_at_once_one_is_refused_at_least(begin, monkeypatch):
    """Neither is spun, so neither answers."""
    monkeypatch.setattr(namesakes, "PATIENCE", 8.0)  # the machine may be busy
    nodes = [begin(), begin()]
    for node in nodes:
        wait_until(lambda node=node: listed(node, 2), "the graph")
    with ThreadPoolExecutor() as pool:
        results = list(pool.map(lambda node: node.trigger_activate(), nodes))
    assert FAILURE in results
    assert [node.state == "active" for node in nodes] == [r == SUCCESS for r in results]
