"""Asks the controllers of a live graph for their parameters, within a bound of time."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle, islice
from typing import Any

from rcl_interfaces.srv import GetParameters, ListParameters
from rclpy.client import Client
from rclpy.executors import Executor
from rclpy.node import Node
from rclpy.parameter import parameter_value_to_python

from pi0_ros.doctor.samples import Controller

PATIENCE = 1.0
"""Seconds for all nodes together to list their parameters, and as many to tell them."""

ROUNDS = 20
"""Requests whose way there and back is measured, one after the other."""

_AGAIN = 0.3  # seconds without an answer after which it is asked again
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


def ask_controllers(node: Node, executor: Executor, names: Iterable[str]) -> list[Controller]:
    """Their parameters, and how long a request takes; what does not answer has None.

    It never takes longer than three times `PATIENCE`. `names` are full ones.
    """
    names = list(names)
    listers = {n: node.create_client(ListParameters, f"{n}/list_parameters") for n in names}
    getters = {n: node.create_client(GetParameters, f"{n}/get_parameters") for n in names}
    listed = _ask_all(executor, listers, {name: ListParameters.Request() for name in names})
    wanted = {n: list(filter(_wanted, answer.result.names)) for n, answer in listed.items()}
    requests = {n: GetParameters.Request(names=some) for n, some in wanted.items() if some}
    told = _ask_all(executor, getters, requests)
    found = []
    for name in names:
        values, trips = ({} if name in listed else None), []
        if name in told:
            values = dict(
                zip(wanted[name], map(parameter_value_to_python, told[name].values), strict=False)
            )
            patience = PATIENCE / len(names)
            trips = _go_through(executor, getters[name], wanted[name], values, patience)
        found.append(Controller(name, values, tuple(trips)))
    for client in (*listers.values(), *getters.values()):
        node.destroy_client(client)
    return found


def _wanted(name: str) -> bool:
    return name in _WANTED or (name.startswith("constraints.") and name.endswith(".trajectory"))


def _ask_all(
    executor: Executor, clients: Mapping[str, Client], requests: Mapping[str, Any]
) -> dict[str, Any]:
    """Send each request as soon as its service is there; returns what was answered in time."""
    futures: dict[str, list[Any]] = {name: [] for name in requests}
    due = dict.fromkeys(requests, 0.0)
    answers: dict[str, Any] = {}
    end = time.monotonic() + PATIENCE
    while len(answers) < len(requests) and (now := time.monotonic()) < end:
        for name, request in requests.items():
            if name in answers:
                continue
            # What was asked while DDS discovers the two directions may be lost.
            if now >= due[name] and clients[name].service_is_ready():
                futures[name].append(clients[name].call_async(request))
                due[name] = now + _AGAIN
            results = [f.result() for f in futures[name] if f.done() and not f.exception()]
            if results:
                answers[name] = results[0]
        executor.spin_once(timeout_sec=0.01)
    return answers


def _go_through(
    executor: Executor,
    client: Client,
    names: Sequence[str],
    values: dict[str, Any],
    patience: float,
) -> list[float]:
    """Ask one by one, `ROUNDS` times at least; returns the seconds from each request to its answer.

    A node answers nothing at all where one of several parameters is declared and not set: what is
    told one by one is added to `values`.
    """
    end = time.monotonic() + patience
    trips: list[float] = []
    for name in islice(cycle(names), max(ROUNDS, len(names))):
        began = time.perf_counter()
        future = client.call_async(GetParameters.Request(names=[name]))
        while not future.done():
            left = end - time.monotonic()
            if left <= 0:
                return trips
            executor.spin_once(timeout_sec=left)
        trips.append(time.perf_counter() - began)
        if future.exception() is None and future.result().values:
            values[name] = parameter_value_to_python(future.result().values[0])
    return trips
