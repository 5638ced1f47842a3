"""Asks the controllers of a live graph for their parameters, within a bound of time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import ParameterValue
from rcl_interfaces.srv import GetParameters, ListParameters
from rclpy.client import Client
from rclpy.executors import Executor
from rclpy.node import Node

from pi0_ros.doctor.samples import Controller

PATIENCE = 1.0
"""Seconds for all nodes together to list their parameters, and as many to tell them."""

ROUNDS = 20
"""Requests whose way there and back is measured, one after the other."""

_FIELDS = {1: "bool", 2: "integer", 3: "double", 4: "string", 5: "byte_array", 6: "bool_array"}
_FIELDS |= {7: "integer_array", 8: "double_array", 9: "string_array"}
_OF_EVERY_NODE = ("qos_overrides.", "use_sim_time", "start_type_description_service")
_OF_GAINS = "gains."  # a dozen for each joint, of no interest here


@dataclass
class _Asked:
    node: str
    lister: Client
    getter: Client
    names: Sequence[str] = ()
    values: Mapping[str, Any] | None = None


def ask_controllers(node: Node, executor: Executor, names: Iterable[str]) -> list[Controller]:
    """Their parameters, and how long a request takes; what does not answer has None.

    It never takes longer than three times `PATIENCE`.

    Args:
        node: in the executor.
        names: full names of nodes.
    """
    asked = [
        _Asked(
            name,
            node.create_client(ListParameters, f"{name}/list_parameters"),
            node.create_client(GetParameters, f"{name}/get_parameters"),
        )
        for name in names
    ]

    def list_of(one: _Asked) -> Any:
        return one.lister, ListParameters.Request()

    def on_list(one: _Asked, answer: Any) -> None:
        one.names = [
            name
            for name in answer.result.names
            if not name.startswith((*_OF_EVERY_NODE, _OF_GAINS))
        ]

    def values_of(one: _Asked) -> Any:
        return one.getter, GetParameters.Request(names=one.names)

    def on_values(one: _Asked, answer: Any) -> None:
        one.values = dict(zip(one.names, map(value_of, answer.values), strict=False))

    listed = _ask_all(executor, asked, list_of, on_list)
    told = _ask_all(executor, [one for one in listed if one.names], values_of, on_values)
    found = []
    for one in asked:
        trips = _round_trips(executor, one, PATIENCE / len(asked)) if one in told else ()
        values = one.values if one in told else ({} if one in listed else None)
        found.append(Controller(one.node, values, tuple(trips)))
        node.destroy_client(one.lister)
        node.destroy_client(one.getter)
    return found


def value_of(value: ParameterValue) -> Any:
    """A parameter's value in plain Python; None where it is not set."""
    field = _FIELDS.get(value.type)
    if field is None:
        return None
    plain = getattr(value, f"{field}_value")
    return list(plain) if field.endswith("_array") else plain


def _ask_all(
    executor: Executor,
    asked: Sequence[_Asked],
    request_of: Callable[[_Asked], tuple[Client, Any]],
    on_answer: Callable[[_Asked, Any], None],
) -> list[_Asked]:
    """Ask each as soon as its service is there; returns those that answered in time."""
    futures: dict[str, Any] = {}
    answered: list[_Asked] = []
    end = time.monotonic() + PATIENCE
    while len(answered) < len(asked) and time.monotonic() < end:
        for one in asked:
            client, request = request_of(one)
            if one.node not in futures and client.service_is_ready():
                futures[one.node] = client.call_async(request)
            future = futures.get(one.node)
            if one not in answered and future is not None and future.done():
                if future.exception() is None:
                    on_answer(one, future.result())
                answered.append(one)
        executor.spin_once(timeout_sec=0.01)
    return [one for one in answered if futures[one.node].exception() is None]


def _round_trips(executor: Executor, one: _Asked, patience: float) -> Iterable[float]:
    """Seconds from a request to its answer."""
    end = time.monotonic() + patience
    request = GetParameters.Request(names=one.names[:1])
    for _ in range(ROUNDS):
        began = time.perf_counter()
        future = one.getter.call_async(request)
        while not future.done():
            left = end - time.monotonic()
            if left <= 0:
                return
            executor.spin_once(timeout_sec=left)
        yield time.perf_counter() - began
