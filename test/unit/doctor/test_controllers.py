"""The doctor's judgement of controllers, by what they tell of themselves."""

from __future__ import annotations

from typing import Any

import pytest
from support.controller_states import references, trajectories
from support.doctor_cases import JOINTS, settings

from pi0_ros.doctor.controllers import controller_nodes, judge_controllers, tracking_lag
from pi0_ros.doctor.findings import FAIL, PASS, WARN, Finding
from pi0_ros.doctor.reaction import Reference
from pi0_ros.doctor.samples import Collected, Controller, Endpoint

ALL = list(JOINTS)
TOPIC = "/arm_controller/joint_trajectory"
KINDS = {
    "trajectory": "trajectory_msgs/msg/JointTrajectory",
    "array": "std_msgs/msg/Float64MultiArray",
}
JAZZY = {
    "joints": ALL,
    "update_rate": 500,
    "command_interfaces": ["position"],
    "state_interfaces": ["position", "velocity"],
    "allow_partial_joints_goal": False,
    "interpolate_from_desired_state": True,
    "constraints.goal_time": 0.0,
}
FORWARD = {"joints": ["grip"], "interface_name": "position", "update_rate": 500}
SPLIT = {
    "outputs__arm__topic": TOPIC,
    "outputs__arm__joints": ALL[:-1],
    "outputs__gripper__topic": "/gripper/commands",
    "outputs__gripper__joints": ["grip"],
    "outputs__gripper__type": "std_msgs/Float64MultiArray",
}


def endpoint(node: str, kind: str = "trajectory") -> tuple[Endpoint, ...]:
    return (Endpoint(node, KINDS[kind], "volatile"),)


def judge(
    values: dict[str, Any] | None,
    given: dict[str, Any] | None = None,
    trips: tuple[float, ...] = (0.002, 0.003),
    **changes: Any,
) -> list[Finding]:
    """Of one controller with all joints; `given`: parameters of the node."""
    given = {"joint_trajectory_topic": TOPIC} if given is None else given
    controllers = {"/arm_controller": Controller("/arm_controller", values, trips)}
    heard = {"subscribers": {TOPIC: endpoint("/arm_controller")}, "controllers": controllers}
    return judge_controllers(settings(**given), Collected(live=True, **(heard | changes)))


def texts(findings: list[Finding], level: str) -> str:
    return "\n".join(f"{f.text} -> {f.advice}" for f in findings if f.level == level)


def test_a_controller_that_fits() -> None:
    found = judge(JAZZY)
    assert texts(found, FAIL) == texts(found, WARN) == ""
    good = texts(found, PASS)
    assert "/arm_controller has the output's 6 joints" in good
    assert "does not replace trajectories; the node's controller is jtc" in good
    assert "checks no path tolerances" in good
    assert "take 2.9 ms (p95), its period is 2.0 ms: messages are on their way for less" in good


def test_a_bag_says_nothing_of_controllers() -> None:
    assert judge_controllers(settings(), Collected(live=False)) == []


def test_nobody_subscribes() -> None:
    found = judge(JAZZY, subscribers={})
    assert f"{TOPIC}: no controller subscribes" in texts(found, WARN)


def test_the_gripper_is_another_controllers() -> None:
    """The controller refuses every message, and no one else would tell."""
    found = judge(JAZZY | {"joints": ALL[:-1]})
    assert "/arm_controller has no joint grip: it refuses every message" in texts(found, FAIL)
    assert "outputs" in texts(found, FAIL)


def test_a_joint_of_the_controller_is_left_out() -> None:
    more = [*ALL, "lift_column"]
    found = judge(JAZZY | {"joints": more})
    assert "/arm_controller wants lift_column too" in texts(found, FAIL)
    partial = judge(JAZZY | {"joints": more, "allow_partial_joints_goal": True})
    assert texts(partial, FAIL) == ""
    assert "/arm_controller holds lift_column" in texts(partial, WARN)


def test_the_order_counts_only_where_names_are_not_sent() -> None:
    backwards = ALL[::-1]
    assert texts(judge(JAZZY | {"joints": backwards}), FAIL) == ""
    given = {
        "outputs__all__topic": TOPIC,
        "outputs__all__joints": ALL,
        "outputs__all__type": "std_msgs/Float64MultiArray",
    }
    subscribers = {TOPIC: endpoint("/arm_controller", "array")}
    found = judge(FORWARD | {"joints": backwards}, given, subscribers=subscribers)
    assert "takes positions in the order ['grip', 'roll'" in texts(found, FAIL)
    assert "set outputs.all.joints to the controller's order" in texts(found, FAIL)
    assert texts(judge(FORWARD | {"joints": ALL}, given, subscribers=subscribers), FAIL) == ""


def test_each_output_is_held_against_its_own_controller() -> None:
    subscribers = {
        TOPIC: endpoint("/arm_controller"),
        "/gripper/commands": endpoint("/gripper", "array"),
    }
    controllers = {
        "/arm_controller": Controller("/arm_controller", JAZZY | {"joints": ALL[:-1]}),
        "/gripper": Controller("/gripper", FORWARD | {"interface_name": "effort"}),
    }
    changes = {"subscribers": subscribers, "controllers": controllers}
    found = judge(None, SPLIT, **changes)
    assert texts(found, FAIL).startswith("/gripper forwards to the interface effort")
    assert "/arm_controller has the output's 5 joints" in texts(found, PASS)
    collected = Collected(live=True, subscribers=subscribers)
    assert controller_nodes(settings(**SPLIT), collected) == ["/arm_controller", "/gripper"]


