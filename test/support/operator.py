"""What an operator asks of the node of `support.harness`: its services and states."""

from __future__ import annotations

import pytest

from support.waiting import wait_until

pytest.importorskip("rclpy")

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from std_srvs.srv import SetBool


def call(robot, kind, name, **fields):
    """Call a service of the node; its answer."""
    client = robot.robot.create_client(kind, f"/pi0/{name}")
    wait_until(client.service_is_ready, f"the service {name}")
    future = client.call_async(kind.Request(**fields))
    wait_until(future.done, f"an answer of {name}")
    robot.robot.destroy_client(client)
    return future.result()


def change(robot, transition: int) -> bool:
    return call(robot, ChangeState, "change_state", transition=Transition(id=transition)).success


def state(robot) -> str:
    return call(robot, GetState, "get_state").current_state.label


def enable(robot, on: bool = True):
    return call(robot, SetBool, "enable", data=on)


def dry_chunk(robot) -> None:
    """An observation and the chunk that follows."""
    before = len(robot.chunks)
    robot.send_all()
    robot.tick()
    robot.wait(lambda: len(robot.chunks) > before, "a chunk")
