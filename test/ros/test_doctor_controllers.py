"""pi0 doctor asks the controllers of a live graph, over DDS."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="ROS is not installed")

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from support.controller_node import UNSET, ControllerNode, ManagerNode
from support.doctor_cases import JOINTS, settings
from support.domains import free_domain
from support.spinning import spin
from support.waiting import PATIENCE, first_good

from pi0_ros.doctor.controller_query import ROUNDS, ask_controllers
from pi0_ros.doctor.controllers import judge_controllers
from pi0_ros.doctor.findings import FAIL, PASS, WARN, Finding
from pi0_ros.doctor.live import collect_live
from pi0_ros.ros.environment import environment

ALL = list(JOINTS)
TOPIC = "/arm_controller/joint_trajectory"
Start = Callable[..., None]


@pytest.fixture
def robot() -> Iterator[Start]:
    """robot(make, ...): nodes in this process, each made by make(context); spun unless told not."""
    domain = free_domain()
    context = rclpy.Context()
    variables = {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", "ROS_DOMAIN_ID": str(domain)}
    with environment(variables):
        assert os.environ["ROS_DOMAIN_ID"] == str(domain)
        rclpy.init(args=[], context=context, domain_id=domain)
        executor = SingleThreadedExecutor(context=context)
        thread = spin(executor)
        nodes: list[Node] = []

        def begin(*makes: Callable[[Any], Node], spun: bool = True) -> None:
            for make in makes:
                nodes.append(make(context))
                if spun:
                    executor.add_node(nodes[-1])

        yield begin
        executor.shutdown()
        thread.join(PATIENCE)
        for node in nodes:
            node.destroy_node()
        rclpy.shutdown(context=context)


def arm(joints: list[str], version: str = "jazzy", **changes: Any) -> Callable[[Any], Node]:
    return lambda context: ControllerNode("arm_controller", joints, version, context, **changes)


def examine(good: Callable[[str], bool], **given: Any) -> dict[str, str]:
    """Level -> what the doctor says of the controllers; again if the machine was too busy."""
    interface = settings(**({"joint_trajectory_topic": TOPIC} | given))

    def look() -> dict[str, str]:
        findings: list[Finding] = judge_controllers(interface, collect_live(interface, 1.0))
        return {
            level: "\n".join(f.text for f in findings if f.level == level)
            for level in (PASS, WARN, FAIL)
        }

    return first_good([look] * 10, lambda found: good("\n".join(found.values())))


@pytest.mark.parametrize("version", ["humble", "jazzy"])
def test_a_controller_that_fits(robot: Start, version: str) -> None:
    robot(arm(ALL, version))
    found = examine(lambda text: "p95" in text)
    assert found[FAIL] == ""
    assert f"{TOPIC}: /arm_controller subscribes" in found[PASS]
    assert "/arm_controller has the output's 6 joints" in found[PASS]
    key = "open_loop_control" if version == "humble" else "interpolate_from_desired_state"
    assert f"{key} is false" in found[WARN]
    assert "its period is 10.0 ms" in f"{found[PASS]}{found[WARN]}"


def test_a_controller_without_the_gripper_is_told(robot: Start) -> None:
    robot(arm(ALL[:-1]))
    found = examine(lambda text: "has no joint" in text)
    assert "/arm_controller has no joint grip: it refuses every message" in found[FAIL]


def test_arm_and_gripper_each_with_a_controller(robot: Start) -> None:
    def gripper(context: Any) -> Node:
        return ControllerNode("gripper_controller", ["grip"], "forward", context)

    def manager(context: Any) -> Node:
        return ManagerNode(context, arm_controller="active", gripper_controller="inactive")

    robot(arm(ALL[:-1], "master", update_rate=0), gripper, manager)
    given = {
        "joint_trajectory_topic": "~/joint_trajectory",
        "outputs__arm__topic": TOPIC,
        "outputs__arm__joints": ALL[:-1],
        "outputs__gripper__topic": "/gripper_controller/commands",
        "outputs__gripper__joints": ["grip"],
        "outputs__gripper__type": "std_msgs/Float64MultiArray",
    }
    found = examine(lambda text: "inactive" in text and "p95" in text, **given)
    assert "/gripper_controller is inactive: it executes nothing" in found[FAIL]
    assert "arm_controller is inactive" not in found[FAIL]
    assert "/arm_controller replaces trajectories" in "\n".join(found.values())
    # The arm's controller leaves its rate to the manager.
    assert "its period is 2.0 ms" in f"{found[PASS]}{found[WARN]}"


def test_a_controller_that_does_not_answer_costs_a_bounded_time(robot: Start) -> None:
    robot(arm(ALL), spun=False)
    found = examine(lambda text: "subscribes" in text)
    assert "/arm_controller: tells no parameters" in found[WARN]


def test_asking_is_bounded_and_leaves_nothing(robot: Start) -> None:
    robot(arm(ALL, state_interfaces=UNSET))
    robot(lambda context: ControllerNode("deaf", ALL, "jazzy", context), spun=False)
    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    node = rclpy.create_node("asker", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:

        def ask() -> Any:
            return ask_controllers(node, executor, ["/arm_controller", "/deaf", "/nobody"])

        # One that waited for the deaf one would not come back at all.
        known, deaf, nobody = first_good([ask] * 10, lambda found: bool(found[0].parameters))
        assert known.parameters["joints"] == ALL
        assert known.parameters["constraints.lift.trajectory"] == 0.0
        assert "state_interfaces" not in known.parameters, "it is not set, the others are told"
        assert not any(name.startswith("gains.") for name in known.parameters)
        assert 0 < len(known.round_trips) <= ROUNDS and min(known.round_trips) > 0
        assert (deaf.parameters, nobody.parameters) == (None, None)
        assert list(node.clients) == []
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown(context=context)