def test_a_topic_of_the_other_type() -> None:
    found = judge(JAZZY, subscribers={TOPIC: endpoint("/arm_controller", "array")})
    assert "takes std_msgs/msg/Float64MultiArray, the node sends" in texts(found, FAIL)


def test_the_node_has_to_know_whether_trajectories_are_replaced() -> None:
    master = JAZZY | {"allow_trajectory_replacement": True}
    found = judge(master)
    assert "a stamp in the past means `start now`" in texts(found, FAIL)
    assert "set the node's parameter controller to jtc_replacing" in texts(found, FAIL)
    assert texts(judge(JAZZY | {"allow_trajectory_replacement": False}), FAIL) == ""


@pytest.mark.parametrize("key", ["interpolate_from_desired_state", "open_loop_control"])
def test_a_late_trajectory_should_begin_at_the_command(key: str) -> None:
    values = {k: v for k, v in JAZZY.items() if k != "interpolate_from_desired_state"}
    found = judge(values | {key: False})
    assert f"{key} is false" in texts(found, WARN) and f"set {key} to true" in texts(found, WARN)
    assert texts(judge(values | {key: True}), WARN) == ""


def test_tolerances_are_held_against_the_arms_lag() -> None:
    values = JAZZY | {"constraints.lift.trajectory": 0.05, "constraints.pan.trajectory": 0.2}
    unknown = texts(judge(values), WARN)
    assert "constraints.lift.trajectory is 0.05 rad" in unknown and "not known yet" in unknown
    diagnostics = {"limits": {"tracking_lag_s": "0.10"}}
    known = texts(judge(values, diagnostics=diagnostics), WARN)
    assert "the arm lags 100 ms, so it stops beyond 0.50 rad/s" in known


def test_a_measured_lag_counts_before_the_nodes_estimate() -> None:
    joints = {"joints": ["pan", "lift"], "constraints.lift.trajectory": 0.05}
    given = {"joint_trajectory_topic": TOPIC, "joints": ["pan", "lift"]}
    slow = [
        Reference(time, ("pan", "lift"), (time / 1e9,) * 2, (time / 1e9 - 0.05,) * 2)
        for time in range(0, 10**9, 10**7)
    ]
    diagnostics = {"limits": {"tracking_lag_s": "0.10"}}
    found = judge(
        JAZZY | joints, given, references={"/arm_controller": slow}, diagnostics=diagnostics
    )
    assert "/arm_controller: the arm is 50 ms behind its command" in texts(found, PASS)
    assert "the arm lags 50 ms, so it stops beyond 1.00 rad/s" in texts(found, WARN)


def test_an_inactive_controller() -> None:
    found = judge(JAZZY, states={"arm_controller": "inactive"})
    assert "/arm_controller is inactive: it executes nothing" in texts(found, FAIL)
    assert "--activate arm_controller" in texts(found, FAIL)
    assert texts(judge(JAZZY, states={"arm_controller": "active"}), FAIL) == ""


def test_the_way_is_held_against_the_lead() -> None:
    slow = judge(JAZZY | {"update_rate": 50}, trips=(0.03, 0.03))
    assert "less than 50.0 ms (an estimate); splice_lead is 40.0 ms" in texts(slow, WARN)
    assert "splice_lead: 0.05" in texts(slow, WARN)


def test_what_was_measured_counts_more_than_an_estimate() -> None:
    sent = trajectories(5)
    fields = {"sent": {TOPIC: sent}, "references": {"/arm_controller": references(sent, 0)}}
    joints = {"joints": list(sent[0].joints)}
    given = {"joint_trajectory_topic": TOPIC, "joints": list(sent[0].joints)}
    found = judge(JAZZY | joints, given, **fields)
    assert "followed all 4 trajectories from their splice points on" in texts(found, PASS)
    fields["references"] = {"/arm_controller": references(sent, 80_000_000)}
    found = judge(JAZZY | joints, given, **fields)
    assert "did not follow 4 of 4 trajectories at their splice points" in texts(found, FAIL)
    assert "splice_lead: more than 0.07" in texts(found, FAIL)


def test_a_controller_that_does_not_answer() -> None:
    assert "/arm_controller: tells no parameters" in texts(judge(None, trips=()), WARN)
    assert "has no parameter `joints`; is it a controller?" in texts(judge({}, trips=()), WARN)


def test_what_the_running_node_says() -> None:
    diagnostics = {"limits": {"latched": "joint lift does not follow: 0.31 rad off"}}
    assert "does not follow" in texts(judge(JAZZY, diagnostics=diagnostics), FAIL)
    assert tracking_lag(Collected(live=True)) is None
    for shown, seconds in (("0.08", 0.08), ("", None)):
        told = Collected(live=True, diagnostics={"limits": {"tracking_lag_s": shown}})
        assert tracking_lag(told) == seconds


def test_two_publishers_of_trajectories() -> None:
    rivals = endpoint("/pi0") + endpoint("/teleop")
    found = judge(JAZZY, publishers={TOPIC: rivals})
    assert f"{TOPIC}: /teleop publishes commands too" in texts(found, FAIL)
