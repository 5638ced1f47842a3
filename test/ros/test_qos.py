"""qos_overrides of the node's topics, named as in other ROS packages."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.domains import free_domain
from support.harness import FakePolicy, given
from support.waiting import PATIENCE, wait_until

pytest.importorskip("rclpy")

import rclpy
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import HistoryPolicy, ReliabilityPolicy

from pi0_ros.node.node import Pi0Node
from pi0_ros.node.parameters import ParameterError

IMAGE = "qos_overrides./front/image_raw.subscription"
TRAJECTORY = "qos_overrides./pi0/joint_trajectory.publisher"


@pytest.fixture
def activate() -> Iterator[Callable[..., Pi0Node]]:
    """activate(**parameters) -> an active node in a domain of its own."""
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=free_domain())
    nodes: list[Pi0Node] = []

    def begin(*arguments: str, **parameters: Any) -> Pi0Node:
        overrides = [Parameter(name, value=value) for name, value in given(**parameters).items()]
        node = Pi0Node(
            lambda _: FakePolicy(),
            lambda *_: [],
            context=context,
            cli_args=list(arguments),
            parameter_overrides=overrides,
        )
        nodes.append(node)
        for transition in (node.trigger_configure, node.trigger_activate):
            assert transition() == TransitionCallbackReturn.SUCCESS
        return node

    yield begin
    for node in nodes:
        assert node.stop(PATIENCE)
        node.destroy_node()
    rclpy.shutdown(context=context)


def subscription_of(node: Pi0Node, topic: str) -> Any:
    (found,) = (s for s in node.subscriptions if s.topic_name == topic)
    return found.qos_profile


def stops_of(node: Pi0Node) -> tuple[set[Any], set[int]]:
    """Reliabilities and depths of the subscriptions of the emergency stop."""
    found = [s.qos_profile for s in node.subscriptions if s.topic_name == "/emergency_stop"]
    return {qos.reliability for qos in found}, {qos.depth for qos in found}


def test_defaults(activate):
    node = activate()
    image = subscription_of(node, "/front/image_raw")
    assert (image.reliability, image.depth) == (ReliabilityPolicy.BEST_EFFORT, 1)
    assert stops_of(node) == ({ReliabilityPolicy.BEST_EFFORT, ReliabilityPolicy.RELIABLE}, {100})
    assert node.get_parameter(f"{IMAGE}.reliability").value == "best_effort"
    assert node.get_parameter(f"{TRAJECTORY}.depth").value == 1


def test_overrides_take_effect(activate):
    node = activate(
        **{
            f"{IMAGE}.reliability": "reliable",
            f"{IMAGE}.depth": 7,
            f"{TRAJECTORY}.reliability": "best_effort",
            f"{TRAJECTORY}.history": "keep_all",
            "qos_overrides./emergency_stop.subscription.depth": 30,
        }
    )
    image = subscription_of(node, "/front/image_raw")
    assert (image.reliability, image.depth) == (ReliabilityPolicy.RELIABLE, 7)
    assert subscription_of(node, "/wrist/image_raw").depth == 1
    assert stops_of(node)[1] == {30}

    def seen() -> list[Any]:
        return [
            *node.get_subscriptions_info_by_topic("/front/image_raw"),
            *node.get_publishers_info_by_topic("/pi0/joint_trajectory"),
        ]

    wait_until(lambda: len(seen()) == 2, "the graph")
    subscription, publisher = (info.qos_profile for info in seen())
    assert subscription.reliability == ReliabilityPolicy.RELIABLE
    assert publisher.reliability == ReliabilityPolicy.BEST_EFFORT
    assert publisher.history in (HistoryPolicy.KEEP_ALL, HistoryPolicy.UNKNOWN)

    # A second activation uses them again.
    for transition in (node.trigger_deactivate, node.trigger_activate):
        assert transition() == TransitionCallbackReturn.SUCCESS
    assert subscription_of(node, "/front/image_raw").depth == 7


def test_an_override_names_the_remapped_topic(activate):
    node = activate(
        "--ros-args",
        "-r",
        "front/image_raw:=/cam/colour",
        **{"qos_overrides./cam/colour.subscription.depth": 4},
    )
    assert subscription_of(node, "/cam/colour").depth == 4


def test_unknown_overrides_are_told(activate, capfd):
    activate(
        **{"qos_overrides./frnt/image_raw.subscription.depth": 4},
        **{"qos_overrides./clock.subscription.depth": 4},
    )
    text = capfd.readouterr().err
    assert "qos_overrides./frnt/image_raw.subscription.depth: this node has none" in text
    assert f"did you mean {IMAGE}.depth?" in text
    assert "/clock" not in text


def test_no_override_makes_the_node_deaf_to_a_stop(activate, capfd):
    name = "qos_overrides./emergency_stop.subscription.reliability"
    node = activate(**{name: "reliable"})
    assert ReliabilityPolicy.BEST_EFFORT in stops_of(node)[0]
    text = capfd.readouterr().err
    assert f"{name}: not used: publishers of every reliability are heard" in text
    with pytest.raises(ParameterError, match=r"subscription.depth: must be .* in \[10, 1000\]"):
        activate(**{"qos_overrides./emergency_stop.subscription.depth": 1})


def test_invalid_overrides_end_the_start_with_a_list():
    program = "import sys; from pi0_ros.node.main import main; sys.exit(main())"
    overrides = {f"{IMAGE}.reliability": "relaible", f"{TRAJECTORY}.depth": "0"}
    arguments = ["-p", "checkpoint:=/none", "-p", "joints:=[pan]"]
    for name, value in overrides.items():
        arguments += ["-p", f"{name}:={value}"]
    run = subprocess.run(
        [sys.executable, "-c", program, "--ros-args", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert run.returncode == 1, run.stderr
    assert "2 problem(s)" in run.stderr and "Traceback" not in run.stderr
    assert f"{IMAGE}.reliability: must be one of ['reliable', 'best_effort'], got" in run.stderr
    assert f"{TRAJECTORY}.depth: must be a whole number in [1, 1000], got 0" in run.stderr
