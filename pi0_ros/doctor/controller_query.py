"""Asks the controllers of a live graph for their parameters, within a bound of time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
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

_AGAIN = 0.3  # seconds without an answer after which it is asked again
_FIELDS = {1: "bool", 2: "integer", 3: "double", 4: "string", 5: "byte_array", 6: "bool_array"}
_FIELDS |= {7: "integer_array", 8: "double_array", 9: "string_array"}
_WANTED = {
    "joints",
    "command_interfaces",
    "state_interfaces",
    "interface_name",
    "update_rate",
    "allow_partial_joints_goal",
    "allow_trajectory_replacement",
    "interpolate_from_desired_state",
    "open_loop_control",
    "constraints.goal_time",
}
"""And constraints.<joint>.trajectory; there are dozens of others for each joint."""


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
        one.names = [name for name in answer.result.names if _wanted(name)]

    def values_of(one: _Asked) -> Any:
        return one.getter, GetParameters.Request(names=one.names)

    def on_values(one: _Asked, answer: Any) -> None:
        one.values = dict(zip(one.names, map(value_of, answer.values), strict=False))

    listed = _ask_all(executor, asked, list_of, on_list)
    told = _ask_all(executor, [one for one in listed if one.names], values_of, on_values)
    found = []
    for one in asked:
        trips: list[float] = []
        if one in told:
            trips = _go_through(executor, one, PATIENCE / len(asked))
        values = one.values if one in told else ({} if one in listed else None)
        found.append(Controller(one.node, values, tuple(trips)))
        node.destroy_client(one.lister)
        node.destroy_client(one.getter)
    return found


def _wanted(name: str) -> bool:
    return name in _WANTED or (name.startswith("constraints.") and name.endswith(".trajectory"))


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
    futures: dict[str, list[Any]] = {one.node: [] for one in asked}
    due = dict.fromkeys(futures, 0.0)
    answered: list[_Asked] = []
    end = time.monotonic() + PATIENCE
    while len(answered) < len(asked) and (now := time.monotonic()) < end:
        for one in asked:
            if one in answered:
                continue
            client, request = request_of(one)
            # What was asked while DDS discovers the two directions may be lost.
            if now >= due[one.node] and client.service_is_ready():
                futures[one.node].append(client.call_async(request))
                due[one.node] = now + _AGAIN
            results = [f.result() for f in futures[one.node] if f.done() and not f.exception()]
            if results:
                on_answer(one, results[0])
                answered.append(one)
        executor.spin_once(timeout_sec=0.01)
    return answered


def _go_through(executor: Executor, one: _Asked, patience: float) -> list[float]:
    """Ask one by one, `ROUNDS` times at least; returns the seconds from each request to its answer.

    A node answers nothing at all where one of several parameters is declared and not set.
    """
    end = time.monotonic() + patience
    trips: list[float] = []
    values = dict(one.values or {})
    for name in islice(cycle(one.names), max(ROUNDS, len(one.names))):
        began = time.perf_counter()
        future = one.getter.call_async(GetParameters.Request(names=[name]))
        while not future.done():
            left = end - time.monotonic()
            if left <= 0:
                one.values = values
                return trips
            executor.spin_once(timeout_sec=left)
        trips.append(time.perf_counter() - began)
        if future.exception() is None and future.result().values:
            values[name] = value_of(future.result().values[0])
    one.values = values
    return trips
